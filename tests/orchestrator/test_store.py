"""The run directory on disks and object stores: names, torn files, full disks."""

import os
import shutil
import uuid
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import UserError
from orchestrator.rundir.store import RunStore, read_whole
from orchestrator.rundir.whole_files import hidden_file

TORN = "0000000-0123456789ab"  # a name that a block may have
STRANGE = ["a/b", "../../up", "..", ".hidden", "50%", "%2F", "ünï çode", "日本", "a b", "x=y", "\\", "a\nb"]


def rows(*keys, error=None):
    """Samples with what a plan reads of them."""
    return pa.table(
        {"sample_key": pa.array(keys, pa.string()), "error": pa.array([error] * len(keys), pa.string())}
    )


@pytest.fixture
def store(tmp_path):
    """A run directory two folders down, so that an escape would be seen."""
    return RunStore(tmp_path / "runs" / "one")


def fill_the_disk(monkeypatch):
    """From now on no file gets more than its first bytes."""
    write = os.write

    def write_little(file, content):
        write(file, bytes(content)[:4])
        raise OSError("disk full")

    monkeypatch.setattr(os, "write", write_little)


def files(folder):
    """All files below a folder, as paths relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def keys(store, variant="v", task="t", *, remove_torn=True):
    """Keys that stand in a cell, in order."""
    found = store.read_cell(variant, task)
    if remove_torn:
        store.remove_torn(found)
    whole = [rows["sample_key"].to_pylist() for rows in found.values() if rows is not None]
    return sorted(key for names in whole for key in names)


def test_keys_come_back_sorted(store):
    """An error row counts as much as an answer: it is not owed again."""
    store.write_block("v", "t", "b1", rows("k1", "k2"))
    store.write_block("v", "t", "b2", rows("k3", error="Died: x"))
    assert keys(store) == ["k1", "k2", "k3"]


def test_a_cell_of_which_nothing_is_there_has_no_keys(store):
    """A run that was never started reads as empty."""
    assert keys(store) == []


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_torn_file_is_owed_again_and_removed(store, tmp_path, kept):
    """A file cut off anywhere counts for nothing, and the others still count."""
    store.write_block("v", "t", TORN, rows("k1"))
    store.write_block("v", "t", "whole", rows("k2"))
    path = tmp_path / f"runs/one/samples/variant=v/task=t/{TORN}.parquet"
    path.write_bytes(path.read_bytes()[:kept])
    assert keys(store) == ["k2"]
    assert not path.exists()


def test_a_file_of_zeros_is_torn(store, tmp_path):
    """A file whose size reached the disk before its content counts for nothing."""
    store.write_block("v", "t", TORN, rows("k1"))
    path = tmp_path / f"runs/one/samples/variant=v/task=t/{TORN}.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    assert keys(store) == []


def test_a_file_whose_start_never_reached_the_disk_is_torn(store, tmp_path):
    """A file whose last page alone was written counts for nothing."""
    store.write_block("v", "t", TORN, rows(*map(str, range(1000))))
    path = tmp_path / f"runs/one/samples/variant=v/task=t/{TORN}.parquet"
    content = path.read_bytes()
    path.write_bytes(bytes(len(content) // 2) + content[len(content) // 2 :])
    assert keys(store) == []


def test_a_storage_that_cannot_be_read_is_no_torn_file(store, tmp_path):
    """An error of the storage itself is passed on, and nothing is removed."""
    (tmp_path / "runs/one/samples/variant=v").mkdir(parents=True)
    (tmp_path / "runs/one/samples/variant=v/task=t").symlink_to("task=t")
    with pytest.raises(OSError, match="symbolic"):
        keys(store)
    assert (tmp_path / "runs/one/samples/variant=v/task=t").is_symlink()


def test_a_torn_file_stays_where_nothing_may_be_written(store, tmp_path):
    """A dry run sees that the samples are owed and leaves the file alone."""
    store.write_block("v", "t", TORN, rows("k1"))
    path = tmp_path / f"runs/one/samples/variant=v/task=t/{TORN}.parquet"
    path.write_bytes(b"PAR1")
    assert keys(store, remove_torn=False) == []
    assert path.read_bytes() == b"PAR1"


def cell_of(tmp_path):
    """Where the files of the cell are."""
    return tmp_path / "runs/one/samples/variant=v/task=t"


@pytest.mark.parametrize("content", [b"", b"mine", None], ids=["empty", "no Parquet", "no samples"])
def test_a_file_of_somebody_else_is_named_and_stays(store, tmp_path, content):
    """Only what lldeg wrote is ever deleted, and nothing is if there is anything else."""
    store.write_block("v", "t", TORN, rows("k1"))
    torn = cell_of(tmp_path) / f"{TORN}.parquet"
    torn.write_bytes(b"PAR1")
    foreign = cell_of(tmp_path) / "mine.parquet"
    if content is None:
        pq.write_table(pa.table({"mine": [1, 2, 3]}), foreign)
    else:
        foreign.write_bytes(content)
    before = foreign.read_bytes()
    with pytest.raises(UserError, match=r"mine\.parquet .*: move it away"):
        keys(store)
    assert (foreign.read_bytes(), torn.exists()) == (before, True)


def test_a_changed_bit_is_owed_again(store, tmp_path):
    """Its file counts for nothing and is named; a changed bit in what announces the checksum is harmless."""
    store.write_block("v", "t", TORN, rows(*(f"{n:032x}" for n in range(100))))
    path, right = cell_of(tmp_path) / f"{TORN}.parquet", keys(store)
    whole = path.read_bytes()
    announced = whole.index(b"lldeg.checksum=")
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        found = keys(store, remove_torn=False)
        assert found == (right if announced <= place < announced + len("lldeg.checksum=") else [])


@pytest.mark.parametrize(
    "place",
    [
        "variant=w/task=t/0000000-000000000001",
        "variant=v/task=u/0000000-000000000001",
        "variant=v/task=t/0000000-000000000002",
    ],
)
def test_a_file_in_the_place_of_another_one_is_damaged(store, tmp_path, place):
    """Answers of another variant or task, and answers twice, are none."""
    store.write_block("v", "t", "0000000-000000000001", rows("a"))
    (file,) = cell_of(tmp_path).glob("*.parquet")
    other = store.local_folder / "samples" / f"{place}.parquet"
    other.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, other)
    assert read_whole(store.filesystem, str(file)) is not None
    assert read_whole(store.filesystem, str(other)) is None


def test_items_in_the_place_of_others_are_damaged(store):
    """The documents of another task."""
    store.write_items("t", rows("a"))
    items = store.local_folder / "items"
    shutil.copy(items / "t.parquet", items / "u.parquet")
    assert len(store.read_items("t")) == 1
    with pytest.raises(pa.ArrowInvalid, match="damaged"):
        store.read_items("u")


def test_links_in_a_circle_are_not_followed_for_ever(store):
    """What lldeg wrote is three folders deep."""
    store.write_block("v", "t", "0000000-000000000001", rows("a"))
    samples = store.local_folder / "samples"
    for name in ("a", "b", "variant=v/c"):
        (samples / name).symlink_to(samples)
    assert len(store.sample_paths()["v", "t"]) == 1


def test_a_sparse_file_takes_no_memory(store, tmp_path):
    """It is longer than the memory, and damaged at its end."""
    store.write_block("v", "t", "0000000-000000000001", rows("a"))
    (file,) = cell_of(tmp_path).glob("*.parquet")
    os.truncate(file, 1 << 40)
    assert keys(store, remove_torn=False) == []


def test_a_file_of_an_earlier_version_is_read(store, tmp_path):
    """Without a checksum of the whole, those of its pages tell what is damaged."""
    table = rows(*(f"{n:032x}" for n in range(100)))
    cell_of(tmp_path).mkdir(parents=True)
    path = cell_of(tmp_path) / f"{TORN}.parquet"
    pq.write_table(table, path, write_page_checksum=True)
    assert len(keys(store)) == 100
    content = path.read_bytes()
    path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    assert keys(store) == []


def test_other_programs_read_the_files(store, tmp_path):
    """DuckDB and pandas find the samples as they were written, checksum or not."""
    store.write_block("v", "t", TORN, rows("k1", "k2"))
    path = cell_of(tmp_path) / f"{TORN}.parquet"
    assert duckdb.sql(f"select sample_key from '{path}'").fetchall() == [("k1",), ("k2",)]
    assert list(pd.read_parquet(path)["sample_key"]) == ["k1", "k2"]


def test_errors_can_be_owed_again(store, tmp_path):
    """Their rows go, file by file; answers stay as they are, texts included."""
    mixed = pa.concat_tables([rows("k1"), rows("k2", error="Died: x")])
    mixed = mixed.append_column("response", pa.array(["said", None]))
    store.write_block("v", "t", "b1", mixed)
    store.write_block("v", "t", "b2", rows("k3", error="Died: x"))
    assert keys(store) == ["k1", "k2", "k3"]
    store.remove_errors("v", "t")
    assert keys(store) == ["k1"]
    assert pq.read_table(cell_of(tmp_path) / "b1.parquet")["response"].to_pylist() == ["said"]
    assert not (cell_of(tmp_path) / "b2.parquet").exists()


def test_unfinished_files_are_not_read(store, tmp_path):
    """What a killed writer left under a temporary name is no sample."""
    store.write_block("v", "t", "b", rows("k1"))
    folder = tmp_path / "runs/one/samples/variant=v/task=t"
    pq.write_table(rows("k2"), folder / ".other.parquet")
    (folder / "notes.txt").write_text("mine")
    assert keys(store) == ["k1"]
    assert (folder / "notes.txt").exists()


def test_a_failed_write_leaves_the_old_file(store, monkeypatch):
    """A writer that dies half-way has changed nothing that counts."""
    store.write_block("v", "t", "b", rows("k1"))

    fill_the_disk(monkeypatch)
    with pytest.raises(OSError, match="disk full"):
        store.write_block("v", "t", "b", rows("k1"))
    assert keys(store) == ["k1"]


def test_a_failed_write_leaves_nothing_else(store, tmp_path, monkeypatch):
    """Half a file would only keep a full disk full."""
    fill_the_disk(monkeypatch)
    with pytest.raises(OSError, match="disk full"):
        store.write_block("v", "t", "b", rows("k1"))
    assert files(tmp_path) == []


def test_what_cannot_be_a_table_never_appears_on_an_object_store(monkeypatch):
    """An upload is not even begun before there is all of it."""
    store = RunStore(f"memory://{uuid.uuid4().hex}/run")

    def fail_half_way(_, stream, **_options):
        stream.write(b"PAR1")
        raise pa.ArrowInvalid("no")

    monkeypatch.setattr("orchestrator.rundir.store.pq.write_table", fail_half_way)
    with pytest.raises(pa.ArrowInvalid):
        store.write_block("v", "t", "b", rows("k1"))
    assert store.sample_paths() == {}


def test_readers_never_see_half_a_file(store, tmp_path):
    """A file is replaced in one step: whoever opened the old one reads it to its end."""
    store.write_manifest({"n": 1})
    path = tmp_path / "runs/one/manifest.json"
    with path.open() as reader:
        before = os.fstat(reader.fileno()).st_ino
        store.write_manifest({"n": 2})
        assert '"n": 1' in reader.read()
    assert path.stat().st_ino != before


def test_the_same_block_again_replaces_itself(store, tmp_path):
    """Writing a block twice leaves one file."""
    store.write_block("v", "t", "b", rows("k1"))
    store.write_block("v", "t", "b", rows("k1"))
    assert files(tmp_path / "runs/one") == ["samples/variant=v/task=t/b.parquet"]


def test_what_a_killed_writer_left_is_removed(store, tmp_path):
    """A submit removes half-written files, but none that is still being written, nor anybody else's."""
    store.write_block("v", "t", "b", rows("k1"))
    left, notes = cell_of(tmp_path) / f".lldeg-{uuid.uuid4().hex}", cell_of(tmp_path) / ".notes"
    left.write_bytes(b"PAR1")
    notes.touch()
    with hidden_file(cell_of(tmp_path), b"half", sync=False) as unfinished:
        store.remove_unfinished()
        assert (left.exists(), unfinished.exists(), notes.exists()) == (False, True, True)


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names_stay_inside_and_come_back(store, tmp_path, name):
    """A variant or task of any name has a folder of its own below samples/ and is found again."""
    store.write_block(name, name, "b", rows("k1"))
    assert keys(store, name, name) == ["k1"]
    assert list(store.sample_paths()) == [(name, name)]
    (file,) = tmp_path.rglob("*.parquet")
    assert file.parents[2] == tmp_path / "runs/one/samples"


