"""Signals and closed pipes end a command with a sentence and a status that is no verdict."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import exit_status
from orchestrator.cluster.ray_cluster import _own_signal_handlers

ROOT = Path(__file__).resolve().parents[2]
STATUS = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}
PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
_, number, module, *sys.argv[1:] = sys.argv

class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.Signals[number])

sys.meta_path.insert(0, Signal())
from jobs.__main__ import main
main()
"""
"""The command, which sends itself a signal when it imports a module."""


def _hear_hangups():
    """Whoever started the tests, nohup for example, may have had them ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def run(*words, program=PROGRAM, **options):
    """Run a program to its end."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": _hear_hangups, **options}
    path = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", program, *words], check=False, env=os.environ | path, text=True, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("module", ["typer", "pyarrow"])
@pytest.mark.parametrize("name", STATUS)
def test_an_early_signal_ends_with_a_sentence(tmp_path, name, module):
    """While the command itself, or a large library is imported; nothing is written."""
    (tmp_path / "sweep.yaml").write_text("name: x\n")
    ran = run(name, module, "submit", "sweep.yaml", cwd=tmp_path)
    what = "Ctrl-C" if name == "SIGINT" else name
    assert (ran.returncode, ran.stdout, ran.stderr) == (
        STATUS[name],
        "",
        f"Stopped by {what} before it finished.\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


@pytest.mark.slow
def test_a_signal_has_its_status_even_if_nobody_reads(tmp_path):
    """As after the end of a session, whose pipes are gone with it."""
    reader, writer = os.pipe()
    os.close(reader)
    ran = run("SIGHUP", "typer", "configs", cwd=tmp_path, stdout=writer, stderr=writer)
    os.close(writer)
    assert ran.returncode == STATUS["SIGHUP"]


def test_a_swallowed_interruption_is_made_up_for(monkeypatch):
    """Some libraries catch everything; a sweep asks again when it is prepared, and while it runs."""
    exit_status.end_if_signalled()
    monkeypatch.setattr(exit_status, "_received", [signal.SIGTERM])
    with pytest.raises(KeyboardInterrupt):
        exit_status.end_if_signalled()


@pytest.mark.slow
def test_an_ignored_hangup_stays_ignored(tmp_path):
    """A command started by nohup goes on when its terminal closes; here to its end, a mistake."""
    ran = run(
        "SIGHUP",
        "yaml",
        "submit",
        "absent.yaml",
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert ran.returncode == 2
    assert "absent.yaml" in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["--help"], ["configs", "list"], ["power", "--items", "100", "--flip-rate", "0.1"]]
)
def test_a_closed_pipe_is_no_verdict(words):
    """`| head` that has gone: status 141 and no word, never 0 or 1, which analyze gives for verdicts."""
    reader, writer = os.pipe()
    os.close(reader)
    ran = run(*words, program="from jobs.__main__ import main; main()", stdout=writer)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_ray_does_not_take_over_sigterm():
    """Its handler would end the driver with status 15; ours, from before, gets a signal while Ray starts."""
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("ours"))
    try:
        with pytest.raises(SystemExit):
            start_ray()
        assert heard == ["ours"]
    finally:
        signal.signal(signal.SIGTERM, before)


@_own_signal_handlers()
def start_ray():
    """Set a handler as Ray does, and get the signal."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
    signal.raise_signal(signal.SIGTERM)
