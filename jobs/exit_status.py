"""Exit statuses that commands share, and how signals end a command; errors of a user end in 2 (`jobs.cli`).

SIGHUP and SIGTERM end a command as Ctrl-C does, by KeyboardInterrupt, the one exception that Ray passes on
from a signal handler. This module is imported before all others, so it imports nothing slow.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

INCOMPLETE = 3  # samples of a run are missing
SIGNALLED = 128  # plus the number of the signal that ended a command, as shells have it
INTERRUPTED = SIGNALLED + signal.SIGINT

_received: list[signal.Signals] = []
_terminals: list[int] = []


def end_on_signals() -> None:
    """Have SIGHUP and SIGTERM end this process as Ctrl-C does, unless they are ignored (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        return  # Python allows no handler there
    _terminals[:] = filter(os.isatty, (1, 2))
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, _: object) -> None:
    """Interrupt once: a terminal that closes sends SIGHUP twice, and the second may not disturb the end."""
    if number in _received:
        return
    _received.append(signal.Signals(number))
    for stream in _terminals:
        if not os.isatty(stream):  # it is gone, and writing to it would fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    raise KeyboardInterrupt


def interruption() -> str:
    """What has interrupted this process, for a sentence."""
    return _received[-1].name if _received else "Ctrl-C"


def end_if_signalled() -> None:
    """Interrupt again if a signal has come, since a library may have swallowed its KeyboardInterrupt."""
    if _received:
        raise KeyboardInterrupt


def end_interrupted() -> NoReturn:
    """End a command that was interrupted, with a sentence and the signal's status."""
    with suppress(OSError):  # whoever would read it may be gone, too
        print(f"Stopped by {interruption()} before it finished.", file=sys.stderr)  # noqa: T201 - typer may be missing yet
    end(SIGNALLED + _received[-1] if _received else INTERRUPTED)


def end(status: int | None) -> NoReturn:
    """End with a status; after a signal at once, for what is half started may crash at an orderly end."""
    if _received:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(status or 0)
    sys.exit(status)


def end_unread() -> NoReturn:
    """End a command whose output nobody reads any more (`| head`): neither success nor a verdict."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(SIGNALLED + signal.SIGPIPE)
