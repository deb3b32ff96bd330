"""One submit at a time in a run directory: a lock on a disk, a lease on an object store."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.rundir.store import RunStore

LOCK, LEASE = "lock", "lease.json"
SECONDS_UNTIL_OLD = 60.0  # a lease not renewed for so long belongs to nobody
SECONDS_BETWEEN_RENEWALS = 10.0
SECONDS_TO_SETTLE = 2.0  # between taking a lease and believing it


@contextmanager
def exclusive(store: RunStore, on_loss: Callable[[], None]) -> Iterator[None]:
    """Keep other submits out of a run for as long as this one lasts, however it ends.

    A disk has a lock that the operating system gives back; an object store has a lease, a small file that is
    renewed until its owner ends, and counts for nothing once it is a minute old. Both name their owner, so
    that what a dead submit left at work finds out that the run is another's (`owner`).

    Args:
        store: the run.
        on_loss: called, in another thread, if another submit has taken the run over because this one was
            stopped for longer than a lease lasts.

    Raises:
        UserError: another submit is at work here, or nothing can be written here.
    """
    folder = store.local_folder
    with _lock(folder, store.url) if folder is not None else _lease(store, on_loss):
        yield


def at_work(store: RunStore) -> bool:
    """Whether a submit is at work in a run."""
    folder = store.local_folder
    if folder is None:
        return _holder(store) is not None
    try:
        with (folder / "logs" / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # none was ever made, or not by this user
        return False
    return False


def owner(store: RunStore) -> str:
    """Who has the run or had it last: a name that no other submit has; empty if nobody ever had it.

    Raises:
        OSError: the storage does not tell.
    """
    folder = store.local_folder
    if folder is None:
        return str(json.loads(store.read_log(LEASE) or "{}").get("owner", ""))
    return store.read_log(LOCK).decode()


def _refusal(url: str, holder: str = "") -> UserError:
    return UserError(
        f"Another lldeg submit is at work in {url}{holder}; wait for it, or end it with: lldeg stop {url}"
    )


@contextmanager
def _lock(folder: Path, url: str) -> Iterator[None]:
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        lock = (folder / "logs" / LOCK).open("a")
    except OSError as error:
        raise UserError(f"{url} is no place for a run: {error}.") from None
    with lock:
        for pause in (0.1, 0.1, None):  # whoever asks `at_work` holds it for a moment
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if pause is None:
                    raise _refusal(url) from None
                time.sleep(pause)
        lock.truncate(0)
        lock.write(uuid.uuid4().hex)
        lock.flush()
        yield


def _holder(store: RunStore) -> dict[str, Any] | None:
    """Whose lease holds."""
    try:
        lease = json.loads(store.read_log(LEASE) or "null")
        old = time.time() - lease["renewed"] > SECONDS_UNTIL_OLD
        return None if old or _is_dead(lease) else dict(lease)
    except (ValueError, TypeError, KeyError):  # there is none, or it is damaged
        return None


def _is_dead(lease: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that is no more."""
    if lease["host"] != socket.gethostname():
        return False
    try:
        os.kill(lease["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@contextmanager
def _lease(store: RunStore, on_loss: Callable[[], None]) -> Iterator[None]:
    mine = {"owner": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
    ended = threading.Event()

    def take() -> None:
        store.write_log(LEASE, json.dumps({**mine, "renewed": time.time()}).encode())

    def keep() -> None:
        while not ended.wait(SECONDS_BETWEEN_RENEWALS):
            try:
                holder = _holder(store)
                if holder is not None and holder["owner"] != mine["owner"]:
                    on_loss()
                    return
                take()
            except OSError:  # the storage is away; it may come back
                continue

    try:
        if (holder := _holder(store)) is not None:
            raise _refusal(store.url, f" (process {holder['pid']} on {holder['host']})")
        take()
        time.sleep(SECONDS_TO_SETTLE)  # of two that took it at the same moment, the later one has it
        holder = _holder(store)
    except OSError as error:
        raise UserError(f"{store.url} is no place for a run: {error}.") from None
    if holder is None or holder["owner"] != mine["owner"]:
        raise _refusal(store.url)
    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join(timeout=SECONDS_BETWEEN_RENEWALS)
        with suppress(OSError):  # the storage is away; the lease grows old by itself
            holder = _holder(store)
            if holder is not None and holder["owner"] == mine["owner"]:
                store.remove_log(LEASE)
