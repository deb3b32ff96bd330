"""The command line of a submit as a Ray job: no option of the command is dropped on the way."""

import shlex
from contextlib import suppress

import pytest

from jobs.cli import UsageMistake, load_command
from jobs.submit.remote_job import PROGRAM, entrypoint, in_the_job
from jobs.submit.request import SubmitRequest

SUBMIT = load_command("submit")
RUN = "s3://bucket/a run; rm -rf x"


def parsed(words):
    """What a command line asks `lldeg submit` for."""
    return SubmitRequest(**SUBMIT.make_context("submit", list(words)).params)


def in_job(*arguments):
    """What the job is asked for when the user gives these arguments."""
    words = shlex.split(entrypoint(in_the_job(parsed(["mine.yaml", *arguments]), RUN)))
    assert tuple(words[: len(PROGRAM)]) == PROGRAM
    return parsed(words[len(PROGRAM) :])


def sample(option):
    """Words that set an option to something that is not its default, whatever its type."""
    if option.is_flag:
        return [option.opts[0]]
    for value in ("it's; $HOME", "0.25", "3"):
        with suppress(UsageMistake):
            SUBMIT.make_context("submit", ["mine.yaml", option.opts[0], value])
            return [option.opts[0], value]
    raise AssertionError(f"say here which values {option.opts[0]} takes")


OPTIONS = [one for one in SUBMIT.params if one.param_type_name == "option" and one.name != "help"]


IN_THE_CONFIGURATION = {"set_": None, "policy": None, "until_degraded": False, "until_decided": False}
REPLACED = {"address": "auto", "run_dir": RUN, "detach": False, **IN_THE_CONFIGURATION}
NEEDED = {"--detach": ["--address", "http://head:8265"]}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.opts[0])
def test_every_option_reaches_the_job_or_is_replaced(option):
    """Whatever options the command has, now or later."""
    words = [*sample(option), *NEEDED.get(option.opts[0], [])]
    given = getattr(parsed(["mine.yaml", *words]), option.name)
    assert given != getattr(parsed(["mine.yaml"]), option.name)
    assert (getattr(in_job(*words), option.name) or None) == (REPLACED.get(option.name, given) or None)


def test_the_job_has_its_own_configuration_address_and_run_directory():
    """`--set` and rules are written into the configuration that is shipped; the run's name is quoted."""
    words = ["--set", "sampling.seeds=3", "--until-decided", "--policy", "p.yaml"]
    request = in_job(*words, "--detach", "--address", "http://head:8265")
    assert str(request.config) == "sweep.yaml"
    assert (request.address, request.run_dir, request.detach) == ("auto", RUN, False)
    assert not any(getattr(request, name) for name in IN_THE_CONFIGURATION)


def test_without_options_the_line_is_short():
    """What is the default anyway is not said."""
    line = entrypoint(in_the_job(parsed(["mine.yaml"]), "/shared/run"))
    assert line == "python -m jobs submit sweep.yaml --run-dir /shared/run --address auto"


def test_an_option_that_may_be_repeated_is_repeated():
    """Were `--set` not replaced, all its values would go along."""
    line = entrypoint(parsed(["mine.yaml", "--set", "a=1", "--set", "b=2"]))
    assert line.endswith("mine.yaml --set a=1 --set b=2")
