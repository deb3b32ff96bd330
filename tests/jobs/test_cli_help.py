"""`--help` of every command: it has an example and imports nothing slow."""

import subprocess
import sys

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


def test_help_imports_nothing_slow():
    """Help does not wait for Ray, vLLM, torch or lm-eval."""
    script = (
        "import sys; sys.argv = ['lldeg', 'submit', '--help']\n"
        "from jobs.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('slow:', *sorted({'ray', 'vllm', 'torch', 'lm_eval'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "slow:"
