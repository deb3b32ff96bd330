"""Names are checked in bytes before anything runs."""

import pytest

from orchestrator.rundir.store import RunStore, replica_log_name, segment


def problems(tmp_path, *, variants=("v",), tasks=("t",), url=None):
    """What is wrong with names."""
    return list(RunStore(url or tmp_path).name_problems(variants, tasks))


@pytest.mark.parametrize("name", ["語" * 27, "v" * 225, "é" * 40, "50%" * 30])
def test_a_name_that_passes_can_be_written(tmp_path, name):
    """What is not refused fits on this disk: as folders, as a file of items, as a log."""
    assert problems(tmp_path, variants=[name[:100]], tasks=[name]) == []
    folder = tmp_path / f"variant={segment(name[:100])}" / f"task={segment(name)}"
    folder.mkdir(parents=True)
    (tmp_path / f".{segment(name)}.parquet").touch()
    (tmp_path / replica_log_name(99_999, name[:100])).touch()


@pytest.mark.parametrize("name", ["語" * 29, "\\" * 90, "t" * 256])
def test_a_name_that_is_too_long_is_named(tmp_path, name):
    """In the bytes that it takes where it is written, with what to do."""
    (problem,) = problems(tmp_path, tasks=[name])
    assert "the name of the task" in problem
    assert "255 is the most: shorten it" in problem


def test_characters_of_three_bytes_count_in_logs_too(tmp_path):
    """The log of a replica has the name as it is."""
    (problem,) = problems(tmp_path, variants=["語" * 90])
    assert "the name of the variant" in problem


def test_a_path_that_is_too_long_is_named(tmp_path):
    """Each part may fit where the whole does not."""
    assert problems(tmp_path, url=tmp_path.joinpath(*["d" * 200] * 30))
    assert problems(tmp_path, url=f"memory://{'d' * 1000}/run")
