"""What the preloaded process forks is a process like any other."""

import importlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ray
from standin.command import RUN
from standin.preloaded import ADDRESS
from standin.real_server import SERVER

from orchestrator.workers.scoring_pool import CODE

pytestmark = pytest.mark.ray

SIGN = "from multiprocessing.spawn import spawn_main;"  # by which a program is known that takes much
TELLING = f"""{SIGN}
import os, signal, sys
import psutil
seen = psutil.Process().environ().get("LLDEG_TEST"), os.environ["LLDEG_TEST"], os.getcwd(), *sys.argv[1:]
print(os.getpid(), *seen, "ray" in sys.modules, "orchestrator" in sys.modules, "lm_eval.tasks" in sys.modules)
sys.stdout.flush()
"""


def start(tmp_path, code, **options):
    """Start a program in a folder of its own, with a variable of its own and a word."""
    return subprocess.Popen(
        [sys.executable, "-c", TELLING + code, "word"],
        cwd=tmp_path,
        env=os.environ | {"LLDEG_TEST": "mine"},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('words')", 1),
        ("raise ValueError", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("import atexit; atexit.register(os._exit, 7)", 7),
        ("import threading; threading.Timer(0.2, os._exit, [8]).start()", 8),
    ],
    ids=["end", "status", "words", "error", "killed", "exit function", "thread"],
)
def test_it_ends_as_the_program_does(tmp_path, code, status):
    """It has the folder, the variables (for /proc as well) and the words, and nothing of lldeg or Ray."""
    process = start(tmp_path, code)
    number, *told = process.communicate()[0].split()
    assert int(number) != process.pid
    assert told == ["mine", "mine", str(tmp_path), "word", "False", "False", "True"]
    assert process.returncode == status


def test_it_dies_with_the_process_whose_part_it_has(tmp_path):
    """Whoever kills that one has killed both."""
    process = start(tmp_path, "signal.pause()")
    forked = psutil.Process(int(process.stdout.readline().split()[0]))
    process.kill()
    process.communicate()
    assert psutil.wait_procs([forked], timeout=30)[1] == []


@pytest.mark.parametrize("said", [b"", (99).to_bytes(8, "big"), (99).to_bytes(8, "big") + b"{"])
def test_it_outlives_whoever_was_killed_while_it_asked(tmp_path, said):
    """Before a word, after the length, and in the middle of the request; the next one is served."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(os.environ[ADDRESS])
        asking.send(said)
    process = start(tmp_path, "")
    assert int(process.communicate(timeout=60)[0].split()[0]) != process.pid


def test_signals_that_were_ignored_or_blocked_are(tmp_path):
    """A daemon that is to live through the end of a terminal does."""

    def prepare():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    code = "for number in (signal.SIGINT, signal.SIGHUP): os.kill(os.getpid(), number)\nsys.exit(5)"
    process = start(tmp_path, code, preexec_fn=prepare)
    process.communicate()
    assert process.returncode == 5


@pytest.mark.parametrize("code", [CODE, RUN, SERVER])
def test_what_imports_much_is_known_by_its_code(monkeypatch, code):
    """That of a scoring process, of commands, and of a server."""
    monkeypatch.delenv("LLDEG_PRELOADED")  # nothing is handed over while this is imported
    assert importlib.import_module("standin.warm.sitecustomize").is_heavy(["-c", code, "3"])


def test_what_ray_starts_is_known_by_its_path(monkeypatch):
    """Scripts of Ray are where this version of it has them."""
    monkeypatch.delenv("LLDEG_PRELOADED")
    warm = importlib.import_module("standin.warm.sitecustomize")
    site = Path(ray.__file__).parents[1]
    assert [path for path in (*warm.WORKERS, *warm.DAEMONS) if not (site / path[1:]).is_file()] == []


def test_without_one_a_program_runs_by_itself(tmp_path, monkeypatch):
    """As it does wherever tests/standin/warm is not on the path."""
    monkeypatch.delenv("LLDEG_PRELOADED")
    process = start(tmp_path, "sys.exit(4)")
    number, *_, library = process.communicate()[0].split()
    assert (int(number), library, process.returncode) == (process.pid, "False", 4)
