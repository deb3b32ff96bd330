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


def end_all(variable, value):
    """Kill the processes with a variable until there are none; some may start others meanwhile."""
    while ours := [process for process in psutil.process_iter() if is_marked(process, variable, value)]:
        for process in ours:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(ours, timeout=1)


def is_marked(process, variable, value):
    """Whether another process runs and has a variable."""
    try:
        is_running = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
        return is_running and process.environ().get(variable) == value
    except psutil.Error:
        return False


if __name__ == "__main__":
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(sys.argv[1])).wait()
    end_all(MARK, os.environ[MARK])
