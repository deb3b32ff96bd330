"""One submit at a time per run directory: a lock on a disk, a lease on an object store."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager, suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from orchestrator.rundir.store import RunStore

LEASE = "lease.json"
PROBE = "clock-"
SECONDS_UNTIL_OLD = 60.0  # a lease not renewed for so long has expired
SECONDS_BETWEEN_RENEWALS = 10.0
SECONDS_TO_SETTLE = 2.0  # between taking a lease and believing it


@contextmanager
def exclusive(store: RunStore, on_loss: Callable[[], None]) -> Iterator[None]:
    """Keep other submits out of a run for as long as this one lasts, however it ends.

    On a disk that is a lock, which the operating system releases; on an object store a lease, a small file
    that is renewed until its owner ends, and has expired once it is a minute old. Both name their owner, so
    that replicas left by a dead submit find out that the run belongs to another one (`owner`).

    Args:
        store: the run.
        on_loss: called, in another thread, if another submit has taken over the run because this one was
            suspended for longer than a lease lasts.

    Raises:
        UserError: another submit is running, or the run directory cannot be written.
    """
    path = store.lock_path
    with _lease(store, on_loss) if path is None else _lock(store, path):
        yield


def is_running(store: RunStore) -> bool:
    """Whether a submit is running in a run directory."""
    path = store.lock_path
    if path is None:
        return _holder(store) is not None
    try:
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no submit ever ran here, or none of this user
        return False
    return False


def owner(store: RunStore) -> str:
    """ID of the submit that has the run or had it last; empty if there was none.

    Raises:
        OSError: the storage cannot be read, or holds a damaged lease, which its owner will soon renew.
    """
    path = store.lock_path
    if path is not None:
        return path.read_text() if path.exists() else ""
    content = store.read_log(LEASE)
    lease = _parsed(content)
    if content and lease is None:
        raise OSError(f"the lease of {store.url} is damaged")
    return "" if lease is None else str(lease["owner"])


def _refusal(url: str, holder: str = "") -> UserError:
    return UserError(
        f"Another lldeg submit is running in {url}{holder}; wait for it, or stop it with: lldeg stop {url}"
    )


@contextmanager
def _lock(store: RunStore, path: Path) -> Iterator[None]:
    made = list(takewhile(lambda folder: not folder.exists(), path.parents))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
    except OSError as error:
        raise _unusable(store, error) from None
    with lock, ExitStack() as at_the_end:
        for pause in (0.1, 0.1, None):  # `is_running` holds it for a moment
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if pause is None:
                    raise _refusal(store.url) from None
                time.sleep(pause)
        lock.truncate(0)
        lock.write(uuid.uuid4().hex.encode())
        lock.flush()
        at_the_end.callback(_leave_nothing, store, path, made)
        yield


def _leave_nothing(store: RunStore, lock: Path, folders: Sequence[Path]) -> None:
    """Remove the lock of a submit that was refused before it wrote anything, and the folders made for it."""
    if not store.has_run():
        lock.unlink(missing_ok=True)
        with suppress(OSError):
            for folder in folders:
                folder.rmdir()


def _unusable(store: RunStore, error: OSError) -> UserError:
    return UserError(f"{store.url} cannot hold a run directory: {error}.")


def _holder(store: RunStore) -> dict[str, Any] | None:
    """The lease that has not expired; None if there is none."""
    lease = _lease_file(store)
    if lease is None or _is_dead(lease) or _age(store, lease) > SECONDS_UNTIL_OLD:
        return None
    return lease


def _lease_file(store: RunStore) -> dict[str, Any] | None:
    """The lease, however old; None if there is none or it is damaged."""
    return _parsed(store.read_log(LEASE))


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        lease = json.loads(content or "null")
        facts = {"owner": str(lease["owner"]), "host": str(lease["host"]), "pid": int(lease["pid"])}
        return {**facts, "renewed": float(lease["renewed"])}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _age(store: RunStore, lease: dict[str, Any]) -> float:
    """Seconds since a lease was renewed, by the storage's clock: those of two machines may differ."""
    renewed, now = store.log_time(LEASE), _storage_time(store)
    if renewed is None or now is None:
        return time.time() - float(lease["renewed"])
    return now - renewed


def _storage_time(store: RunStore) -> float | None:
    """What time it is for the storage; None if it does not say, or nothing may be written there."""
    name = f"{PROBE}{uuid.uuid4().hex}"
    try:
        store.write_log(name, b"?")
        return store.log_time(name)
    except OSError:
        return None
    finally:
        with suppress(OSError):
            store.remove_log(name)


def _is_dead(lease: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that has ended."""
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
                holder = _lease_file(store)
                if holder is not None and holder["owner"] != mine["owner"]:
                    on_loss()
                    return
                take()
            except OSError:  # the storage is unavailable; it may come back
                continue

    try:
        if (holder := _holder(store)) is not None:
            raise _refusal(store.url, f" (process {holder['pid']} on {holder['host']})")
        take()
        time.sleep(SECONDS_TO_SETTLE)  # of two that took it at the same moment, the later one has it
        holder = _lease_file(store)
    except OSError as error:
        raise _unusable(store, error) from None
    if holder is None or holder["owner"] != mine["owner"]:
        raise _refusal(store.url)
    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join(timeout=SECONDS_BETWEEN_RENEWALS)
        with suppress(OSError):  # the storage is unavailable; the lease will expire
            holder = _lease_file(store)
            if holder is not None and holder["owner"] == mine["owner"]:
                store.remove_log(LEASE)
