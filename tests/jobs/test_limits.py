"""Each limit of a reader, at it and just beyond it, in a gibibyte of addresses more than the libraries take.

Limits are listed in docs/trust.md.
"""

import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inspect_maker import log, write_eval
from pyarrow import fs
from standin.command import ROOT
from standin.preloaded import WARM
from standin.runs import MadeTask, make_run

import orchestrator.rundir.store as files
from jobs.formats import json_files
from jobs.formats.inspect_ai import MOST_ENTRIES, header_of, samples_of
from jobs.formats.json_files import JsonObject, files_below, read_lines
from orchestrator.config.load import load_config
from orchestrator.errors import UserError
from orchestrator.input_files import LARGEST_JSON, LARGEST_YAML, MOST_PARTS, read_json
from orchestrator.rundir.store import LARGEST_COLUMN, MOST_ROWS, read_whole

MORE = 1 << 30


def lists(count):
    """JSON of a list of empty lists with so many parts, each of which takes the most memory for its bytes."""
    return b"[" + b"[]," * ((count - 2) // 2) + b"[]]"


def text(size):
    """JSON of one text, so many bytes long."""
    return b'"' + b"x" * (size - 2) + b'"'


def read_value(path, content):
    """As a file of its own."""
    path.write_bytes(content)
    read_json(path)


def read_line(path, content):
    """As a line of JSON Lines."""
    path.write_bytes(b'{"a": ' + content + b"}\n")
    list(read_lines(path))


def read_item(path, content):
    """As an item of a large list."""
    path.write_bytes(b"[" + content + b"]")
    with JsonObject(path) as whole:
        list(whole.items())


def read_entry(path, content):
    """As a sample in an archive of inspect_ai."""
    write_eval(path, log([]))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("samples/1.json", b'{"id": 1, "a": ' + content + b"}")
    list(samples_of(path))


def long_text(size):
    """A table with a text of so many bytes."""
    return pa.table({"response": ["x" * size]})


def empty_rows(count):
    """A table of so many rows without a value."""
    return pa.table({"score": pa.nulls(count, pa.float64())})


def read_table(path, _):
    """A file of samples, which was written before memory was bounded."""
    if read_whole(fs.LocalFileSystem(), str(path)) is None:
        raise UserError("Beyond the limits.")


def read_yaml(path, size):
    """A configuration of so many bytes: mostly comments, which no limit of values stops."""
    lines = b"name: s\nbaseline: a\nmodel: m\nvariants: {a: {}}\ntasks: [t]\n"
    path.write_bytes(lines + b"#" * (size - len(lines)))
    load_config(path)


def read_entries(path, count):
    """An archive of so many samples, all without content."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "eval": {"task": "t", "model": "m"}}))
        for number in range(count - 1):
            archive.writestr(f"{number}", b"")
    header_of(path)


OVERHEAD = 64
TEXT, LISTS = (text, LARGEST_JSON), (lists, MOST_PARTS)
LIMITS = {
    "bytes of a JSON file": (read_value, *TEXT, 0, 1),
    "values of a JSON file": (read_value, *LISTS, 0, 2),
    "bytes of a line": (read_line, *TEXT, -OVERHEAD, 1),
    "values of a line": (read_line, *LISTS, -OVERHEAD, 2),
    "bytes of an item": (read_item, *TEXT, -OVERHEAD, 1),
    "values of an item": (read_item, *LISTS, -OVERHEAD, 2),
    "bytes of an entry": (read_entry, *TEXT, -OVERHEAD, 1),
    "values of an entry": (read_entry, *LISTS, -OVERHEAD, 2),
    "entries of an archive": (read_entries, int, MOST_ENTRIES, 0, 1),
    "bytes of a column": (read_table, long_text, LARGEST_COLUMN, -(1 << 10), 1),
    "rows of a file": (read_table, empty_rows, MOST_ROWS, 0, 1),
    "bytes of a configuration": (read_yaml, int, LARGEST_YAML, 0, 1),
}
"""What reads, what makes the content of a size, the limit, and two sizes relative to it: read and refused."""


def try_one(limit, folder):
    """Read at the limit and beyond it; the memory of this process is bounded from here on."""
    action, make, most, *sizes = LIMITS[limit]
    at, beyond = (make(most + size) for size in sizes)
    for name, content in (("at.eval", at), ("beyond.eval", beyond)):
        if action is read_table:
            pq.write_table(content, folder / name, compression="zstd")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MORE, size + MORE))
    action(folder / "at.eval", at)
    with pytest.raises(UserError):
        action(folder / "beyond.eval", beyond)


@pytest.mark.slow
@pytest.mark.parametrize("limit", LIMITS)
def test_what_is_at_a_limit_is_read_in_bounded_memory(tmp_path, limit):
    """And what is beyond it is a sentence, before it is read."""
    code = f"from test_limits import *; try_one({limit!r}, Path({str(tmp_path)!r}))"
    places = os.pathsep.join(map(str, (Path(__file__).parent, ROOT / "tests", ROOT, WARM)))
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": places, "ARROW_DEFAULT_MEMORY_POOL": "system"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


@pytest.mark.parametrize("name", ["response", "filtered"])
def test_a_text_that_rows_share_counts_once_for_each(tmp_path, monkeypatch, name):
    """Forty rows share a text: the file is small, and its column would take forty times the text."""
    monkeypatch.setattr(files, "LARGEST_COLUMN", 1 << 20)
    texts = ["x" * (1 << 19)] * 40
    values = texts if name == "response" else [{"none": one} for one in texts]
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"item": list(range(40)), name: values}), path, compression="zstd")
    assert path.stat().st_size < 4096
    local = fs.LocalFileSystem()
    assert read_whole(local, str(path)) is None
    assert read_whole(local, str(path), ["item"]).num_rows == 40
    if name == "response":
        assert read_whole(local, str(path), ["item", name], [name]).num_rows == 40


@pytest.mark.slow
def test_ordinary_files_are_never_doubted(tmp_path):
    """Answers of a model that only repeats itself are as large in memory as they are small in a file."""
    path = tmp_path / "loop.parquet"
    rows = [{"item": i, "response": "!" * 65_536, "filtered": {"none": "!" * 65_536}} for i in range(2048)]
    path.write_bytes(files.parquet_bytes(pa.Table.from_pylist(rows)))
    assert read_whole(fs.LocalFileSystem(), str(path)).num_rows == 2048


def test_a_folder_that_is_no_folder_of_results_is_not_searched(tmp_path, monkeypatch):
    """A whole disk would be searched by every format."""
    monkeypatch.setattr(json_files, "MOST_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.jsonl").touch()
    with pytest.raises(UserError, match="more than 3 files"):
        list(files_below(tmp_path, "*.jsonl"))


PIPES = {
    "manifest.json": ["status", "analyze", "logs", "flips", "stop", "export"],
    "sweep.yaml": ["status", "analyze", "flips"],
    "logs/events.jsonl": ["logs"],
    "logs/status.json": ["status"],
    "items/t.parquet": ["analyze"],
}


@pytest.mark.parametrize(("name", "command"), [(name, one) for name, all_ in PIPES.items() for one in all_])
def test_a_pipe_in_a_run_is_not_waited_for(lldeg, tmp_path, name, command):
    """It would wait for a writer that never comes."""
    run = make_run(tmp_path / "run", {"t": MadeTask({("base", 0.0): [[1, 0]], ("v", 0.0): [[1, 1]]})})
    (run / "logs").mkdir()
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    more = ["--to", "lm-eval", "--out", tmp_path / "out"] if command == "export" else []
    result = lldeg(command, run, *more)
    assert (result.status, "lldeg failed" in result.err) == (0 if "status.json" in name else 2, False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit"],
        ["submit", "--dry-run"],
        ["analyze", "run", "--policy"],
        ["analyze"],
        ["import", "--out", "o"],
    ],
)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(lldeg, tmp_path, arguments):
    """Nor is one that the command line names."""
    make_run(tmp_path / "run", {"t": MadeTask({("base", 0.0): [[1, 0]], ("v", 0.0): [[1, 1]]})})
    os.mkfifo(tmp_path / "pipe.json")
    result = lldeg(*arguments, tmp_path / "pipe.json")
    assert (result.status, "pipe.json" in result.err, "lldeg failed" in result.err) == (2, True, False)
