"""What all tests share: lanes, no network, the command in this process and in its own, the real model."""

import gc
import os
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import hypothesis
import pytest
from standin import preloaded
from standin.command import Command
from standin.watchdog import watch

from orchestrator.config.environment import set_library_environment

gc.disable()  # until the tests are collected: hardly anything of what they import is garbage
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"  # engines share the processors, and must not wait by spinning
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # likewise
os.environ["METRICS_RECORD_INTERVAL_S"] = "3600"  # of Ray's dashboards, which search all of their memory
os.environ["REPORTER_UPDATE_INTERVAL_MS"] = "60000"  # of Ray's nodes; none of it is looked at
MEMORY = "/dev/shm"  # where a new file takes a tenth of the time that it takes on many a disk
if "TMPDIR" not in os.environ and Path(MEMORY).is_dir():
    memory = os.statvfs(MEMORY)
    if memory.f_bavail * memory.f_frsize > 8 << 30 and not memory.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = MEMORY
set_library_environment()  # before a test imports the libraries that read these variables

# The same examples on every machine and in every lane, and none is too slow for a busy one.
hypothesis.settings.register_profile("lldeg", deadline=None, derandomize=True)
hypothesis.settings.load_profile("lldeg")

SLOW_LANES = ("ray", "model")
LONGEST = {"test_remote_job.py", "test_s3.py", "test_several_nodes.py", "test_soak.py"}
FOLDER = "LLDEG_TESTS_FOLDER"  # for all workers of the tests


def pytest_configure(config):
    """Leave no process behind, however the tests end; the workers of several are children of one."""
    if not hasattr(config, "workerinput"):
        watch()
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="lldeg-")


def pytest_unconfigure(config):
    """Remove what the preloaded processes leave."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


def pytest_terminal_summary(terminalreporter):
    """Say how many tests of the report ran in a browser; of those that did not, `-ra` gives the reason."""
    outcomes = {
        outcome: sum("_browser.py" in test.nodeid for test in terminalreporter.getreports(outcome))
        for outcome in ("passed", "failed", "skipped")
    }
    if any(outcomes.values()):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        terminalreporter.write_line(f"in a browser: {counts}")
    for log in Path(os.environ[FOLDER]).glob("*.log"):
        if "Traceback" in (text := log.read_text()):
            terminalreporter.write_line(f"the preloaded process ended: {text}")


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, so that no worker ends long before the others.

    Files with the real model, which compute, take turns with those that mostly wait for processes.
    """

    def order(item):
        return item.path.name not in LONGEST, item.get_closest_marker("ray") is None

    items.sort(key=order)
    model, others = {}, {}
    for item in items:
        lane = others if item.get_closest_marker("model") is None else model
        lane.setdefault(item.path, []).append(item)
    turns = zip_longest(model.values(), others.values(), fillvalue=())
    items[:] = chain.from_iterable(chain.from_iterable(turns))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop():
    """Have no search for garbage look at what was imported and collected."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Let a test start Ray or a server only if its mark says so, so that the fast lane stays what it is."""
    marks = {mark.name for mark in item.iter_markers()}
    with pytest.MonkeyPatch.context() as patch:
        if marks & {*SLOW_LANES, "slow"}:
            address = preloaded.start(Path(os.environ[FOLDER]), with_engine="model" in marks)
            patch.setenv(preloaded.ADDRESS, str(address))
            patch.setenv(preloaded.PARENT_BY_PIPE, "1")
            patch.setenv("PYTHONPATH", str(preloaded.WARM), prepend=os.pathsep)
            patch.syspath_prepend(str(preloaded.WARM))  # what replicas tell those that score for them
        if not marks & {*SLOW_LANES}:
            patch.setenv("RAY_TMPDIR", os.devnull)  # no folder: Ray fails at once, in child processes as well
            patch.setattr(socket.socket, "listen", _refuse_to_listen)
        return (yield)


def _refuse_to_listen(*_):
    pytest.fail("this test starts a server: mark it with pytest.mark.ray", pytrace=True)


@dataclass(frozen=True)
class Result:
    """How a command in this process ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def lldeg(monkeypatch, capsys, tmp_path):
    """Runs `lldeg ...` in this process, in a folder of its own; fit for whatever starts no Ray."""
    from jobs.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # beside the code of a task

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lldeg", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Result(end.value.code or 0, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def command():
    """Runs `lldeg ...` in processes of its own; none of them outlives the module's tests."""
    folder = Path(tempfile.mkdtemp(prefix="lldeg-"))
    command = Command(folder)
    yield command
    command.end_all()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def model_folder():
    """The quickstart's model, made the way the quickstart makes it if it is not there."""
    from jobs.quickstart_model import FOLDER, main

    assert main() == 0
    return FOLDER
