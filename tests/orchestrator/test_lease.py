"""One submit at a time: the lease on a run directory, with and without locks."""

import json
import os
import shutil
import time
import uuid

import pytest
from pyarrow import fs

from orchestrator.errors import UserError
from orchestrator.rundir import lease
from orchestrator.rundir.lease import LEASE, exclusive, is_running, owner
from orchestrator.rundir.store import RunStore


@pytest.fixture(params=["disk", "object store"])
def store(request, tmp_path, monkeypatch):
    """A run directory on a disk, and one on a store without locks."""
    monkeypatch.setattr(lease, "SECONDS_TO_SETTLE", 0.2)
    url = tmp_path / "run" if request.param == "disk" else f"memory://{uuid.uuid4().hex}/run"
    return RunStore(url)


@pytest.fixture
def objects(monkeypatch):
    """A run directory on a store without locks."""
    monkeypatch.setattr(lease, "SECONDS_TO_SETTLE", 0.2)
    return RunStore(f"memory://{uuid.uuid4().hex}/run")


def logs_of(store):
    """Names of all files in its logs."""
    selector = fs.FileSelector(f"{store.path}/logs", allow_not_found=True)
    return [info.base_name for info in store.filesystem.get_file_info(selector)]


def hold(store):
    """Enter and leave."""
    with exclusive(store, on_loss=lambda: None):
        pass


def leave_lease(store, **facts):
    """A lease somebody else left."""
    entry = {"owner": "other", "host": "elsewhere", "pid": 1, "renewed": time.time(), **facts}
    store.write_log(LEASE, json.dumps(entry).encode())


def test_a_second_submit_is_kept_out(store):
    """While one holds the run, another is refused with a sentence that says what to do."""
    with exclusive(store, on_loss=lambda: None):
        assert is_running(store)
        with pytest.raises(UserError, match=r"Another lldeg submit is running .* lldeg stop"):
            hold(store)


def test_every_submit_is_another_owner(store):
    """What an earlier one left at work can tell that the run is not its own any more."""
    assert owner(store) == ""
    with exclusive(store, on_loss=lambda: None):
        first = owner(store)
        with pytest.raises(UserError):
            hold(store)
        assert owner(store) == first != ""
    with exclusive(store, on_loss=lambda: None):
        assert owner(store) not in {first, ""}


def test_it_ends_with_its_holder(store):
    """After an error in the first submit the next one may go on."""
    with pytest.raises(RuntimeError), exclusive(store, on_loss=lambda: None):
        raise RuntimeError("died")
    assert not is_running(store)
    hold(store)


def test_two_runs_do_not_lock_each_other(tmp_path):
    """The lock belongs to a run directory, not to the machine."""
    with exclusive(RunStore(tmp_path / "a"), on_loss=lambda: None):
        hold(RunStore(tmp_path / "b"))


def test_nobody_is_at_work_where_nobody_ever_was(store):
    """Asking leaves nothing behind."""
    assert not is_running(store)
    assert logs_of(store) == []


def test_a_lease_of_another_machine_holds_until_it_is_old(objects):
    """A submit elsewhere that still renews its lease keeps others out; one that does not is dead."""
    leave_lease(objects)
    with pytest.raises(UserError, match="process 1 on elsewhere"):
        hold(objects)
    leave_lease(objects, renewed=time.time() - 61)
    hold(objects)


def test_the_lease_of_a_dead_process_of_this_machine_counts_for_nothing(objects):
    """After kill -9, submitting again need not wait."""
    leave_lease(objects, host=lease.socket.gethostname(), pid=2**22 + 1)
    hold(objects)
    leave_lease(objects, host=lease.socket.gethostname(), pid=os.getpid())
    with pytest.raises(UserError):
        hold(objects)


def test_of_two_that_take_it_at_the_same_moment_one_has_it(objects, monkeypatch):
    """Whoever finds another's lease where it wrote its own gives way."""
    monkeypatch.setattr(lease.time, "sleep", lambda _: leave_lease(objects))
    with pytest.raises(UserError, match="Another lldeg submit"):
        hold(objects)


def test_who_was_taken_over_hears_of_it(objects, monkeypatch):
    """A submit that was suspended for minutes stops when it finds that another has the run."""
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_RENEWALS", 0.05)
    lost = []
    with exclusive(objects, on_loss=lambda: lost.append(1)):
        leave_lease(objects)
        time.sleep(0.5)
    assert lost == [1]
    assert json.loads(objects.read_log(LEASE))["owner"] == "other"


def test_a_lease_is_renewed(objects, monkeypatch):
    """It does not grow old while its owner works."""
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_RENEWALS", 0.05)
    with exclusive(objects, on_loss=lambda: None):
        first = json.loads(objects.read_log(LEASE))["renewed"]
        time.sleep(0.5)
        assert json.loads(objects.read_log(LEASE))["renewed"] > first


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"7", b'{"renewed": "now"}'])
def test_a_damaged_lease_counts_for_nothing(objects, content):
    """A file that is no lease keeps nobody out, and no replica takes it for the lease of another submit."""
    objects.write_log(LEASE, content)
    with pytest.raises(OSError, match="damaged"):
        owner(objects)
    hold(objects)


def test_a_storage_that_is_away_at_the_end_does_no_harm(objects, monkeypatch):
    """The lease cannot be given back then, and grows old by itself."""

    def refuse(*_):
        raise OSError("away")

    with exclusive(objects, on_loss=lambda: None):
        monkeypatch.setattr(RunStore, "read_log", refuse)


def test_the_lock_survives_the_removal_of_the_logs(tmp_path):
    """A user who tidies up while a submit runs does not let another one in."""
    store = RunStore(tmp_path / "run")
    with exclusive(store, on_loss=lambda: None):
        (tmp_path / "run/logs").mkdir(exist_ok=True)
        shutil.rmtree(tmp_path / "run/logs")
        assert is_running(store)
        with pytest.raises(UserError, match="Another lldeg submit"):
            hold(store)


@pytest.fixture(params=[-120, 120], ids=["storage behind", "storage ahead"])
def skewed(request, objects, monkeypatch):
    """A storage whose clock differs by two minutes; it says when a file was written."""
    times = {}
    write = RunStore.write_log

    def write_log(store, name, content):
        times.setdefault(name, time.time() + request.param)
        write(store, name, content)

    monkeypatch.setattr(RunStore, "write_log", write_log)
    monkeypatch.setattr(RunStore, "log_time", lambda _, name: times.get(name))
    return objects, times


@pytest.mark.parametrize("renewed", [-120, 0, 120])
def test_clocks_that_differ_neither_rob_nor_lock_out(skewed, renewed):
    """How old a lease is the storage's own clock says, whatever its owner's clock has written into it."""
    store, times = skewed
    leave_lease(store, renewed=time.time() + renewed)
    with pytest.raises(UserError, match="process 1 on elsewhere"):
        hold(store)
    assert set(logs_of(store)) <= {LEASE}
    times[LEASE] -= 61
    hold(store)