def test_strange_names_do_not_meet(store, tmp_path):
    """Different names never share a folder."""
    for number, name in enumerate(STRANGE):
        store.write_block(name, "t", "b", rows(f"k{number}"))
    assert sorted(store.sample_paths()) == sorted((name, "t") for name in STRANGE)
    assert [keys(store, name) for name in STRANGE] == [[f"k{number}"] for number in range(len(STRANGE))]


@pytest.mark.parametrize("name", STRANGE)
def test_items_of_strange_tasks_stay_inside(store, tmp_path, name):
    """A task's documents stand in items/, whatever its name."""
    store.write_items(name, pa.table({"item": [1]}))
    assert store.read_items(name)["item"].to_pylist() == [1]
    (file,) = tmp_path.rglob("*.parquet")
    assert file.parent == tmp_path / "runs/one/items"
    assert not file.name.startswith(".")  # Spark and DuckDB pass over hidden files


def test_a_log_grows_by_lines(store):
    """On a disk a line stands there at once."""
    store.append_log("events.jsonl", "one")
    store.append_log("events.jsonl", "two")
    assert store.read_log("events.jsonl") == b"one\ntwo\n"


def test_a_torn_line_of_a_log_costs_itself_alone(store):
    """What is appended after half a line, which a full disk or a dead writer left, begins a line."""
    store.append_log("events.jsonl", "one")
    with store.open_log("events.jsonl") as log:
        log.write(b'{"ev')
    store.append_log("events.jsonl", "two")
    assert store.read_log("events.jsonl") == b'one\n{"ev\ntwo\n'


