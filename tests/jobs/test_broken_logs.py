"""Broken results of every format: one sentence, exit status 2, bounded memory, and nothing is written."""

import json
import os
import re
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from analyze_runner import run_analyze
from inspect_maker import ZSTANDARD, log, sample, write_eval, write_json

from jobs.formats.columns import FILE as COLUMNS_FILE

MEMORY = 1 << 20
"""KiB that reading anything may take, libraries included."""


def _lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def _eval(folder, *, entries=(), content=None, **more):
    """A log with further entries."""
    path = write_eval(folder / "a.eval", content or log([sample(1, "C"), sample(2, "I")], **more))
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in entries:
            archive.writestr(name, text)
    return path


def _cut(path, keep=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


def _patched(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


def _nested(folder):
    inner = write_eval(folder / "inner.eval", log([sample(1, "C")])).read_bytes()
    (folder / "inner.eval").unlink()
    return _eval(folder, entries=[("samples/inner_epoch_1.json", inner)])


def _no_header(folder):
    path = folder / "a.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("samples/1_epoch_1.json", json.dumps(sample(1, "C")))
    return path


def _bomb(folder):
    """An entry of 600 MiB that is compressed to less than one."""
    return _eval(folder, entries=[("samples/9_epoch_1.json", b" " * (600 << 20))])


def _many_parts(folder):
    """An entry of 60 MiB in which every three bytes are a list, which takes 64 in memory."""
    return _eval(folder, entries=[("samples/9_epoch_1.json", b"[" + b"[]," * (20 << 20) + b"[]]")])


def _understated(folder):
    """An entry of 600 MiB that claims to have a hundred bytes."""
    path = _bomb(folder)
    return _patched(path, struct.pack("<I", 600 << 20), struct.pack("<I", 100))


def _overlapping(folder):
    """Two thousand entries over one body of 20 MiB."""
    path = _eval(folder, entries=[("samples/9_epoch_1.json", b" " * (20 << 20))])
    body = path.read_bytes()
    start = body.index(b"PK\x01\x02")
    directory, end = body[start : body.index(b"PK\x05\x06")], body[body.index(b"PK\x05\x06") :]
    last = directory[directory.rindex(b"PK\x01\x02") :]
    copies = b"".join(last.replace(b"samples/9_", b"samples/%d_" % (i % 10)) for i in range(2000))
    counts = struct.pack("<HHI", 2000, 2000, len(copies))
    path.write_bytes(body[:start] + copies + end[:8] + counts + end[16:])
    return path


def _bzip2(folder):
    """A method of compression that zipfile expands without a limit."""
    path = _eval(folder)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("samples/9_epoch_1.json", b" " * (60 << 20))
    return path


def _review(index, value, **more):
    score = {"value": {"acc": value}, "prediction": "4", "main_score_name": "acc"}
    return {"index": index, "messages": [], "sample_score": {"score": score, "group_id": index}, **more}


def _every(item, score, **more):
    names = {"schema_version": "0.3.0", "model_id": "m", "evaluation_name": "b", "sample_id": item}
    return {**names, "evaluation": {"score": score}, **more}


def _helm(folder, stats, spec=None):
    spec = spec or {"name": "mmlu:model=m", "adapter_spec": {"model": "m"}}
    (folder / "run_spec.json").write_text(json.dumps(spec))
    (folder / "per_instance_stats.json").write_text(stats if isinstance(stats, str) else json.dumps(stats))
    return folder


def _stat(item, mean):
    stats = [{"name": {"name": "exact_match"}, "count": 1, "mean": mean}]
    return {"instance_id": item, "train_trial_index": 0, "stats": stats}


def _lm_eval(folder, *rows):
    return _lines(folder / "samples_t_2026-01-01T00-00-00.0.jsonl", rows)


def _details(folder, table):
    date = "2026-01-01T00-00-00.0"
    path = folder / "details" / "m" / date / f"details_t_{date}.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)
    return path


def _columns(folder, rows, ending="jsonl"):
    (folder / COLUMNS_FILE).write_text("item: id\nscore: acc\n")
    return _lines(folder / f"a.{ending}", rows)


def _long_line(size):
    return '{"id": 1, "acc": 1, "text": "' + "x" * size + '"}\n'


NAN = float("nan")
GOOD = {"id": 0, "acc": 1}
KINDS = {
    "inspect: truncated archive": lambda d: _cut(_eval(d)),
    "inspect: empty file": lambda d: _cut(_eval(d), 0),
    "inspect: no header": _no_header,
    "inspect: header of another kind": lambda d: _eval(d, content={**log([]), "eval": ["task"]}),
    "inspect: unknown version": lambda d: write_json(d / "a.json", {**log([sample(1, "C")]), "version": 9}),
    "inspect: nested archive": _nested,
    "inspect: entry that leads outside": lambda d: _eval(d, entries=[("../../evil.json", "{}")]),
    "inspect: the same sample twice": lambda d: _eval(
        d, entries=[("samples/x.json", json.dumps(sample(1, "I")))]
    ),
    "inspect: sample without id": lambda d: _eval(d, entries=[("samples/x.json", "{}")]),
    "inspect: no scores": lambda d: _eval(d, content=log([{**sample(1, "C"), "scores": {}}])),
    "inspect: no samples": lambda d: _eval(d, content=log([])),
    "inspect: damaged Zstandard": lambda d: _patched(
        write_eval(d / "a.eval", log([sample(1, "C")]), ZSTANDARD), b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe"
    ),
    "inspect: gigantic entry": _bomb,
    "inspect: gigantic number of values": _many_parts,
    "inspect: gigantic entry that understates its size": _understated,
    "inspect: gigantic sum of overlapping entries": _overlapping,
    "inspect: gigantic entry of another method": _bzip2,
    "inspect: truncated JSON": lambda d: _cut(write_json(d / "a.json", log([sample(i, "C") for i in "abc"]))),
    "inspect: scores that are infinite": lambda d: write_json(d / "a.json", log([sample(1, float("inf"))])),
    "inspect: epoch that is a text": lambda d: _eval(d, content=log([sample(1, "C", epoch="x")], epochs=2)),
    "evalscope: NaN": lambda d: _lines(d / "reviews/m/t.jsonl", [_review(0, NAN)]).parents[2],
    "evalscope: no index": lambda d: _lines(d / "reviews/m/t.jsonl", [{"index": "x"}]).parents[2],
    "evalscope: configuration is no YAML": lambda d: _lines(
        _lines(d / "configs/task_config.yaml", ["a: [\n"]).parents[1] / "reviews/m/t.jsonl", [_review(0, 1.0)]
    ).parents[2],
    "HELM: truncated": lambda d: _helm(d, '[{"instance_id": "id1"'),
    "HELM: no list": lambda d: _helm(d, {"id1": 1}),
    "HELM: the same instance twice": lambda d: _helm(d, [_stat("id1", 1.0), _stat("id1", 0.0)]),
    "HELM: specification of another kind": lambda d: _helm(d, [_stat("id1", 1.0)], {"name": 1}),
    "HELM: NaN": lambda d: _helm(d, [_stat("id1", NAN)]),
    "Every Eval Ever: mixed versions": lambda d: _lines(
        d / "u_samples.jsonl", [_every("1", 1.0), _every("2", 1.0, schema_version="9.0.0")]
    ),
    "Every Eval Ever: the same sample twice": lambda d: _lines(
        d / "u_samples.jsonl", [_every("1", 1.0), _every("1", 0.0)]
    ),
    "Every Eval Ever: NaN": lambda d: _lines(d / "u_samples.jsonl", [_every("1", NAN)]),
    "lm-eval: no doc_id": lambda d: _lm_eval(d, {"doc": {}, "acc": 1.0}),
    "lm-eval: truncated": lambda d: _cut(_lm_eval(d, {"doc_id": 0, "doc": {}, "acc": 1.0}), 0.8),
    "lm-eval: the same document twice": lambda d: _lm_eval(d, *[{"doc_id": 0, "doc": {}, "acc": 1.0}] * 2),
    "lighteval: truncated": lambda d: _cut(_details(d, pa.table({"doc": [1]})), 0.7),
    "lighteval: another table": lambda d: _details(d, pa.table({"doc": [1]})),
    "verifiers: no reward": lambda d: _lines(d / "results.jsonl", [{"example_id": 1}]),
    "verifiers: nested too deeply": lambda d: _lines(d / "results.jsonl", ['{"example_id": ' + "[" * 99999]),
    "NeMo Evaluator: no reward": lambda d: _lines(d / "results.jsonl", [{"problem_idx": 1}]),
    "NeMo Evaluator: the same repeat twice": lambda d: _lines(
        d / "results.jsonl", [{"problem_idx": 1, "reward": 1.0}] * 2
    ),
    "verifier of tool calls: no request": lambda d: _lines(d / "results.jsonl", [{"data_index": 1}]),
    "verifier of tool calls: truncated": lambda d: _lines(d / "a_results.jsonl", ['{"data_index": 1, "requ']),
    "columns: line of 200 MB": lambda d: _columns(d, [GOOD, _long_line(200 << 20)]),
    "columns: row of 200 MB": lambda d: _columns(d, ["id,acc,text\n", f'1,1,"{"x" * (200 << 20)}"\n'], "csv"),
    "columns: NaN": lambda d: _columns(d, [GOOD, {"id": 1, "acc": NAN}]),
    "columns: not UTF-8": lambda d: _patched(_columns(d, [{"id": "XX", "acc": 1}]), b"XX", b"\xff\xfe"),
    "columns: binary": lambda d: _patched(_columns(d, ["XX"]), b"XX", bytes(range(256))),
    "columns: no rows": lambda d: _columns(d, []),
    "columns: number with too many digits": lambda d: _columns(d, ['{"id": 1, "acc": ' + "9" * 9999 + "}\n"]),
    "score table: NaN": lambda d: _lines(d / "a.csv", ["prompt_id,score\n1,nan\n"]),
}  # fmt: skip


LARGE = [kind for kind in KINDS if "200 MB" in kind or "gigantic" in kind]


def _tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in LARGE])
def test_a_broken_log_is_one_sentence(tmp_path, monkeypatch, kind):
    """Exit status 2, one line that names the file or the task, and no file more or changed."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = KINDS[kind](folder)
    monkeypatch.chdir(tmp_path)
    before = _tree(tmp_path)
    ran = run_analyze(path, out=tmp_path / "out")
    assert ran.code == 2
    assert re.search(r"/data\b|Task ", ran.error)
    assert "\n" not in ran.error
    assert len(ran.error) < 700
    assert ran.error.endswith(".")
    assert _tree(tmp_path) == before


MEASURED = """
import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ended.returncode)
"""  # between pytest and the command: a new process counts the memory of the one that started it


@pytest.mark.slow
@pytest.mark.parametrize("kind", LARGE)
def test_memory_is_bounded(tmp_path, kind):
    """The whole command, libraries included, stays below a gibibyte, and says one sentence."""
    path = KINDS[kind](tmp_path)
    command = [sys.executable, "-m", "jobs", "analyze", str(path), "--out", str(tmp_path / "out")]
    source = str(Path(__file__).resolve().parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert re.fullmatch(r"Error: .*a\.\w+.*\.\n", ended.stderr)
    assert not (tmp_path / "out").exists()
    assert int(ended.stdout) < MEMORY


def test_memory_is_measured_in_kibibytes():
    """What the test above compares with: this process has some hundred megabytes."""
    assert 1 << 15 < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 24
