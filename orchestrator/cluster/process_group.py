"""Processes that a replica starts die with it: vLLM's engine would otherwise keep the memory of its GPU.

A replica leads a process group, to which everything that it starts belongs. A small process outside of the
group watches the replica and kills the group when it is gone. Newer versions of Ray do the same.
"""

from __future__ import annotations

import os
import subprocess
import sys

WATCH = """
import os, signal, sys, time
replica = int(sys.argv[1])
while os.getppid() == replica:
    time.sleep(0.5)
try:
    os.killpg(replica, signal.SIGKILL)
except ProcessLookupError:
    pass
"""


def end_children_with_this_process() -> None:
    """Have all processes that this one starts from now on killed within a second of its own end."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    subprocess.Popen(  # noqa: S603 - this interpreter and fixed words
        [sys.executable, "-I", "-S", "-c", WATCH, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