def test_a_log_that_appears_while_it_is_looked_for_is_none_yet(store, monkeypatch):
    """As a request to stop does, for which a submit looks again and again."""

    def overtaken(path):
        store.write_log("late", b"x")
        raise FileNotFoundError(path)

    monkeypatch.setattr(store, "open", overtaken)
    assert store.read_log("late") == b""


def test_a_log_on_an_object_store_grows_when_it_is_sent():
    """Each sending adds what came since the last one, and a second submit adds to the first one's log."""
    url = f"memory://{uuid.uuid4().hex}/run"
    store = RunStore(url)
    store.append_log("events.jsonl", "one")
    store.send_logs()
    store.append_log("events.jsonl", "two")
    store.send_logs()
    store.send_logs()
    again = RunStore(url)
    again.append_log("events.jsonl", "three")
    again.send_logs()
    assert RunStore(url).read_log("events.jsonl") == b"one\ntwo\nthree\n"


def test_blocks_on_an_object_store_come_back():
    """A filesystem that pyarrow does not know itself is reached through fsspec."""
    store = RunStore(f"memory://{uuid.uuid4().hex}/run")
    store.write_block("v/1", "t", "b1", rows("k1"))
    store.write_block("v/1", "t", "b1", rows("k1"))
    assert (store.local_folder, list(store.sample_paths()), keys(store, "v/1")) == (
        None,
        [("v/1", "t")],
        ["k1"],
    )


def test_a_folder_that_is_no_run_is_named(tmp_path):
    """Reading the manifest of some folder ends in a sentence."""
    with pytest.raises(UserError, match="is not a run directory"):
        RunStore(tmp_path).read_manifest()


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_damaged_manifest_is_named(tmp_path, text):
    """A manifest that is not a JSON object ends in a sentence."""
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json"):
        RunStore(tmp_path).read_manifest()


@pytest.mark.parametrize("url", ["nonsense://x/y", "http://x/y"])
def test_a_url_of_no_filesystem_is_named(url):
    """A place that pyarrow does not know ends in a sentence."""
    with pytest.raises(UserError, match="cannot be opened"):
        RunStore(url)


def test_a_file_url_is_a_local_folder(tmp_path):
    """file:// names the same run as its path."""
    RunStore(f"file://{tmp_path}/r").write_manifest({"variants": {}, "tasks": {}})
    assert RunStore(tmp_path / "r").read_manifest() == {"variants": {}, "tasks": {}}
    assert RunStore(f"file://{tmp_path}/r").local_folder == Path(tmp_path / "r")
