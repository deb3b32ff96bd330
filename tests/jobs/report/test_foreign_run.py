"""A run directory from anywhere is data: whatever is planted in it, reading it executes nothing."""

import json
import pickle
from urllib.request import urlopen

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from standin.runs import make_run, tell

ITEMS = 12


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (eval, (f"__import__('os').mkdir({str(self.folder)!r})",))


@pytest.fixture
def planted(tmp_path):
    """A run with code in every place where a reader might look, and the folder that any of it would make."""
    made = tmp_path / "made"
    code = f"__import__('os').mkdir({str(made)!r})"
    texts = [
        code,
        f"{{{{ {code} }}}}",
        f"$(mkdir {made})",
        f"`mkdir {made}`",
        f"!!python/object/apply:eval [{code}]",
    ]
    texts += [json.dumps({"py/object": code, "__reduce__": code})] * (ITEMS - len(texts))
    right, wrong = [(text, 1) for text in texts], [(text + "!", 0) for text in texts]
    answers = {"base": [right, right[1:] + wrong[:1]], "v": [wrong, wrong]}
    run = make_run(tmp_path / "run", {"t": tell(prompts=texts, targets=texts, temperature=0.5, **answers)})
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["tasks"]["t"]["definition"] = {
        "doc_to_text": code,
        "process_docs": "!function utils.run",
        "class": code,
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    for folder in (run, run / "items", run / "samples", run / "logs", run / "analysis"):
        folder.mkdir(exist_ok=True)
        for name in ("utils.py", "t.py", "__init__.py", "conftest.py", "sitecustomize.py"):
            (folder / name).write_text(code)
        for name in ("t.yaml", "task.yaml"):
            (folder / name).write_text("task: t\ndoc_to_text: !function utils.run\n")
        for name in ("t.pkl", "t.pickle", "t.npy"):
            (folder / name).write_bytes(pickle.dumps(Bomb(made)))
    (run / "logs" / "status.json").write_bytes(pickle.dumps(Bomb(made)))
    (run / "logs" / "events.jsonl").write_text(json.dumps({"time": 1, "event": code}) + "\n")
    return run, made


READERS = {
    "analyze": ["analyze", "--format", "json"],
    "status": ["status", "--format", "json"],
    "flips": ["flips"],
    "subset": ["subset"],
    "logs": ["logs"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", READERS)
def test_no_command_executes_what_is_in_a_run(lldeg, planted, tmp_path, command):
    """Modules, tasks with !function, templates, pickles, shell commands in texts."""
    run, made = planted
    name, *options = READERS[command]
    out = ["--out", tmp_path / "out"] if command in {"analyze", "flips", "subset"} else []
    result = lldeg(name, run, *options, *out)
    assert (result.status in {0, 1}, made.exists()) == (True, False), result.err


@pytest.mark.slow
@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("tag", ["!function utils.run", "!!python/object/apply:os.mkdir [{}]"])
def test_no_command_executes_a_runs_sweep(lldeg, planted, tmp_path, command, tag):
    """Its YAML may have tags that other loaders call functions for: it is refused, or not read at all."""
    run, made = planted
    (run / "sweep.yaml").write_text(f"baseline: base\nvariants: {tag.format(made)}\n")
    lldeg(READERS[command][0], run)
    assert not made.exists()


def test_extension_types_of_parquet_are_not_unpickled(lldeg, planted, tmp_path):
    """Arrow once loaded a pickled Python class from the metadata of a column (CVE-2023-47248)."""
    run, made = planted
    (path,) = (run / "items").glob("*.parquet")
    table = pq.read_table(path)
    bomb = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Bomb(made)),
    }
    pandas = json.dumps(
        {"index_columns": [], "columns": [], "creator": {"library": f"__import__('os').mkdir('{made}')"}}
    )
    fields = [field.with_metadata(bomb) for field in table.schema]
    pq.write_table(table.cast(pa.schema(fields)).replace_schema_metadata({"pandas": pandas}), path)
    result = lldeg("analyze", run, "--out", tmp_path / "out")
    assert (result.status, made.exists()) == (1, False)


@pytest.mark.ray
def test_viewing_executes_nothing(serve, planted):
    """Neither the page nor the texts of its flips."""
    run, made = planted
    address = f"{serve(run)}/runs/run"
    with urlopen(address) as page, urlopen(f"{address}/flips") as flips:
        assert json.loads(flips.read())["total"] == ITEMS
        assert page.status == 200
    assert not made.exists()
