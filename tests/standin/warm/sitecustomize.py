"""On PYTHONPATH, this has Ray's workers and what they start begin in a process that has imported much.

Importing lm-eval and vLLM takes a processor many seconds, and every replica of every sweep does it. Here a
new process hands its own part (words, variables, folder, files, signals) to one that is forked for it, and
ends as that ends; see `standin.preloaded`. Where nothing is preloaded it runs by itself.
"""

import array
import fcntl
import json
import os
import signal
import socket
import sys
import zlib
from contextlib import suppress
from itertools import dropwhile

ADDRESS = "LLDEG_PRELOADED"
NOT_PRELOADED = "LLDEG_NOT_PRELOADED"  # how code begins that is to run by itself
PARTS = "LLDEG_DASHBOARD"  # of a dashboard that are to start, each of which is a process
LENGTH = 8  # bytes of a number
WORKERS = ("/ray/_private/workers/setup_worker.py", "/ray/_private/workers/default_worker.py")
DAEMONS = (
    "/ray/_private/log_monitor.py",
    "/ray/_private/runtime_env/agent/main.py",
    "/ray/autoscaler/_private/monitor.py",
    "/ray/dashboard/agent.py",
    "/ray/dashboard/dashboard.py",
)
OPTIONS = ("-c", "-m")
SCRIPTS = (*WORKERS, *DAEMONS, "/benchmarks/soak.py", "/bin/lldeg")
WITH_RAY = "with Ray"  # what is asked of a process that another one is to fork daemons
OWN = {"RAY_JOB_ID", "RAY_NODE_ID", "RAY_RAYLET_PID", "RAY_TMPDIR"}  # which a daemon reads when it needs them
CODE = (
    "from jobs.__main__ import main; main()",
    "from multiprocessing.forkserver import main;",
    "from multiprocessing.spawn import spawn_main;",
    "from orchestrator.workers.scoring_pool import main; main()",
    "from ray.scripts.scripts import main; main()",
    "from test_limits import *;",
    "import numpy as np\nimport lldeg",  # the examples of the API
    "import runpy; runpy.run_module('vllm.",
)


def is_heavy(words):
    """Whether a program is one of those that import much, and is not to run by itself."""
    if not words or words[0] not in OPTIONS:
        return bool(words) and words[0].endswith(SCRIPTS)
    if words[0] == "-m":
        return words[1:3] == ["jobs", "submit"]
    return words[1].startswith(CODE) and not words[1].startswith(os.environ.get(NOT_PRELOADED, "\0"))


def open_files():
    """Numbers of the files that this process has open."""
    numbers = []
    for entry in list(os.scandir("/proc/self/fd")):
        with suppress(OSError):  # the folder itself
            os.fstat(int(entry.name))
            numbers.append(int(entry.name))
    return numbers


def hand_over(words):
    """Have a program run by a forked process, and end as that ends.

    Args:
        words: what follows the interpreter: `-c`, code; `-m`, module; or a script; then arguments.
    """
    address, files = os.environ[ADDRESS], open_files()
    try:
        if words[0].endswith(DAEMONS):
            address = with_ray(address)
        status = ask(address, words, files)
    except OSError:
        return
    if status < 0:
        with suppress(OSError):  # SIGKILL has no other action
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def with_ray(address):
    """Address of a process that has Ray as well, imported with the variables of this one."""
    variables = {name: text for name, text in os.environ.items() if name.startswith("RAY_")}
    seen = sorted((name, text) for name, text in variables.items() if name not in OWN)
    own = f"{address}-{zlib.crc32(repr(seen).encode()):x}"
    with open(f"{own}.lock", "w") as lock:  # noqa: PTH123 - likewise
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(own):  # noqa: PTH110 - likewise
            ask(address, [WITH_RAY, own], [])
    return own


def ask(address, words, files):
    """Have a program run by a process that is forked at an address, which gets files; returns its status."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    request = {
        "words": words,
        "files": files,
        "variables": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109 - pathlib is not imported by every process
        "path": sys.path,
        "executable": sys.executable,
        "prefix": sys.prefix,
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "ignored": [n for n in range(1, signal.SIGRTMIN) if signal.getsignal(n) == signal.SIG_IGN],
    }
    message = json.dumps(request).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
    connection.sendmsg([len(message).to_bytes(LENGTH, "big")], rights)
    connection.sendall(message)
    for number in files:
        os.close(number)
    return int.from_bytes(connection.recv(LENGTH) or b"\1", "big", signed=True)


program = [*dropwhile(lambda word: word.startswith("-") and word not in OPTIONS, sys.orig_argv[1:])]
if ADDRESS in os.environ and is_heavy(program):
    if program[0].endswith("/dashboard.py") and PARTS in os.environ:
        program.append(f"--modules-to-load={os.environ[PARTS]}")
    hand_over(program)
