"""One submit at a time per run directory: a lock on a disk, a lease on an object store."""

import fcntl
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from pydantic import BaseModel

from orchestrator.errors import UserError
from orchestrator.rundir.store import RunStore

LEASE = "lease.json"
PROBE = "clock-"
SECONDS_UNTIL_OLD = 60.0  # a lease not renewed for so long has expired
SECONDS_BETWEEN_RENEWALS = 10.0
SECONDS_TO_SETTLE = 2.0  # between taking a lease and believing it


class Lease(BaseModel):
    """lease.json: which process has the run, and when it last said so."""

    owner: str
    host: str
    pid: int
    renewed: float


@contextmanager
def exclusive(store: RunStore, on_loss: Callable[[], None]) -> Iterator[None]:
    """Keep other submits out of a run for as long as this one lasts, however it ends.

    On a disk that is a lock, which the operating system releases; on an object store a lease, a small file
    that is renewed until its owner ends, and has expired once it is a minute old. Both name their owner, so
    that replicas left by a dead submit find out that the run belongs to another one (`owner`). `on_loss` is
    called, in another thread, if another submit has taken over the run because this one was suspended for
    longer than a lease lasts. A UserError if one is running, or the run directory cannot be written.
    """
    with ExitStack() as held:
        try:
            if store.lock_path is None:
                _lease(store, on_loss, held)
            else:
                _lock(store, store.lock_path, held)
        except OSError as error:
            raise UserError(f"{store.url} cannot hold a run directory: {error}.") from None
        yield


def _refusal(url: str, holder: str = "") -> UserError:
    return UserError(
        f"Another lldeg submit is running in {url}{holder}; wait for it, or stop it with: lldeg stop {url}"
    )


def _lock(store: RunStore, path: Path, held: ExitStack) -> None:
    made = list(takewhile(lambda folder: not folder.exists(), path.parents))
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = held.enter_context(path.open("ab"))
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

    @held.callback
    def leave_nothing() -> None:
        """Of a submit that was refused before it wrote anything."""
        if not store.has_run():
            path.unlink(missing_ok=True)
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()


def _lease(store: RunStore, on_loss: Callable[[], None], held: ExitStack) -> None:
    me, ended = uuid.uuid4().hex, threading.Event()

    def take() -> None:
        mine = Lease(owner=me, host=socket.gethostname(), pid=os.getpid(), renewed=time.time())
        store.write_log(LEASE, mine.model_dump_json().encode())

    def last_owner() -> str | None:
        lease = _parsed(store.read_log(LEASE))
        return None if lease is None else lease.owner

    def keep() -> None:
        while not ended.wait(SECONDS_BETWEEN_RENEWALS):
            with suppress(OSError):  # the storage is unavailable; it may come back
                if last_owner() not in {me, None}:
                    on_loss()
                    return
                take()

    if (holder := _holder(store)) is not None:
        raise _refusal(store.url, f" (process {holder.pid} on {holder.host})")
    take()
    time.sleep(SECONDS_TO_SETTLE)  # of two that took it at the same moment, the later one has it
    if last_owner() != me:
        raise _refusal(store.url)
    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    keeper.start()

    @held.callback
    def give_back() -> None:
        ended.set()
        keeper.join(timeout=SECONDS_BETWEEN_RENEWALS)
        with suppress(OSError):  # the storage is unavailable; the lease will expire
            if last_owner() == me:
                store.remove_log(LEASE)


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

    An OSError if the storage cannot be read, or holds a damaged lease, which its owner will soon renew.
    """
    path = store.lock_path
    if path is not None:
        return path.read_text() if path.exists() else ""
    content = store.read_log(LEASE)
    lease = _parsed(content)
    if content and lease is None:
        raise OSError(f"the lease of {store.url} is damaged")
    return "" if lease is None else lease.owner


def _parsed(content: bytes) -> Lease | None:
    try:
        return Lease.model_validate_json(content)
    except ValueError:
        return None


def _holder(store: RunStore) -> Lease | None:
    """The lease that has not expired; None if there is none, or its owner, a process here, has ended."""
    lease = _parsed(store.read_log(LEASE))
    if lease is None:
        return None
    if lease.host == socket.gethostname():
        try:
            os.kill(lease.pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
        except PermissionError:
            pass  # it is another user's
    renewed, now, probe = store.log_time(LEASE), None, f"{PROBE}{uuid.uuid4().hex}"
    with suppress(OSError):  # what time it is for the storage, if something may be written there
        store.write_log(probe, b"?")
        now = store.log_time(probe)
    with suppress(OSError):
        store.remove_log(probe)
    if renewed is None or now is None:  # else by one clock: those of two machines may differ
        renewed, now = lease.renewed, time.time()
    return None if now - renewed > SECONDS_UNTIL_OLD else lease
