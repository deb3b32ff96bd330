"""The files of a command in a folder: what of them is removed, and that nothing else is."""

import json
import threading
import uuid

import fsspec
import pytest

from orchestrator.errors import UserError
from orchestrator.rundir.whole_files import FileSet

NAMES = ("table.csv", "more.json", "verdicts.json")
OLD = {"table.csv": b"old", "more.json": b"old", "verdicts.json": b"old"}
NEW = {"table.csv": b"new", "verdicts.json": b"new"}


def the_set(folder):
    """The files of a command in a folder."""
    return FileSet(str(folder), "analyze", NAMES)


def visible(folder):
    """Contents of the files in a folder, without hidden ones."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_new_files_take_the_place_of_all_old_ones(tmp_path):
    """Also of one that the new set does not have."""
    the_set(tmp_path).replace(OLD)
    the_set(tmp_path).replace(NEW)
    assert visible(tmp_path) == NEW


def test_files_of_an_older_version_are_removed(tmp_path):
    """They have no list; the last of them tells that they are there."""
    for name, content in OLD.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "notes.txt").write_bytes(b"mine")
    the_set(tmp_path).remove()
    assert visible(tmp_path) == {"notes.txt": b"mine"}


def test_files_that_nobody_wrote_as_a_set_stay(tmp_path):
    """A file that happens to have one of the names, without the one that completes the set."""
    (tmp_path / "table.csv").write_bytes(b"mine")
    the_set(tmp_path).remove()
    assert visible(tmp_path) == {"table.csv": b"mine"}


def test_a_file_that_was_changed_stays(tmp_path):
    """What somebody has put in the place of a file is no longer the command's."""
    the_set(tmp_path).replace(OLD)
    (tmp_path / "table.csv").write_bytes(b"mine")
    the_set(tmp_path).remove()
    assert visible(tmp_path) == {"table.csv": b"mine"}


@pytest.mark.parametrize("name", ["notes.txt", "../notes.txt", "sub/../../notes.txt", "/etc/passwd"])
def test_a_list_from_elsewhere_removes_nothing_of_mine(tmp_path, name):
    """A run directory that somebody sent may hold any list."""
    folder = tmp_path / "analysis"
    folder.mkdir()
    for place in (folder, tmp_path):
        (place / "notes.txt").write_bytes(b"mine")
    (folder / ".lldeg-analyze.json").write_text(json.dumps({name: None}))
    the_set(folder).remove()
    assert visible(folder) == {"notes.txt": b"mine"}
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"table.csv": 1}'])
def test_a_damaged_list_is_no_obstacle(tmp_path, text):
    """The new set is there whatever the list of the old one says."""
    the_set(tmp_path).replace(OLD)
    (tmp_path / ".lldeg-analyze.json").write_text(text)
    the_set(tmp_path).replace(NEW)
    assert visible(tmp_path).items() >= NEW.items()


def test_a_set_of_another_command_stays(tmp_path):
    """`flips` and `analyze` share the folder of a run."""
    FileSet(str(tmp_path), "flips", ("flips.json",)).replace({"flips.json": b"1"})
    the_set(tmp_path).replace(OLD)
    the_set(tmp_path).remove()
    assert visible(tmp_path) == {"flips.json": b"1"}


def test_two_commands_at_once_leave_one_set(tmp_path):
    """Each finds the folder as the other has left it."""
    sets = [{name: bytes([65 + number]) * 9 for name in NAMES} for number in range(8)]
    threads = [threading.Thread(target=the_set(tmp_path).replace, args=(one,)) for one in sets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert visible(tmp_path) in sets


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path):
    """And the file stays."""
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"Cannot write to .*file: .* Choose another folder with --out"):
        the_set(tmp_path / "file").replace(NEW)
    assert visible(tmp_path) == {"file": b"mine"}


def test_nothing_is_left_of_a_folder_that_was_refused(tmp_path):
    """Not even the folder itself, if it was not there."""

    def refuse():
        raise UserError("no")

    with pytest.raises(UserError, match="no"), the_set(tmp_path / "new").filling(refuse):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def objects():
    """A store in this process, whose nth upload can be made to fail."""
    return fsspec.filesystem("memory")


@pytest.mark.parametrize("step", range(5))
def test_an_object_store_that_fails_leaves_no_mixed_set(objects, monkeypatch, step):
    """Whichever upload fails, the old files are gone, and none of the new ones is left."""
    folder = f"/{uuid.uuid4().hex}/analysis"
    the_set(f"memory:/{folder}").replace(OLD)
    put, steps = type(objects).pipe_file, iter(range(9))

    def fail(self, path, value, **options):
        if next(steps) == step:
            raise OSError("away")
        put(self, path, value, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(objects), "pipe_file", fail)
        if step < 3:  # the list and two files
            with pytest.raises(UserError, match="away"):
                the_set(f"memory:/{folder}").replace(NEW)
            assert objects.ls(folder, detail=False) == []
        else:
            the_set(f"memory:/{folder}").replace(NEW)
    the_set(f"memory:/{folder}").replace(NEW)
    found = {path.rpartition("/")[2]: objects.cat(path) for path in objects.ls(folder, detail=False)}
    assert {name: content for name, content in found.items() if not name.startswith(".")} == NEW
