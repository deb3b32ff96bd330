"""`--help` of every command: it has an example and imports nothing slow."""

import subprocess
import sys
from importlib.metadata import version

import pytest
import typer

from jobs.cli import app

COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example(lldeg, name):
    """Whoever asks for help can copy a line that starts with the command."""
    result = lldeg(name, "--help")
    assert result.status == 0
    assert f"lldeg {name} " in result.out.partition("xample")[2]


def test_the_main_help_lists_the_commands_and_has_an_example(lldeg):
    """`lldeg --help` shows what there is and how a session goes."""
    result = lldeg("--help")
    assert result.status == 0
    assert all(name in result.out for name in COMMANDS)
    assert "lldeg submit configs/quickstart.yaml" in " ".join(result.out.split())


WATCHING = (["--help"], ["--version"], ["status", "."], ["logs", "."], ["stop", "."])
PLANNING = (["submit", "--help"], ["analyze", "--help"])


@pytest.mark.parametrize(
    "arguments",
    [*WATCHING, *(pytest.param(words, marks=pytest.mark.slow) for words in PLANNING)],
    ids=" ".join,
)
def test_nothing_slow_is_imported_without_need(arguments, tmp_path):
    """Help and the commands that watch a sweep wait for no library that only a sweep or a plot needs."""
    script = (
        f"import sys; sys.argv = ['lldeg', *{arguments!r}]\n"
        "from jobs.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('imported:', *sorted(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    slow = {"ray", "vllm", "torch", "lm_eval", "transformers", "matplotlib"}
    slow |= {"pandas"} if arguments in WATCHING else set()
    assert not slow & set(ended.stdout.splitlines()[-1].split())


def test_the_version_is_that_of_the_installed_package(lldeg):
    """`lldeg --version` names the program and its version."""
    assert lldeg("--version").out == f"lldeg {version('lldeg')}\n"
