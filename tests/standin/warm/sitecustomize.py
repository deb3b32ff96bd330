"""On PYTHONPATH, this has Ray's workers and what they start begin in a process that has imported much.

Importing lm-eval and vLLM takes a processor many seconds, and every replica of every sweep does it. Here a
new process hands its own part (words, variables, folder, files, signals) to one that is forked for it, and
ends as that ends; see `standin.preloaded`. Where nothing is preloaded it runs by itself.
"""

import array
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from itertools import dropwhile

ADDRESS = "LLDEG_PRELOADED"
LENGTH = 8  # bytes of a number
SCRIPTS = ("/ray/_private/workers/setup_worker.py", "/ray/_private/workers/default_worker.py")
CODE = (
    "from jobs.__main__ import main; main()",
    "from multiprocessing.spawn import spawn_main;",
    "from orchestrator.workers.scoring_pool import main; main()",
)


def is_heavy(words):
    """Whether a program is one of those that import much."""
    return bool(words) and (words[0].endswith(SCRIPTS) or (words[0] == "-c" and words[1].startswith(CODE)))


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
        words: what follows the interpreter: `-c`, code, arguments; or a script, arguments.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(os.environ[ADDRESS])
    except OSError:
        connection.close()
        return
    files = [number for number in open_files() if number != connection.fileno()]
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
    status = int.from_bytes(connection.recv(LENGTH) or b"\1", "big", signed=True)
    if status < 0:
        with suppress(OSError):  # SIGKILL has no other action
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


program = [*dropwhile(lambda word: word.startswith("-") and word != "-c", sys.orig_argv[1:])]
if ADDRESS in os.environ and is_heavy(program):
    hand_over(program)
