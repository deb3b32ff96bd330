"""The command line of a submit as a Ray job: no option of the command is dropped on the way."""

import shlex
from contextlib import suppress

import pytest

from jobs.cli import UsageMistake, load_command
from jobs.commands.submit.entrypoint import PROGRAM, entrypoint
from jobs.commands.submit.remote_job import in_the_job

SUBMIT = load_command("submit")
RUN = "s3://bucket/a run; rm -rf x"


def parsed(words):
    """Values of all parameters that a command line gives to `lldeg submit`."""
    return SUBMIT.make_context("submit", list(words)).params


def in_job(*arguments):
    """Values that the job gets when the user gives these arguments."""
    words = shlex.split(entrypoint(SUBMIT, parsed(["mine.yaml", *arguments]), in_the_job(RUN)))
    assert tuple(words[: len(PROGRAM)]) == PROGRAM
    return parsed(words[len(PROGRAM) :])


def sample(option):
    """Words that set an option to something that is not its default, whatever its type."""
    if option.is_flag:
        return [option.opts[0]]
    for value in ("it's; $HOME", "0.25", "3"):
        with suppress(UsageMistake):
            parsed(["mine.yaml", option.opts[0], value])
            return [option.opts[0], value]
    raise AssertionError(f"say here which values {option.opts[0]} takes")


OPTIONS = [one for one in SUBMIT.params if one.param_type_name == "option" and one.name != "help"]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.opts[0])
def test_every_option_reaches_the_job_or_is_replaced(option):
    """Whatever options the command has, now or later."""
    given = parsed(["mine.yaml", *sample(option)])
    assert given[option.name] != parsed(["mine.yaml"])[option.name]
    expected = in_the_job(RUN).get(option.name, given[option.name])
    assert in_job(*sample(option))[option.name] == (expected or parsed(["mine.yaml"])[option.name])


def test_the_job_has_its_own_configuration_address_and_run_directory():
    """`--set` is written into the configuration that is shipped; the name of the run is quoted."""
    values = in_job("--set", "sampling.seeds=3", "--detach", "--address", "http://head:8265")
    assert str(values["config"]) == "sweep.yaml"
    assert (values["address"], values["run_dir"], values["detach"]) == ("auto", RUN, False)
    assert not values["set_"]


def test_without_options_the_line_is_short():
    """What is the default anyway is not said."""
    line = entrypoint(SUBMIT, parsed(["mine.yaml"]), in_the_job("/shared/run"))
    assert line == "python -m jobs submit sweep.yaml --run-dir /shared/run --address auto"


def test_an_option_that_may_be_repeated_is_repeated():
    """Were `--set` not replaced, all its values would go along."""
    given = parsed(["mine.yaml", "--set", "a=1", "--set", "b=2"])
    line = entrypoint(SUBMIT, given, {"address": None})
    assert "--set a=1 --set b=2" in line
