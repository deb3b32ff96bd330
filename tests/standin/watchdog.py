"""Ends whatever the tests started, when they end: after Ctrl-C, kill -9 or a closed terminal as well."""

import os
import subprocess
import sys
import uuid
from contextlib import suppress

import psutil

MARK = "LLDEG_TESTS"


def watch():
    """Mark this process, and end all that inherited the mark once it is gone, however it went.

    The watching process is in a session of its own, where no terminal's Ctrl-C reaches it.
    """
    os.environ[MARK] = uuid.uuid4().hex
    subprocess.Popen([sys.executable, __file__, str(os.getpid())], start_new_session=True)


def _end_all(mark):
    """Kill the marked processes until there are none; some may start others while they are killed."""
    while ours := [process for process in psutil.process_iter() if _is_marked(process, mark)]:
        for process in ours:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(ours, timeout=1)


def _is_marked(process, mark):
    try:
        is_running = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
        return is_running and process.environ().get(MARK) == mark
    except psutil.Error:
        return False


if __name__ == "__main__":
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(sys.argv[1])).wait()
    _end_all(os.environ[MARK])
