"""Results of every other tool, and manifests at submit, with any part replaced, are read or named."""

import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspect_maker import log, sample, write_eval, write_json
from standin.runs import MadeTask, make_run
from standin.strange import JSON, often, or_a_sentence, planted
from test_broken_logs import _every, _helm, _review, _stat

from jobs.analysis.analyze import analyze
from jobs.analysis.request import AnalyzeRequest
from jobs.formats.samples import PLAIN
from jobs.formats.write_run import imported, read_logs
from jobs.scores.read import read_reruns
from orchestrator.rundir import manifest as manifests
from orchestrator.rundir.store import RunStore
from orchestrator.sweep.item_subset import refuse_reused_in

pytestmark = pytest.mark.slow


def lines(path, rows):
    """JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def columns(folder, rows):
    """Any JSON Lines, with the file that names its columns."""
    (folder / "lldeg-columns.yaml").write_text("item: id\nscore: acc\nprompt: ask\nresponse: say\n")
    lines(folder / "a.jsonl", rows)


def archive(folder, rows):
    """A log as an archive, whatever its samples are."""
    path = write_eval(folder / "a.eval", log([sample(9, "C")]))
    with zipfile.ZipFile(path, "a") as content:
        for number, row in enumerate(rows):
            content.writestr(f"samples/{number}.json", json.dumps(row))


REVIEWS = [_review(0, 1.0), _review(1, 0.0)]
ROLLOUTS = [
    {"example_id": i, "reward": 1.0, "prompt": "q", "completion": "a", "metrics": {}} for i in range(2)
]
PROBLEMS = [{"problem_idx": i, "repeat": 0, "reward": 1.0, "prompt": "q", "response": "a"} for i in range(2)]
CALLS = [
    {
        "data_index": i,
        "request": {"messages": [{"role": "user", "content": "q"}], "tools": [{"function": {"name": "f"}}]},
        "response": {
            "choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]
        },
        "status": "success",
    }
    for i in range(2)
]
FORMATS = {
    "inspect, JSON": ([log([sample(1, "C")])], lambda d, rows: write_json(d / "a.json", rows[0])),
    "inspect, archive": ([sample(1, "C"), sample(2, "I")], archive),
    "evalscope": (REVIEWS, lambda d, rows: lines(d / "reviews/m/t.jsonl", rows)),
    "HELM": ([_stat("id1", 1.0), _stat("id2", 0.0)], _helm),
    "Every Eval Ever": (
        [_every("1", 1.0), _every("2", 0.0)],
        lambda d, rows: lines(d / "u_samples.jsonl", rows),
    ),
    "verifiers": (ROLLOUTS, lambda d, rows: lines(d / "results.jsonl", rows)),
    "NeMo Evaluator": (PROBLEMS, lambda d, rows: lines(d / "results.jsonl", rows)),
    "verifier of tool calls": (CALLS, lambda d, rows: lines(d / "m_results.jsonl", rows)),
    "columns": ([{"id": i, "acc": 1, "ask": "q", "say": "a", "run": 0} for i in range(2)], columns),
}
KEYS = [
    "samples",
    "eval",
    "plan",
    "status",
    "id",
    "epoch",
    "scores",
    "match",
    "value",
    "input",
    "output",
    "choices",
    "metadata",
    "error",
    "index",
    "sample_score",
    "score",
    "group_id",
    "messages",
    "instance_id",
    "stats",
    "name",
    "count",
    "mean",
    "sample_id",
    "evaluation",
    "schema_version",
    "model_id",
    "evaluation_name",
    "example_id",
    "reward",
    "metrics",
    "prompt",
    "completion",
    "problem_idx",
    "repeat",
    "data_index",
    "request",
    "tools",
    "tool_calls",
    "message",
    "function",
    "arguments",
    "response",
    "acc",
    "ask",
    "say",
    "run",
]


@often
@given(where=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3), value=JSON, whole=st.booleans())
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_results_of_any_tool_are_read_or_named(tmp_path, name, where, value, whole):
    """A part of the first row, or all of it, replaced by anything that JSON can say."""
    rows, write = FORMATS[name]
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    write(folder, [value if whole else planted(rows[0], where, value), *rows[1:]])
    paths = [str(folder)]
    or_a_sentence(lambda: analyze(paths, AnalyzeRequest()))
    or_a_sentence(lambda: read_reruns(paths))
    or_a_sentence(lambda: list(map(imported, read_logs(paths, PLAIN)[1])))


PARTS = [
    "variants",
    "tasks",
    "t",
    "v",
    "metrics",
    "reruns",
    "items",
    "metric",
    "digest",
    "software",
    "versions",
    "skipped",
    "baseline",
    "format",
    "sampling",
    "prompt",
    "subset",
    "definition",
    "engine",
    "model",
    "stopping",
    "chosen_by",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run, and its manifest."""
    task = MadeTask({("base", 0.0): [[1, 0, 1]], ("v", 0.0): [[1, 1, 0]]})
    folder = make_run(tmp_path_factory.mktemp("fuzz") / "run", {"t": task})
    return folder, json.loads((folder / "manifest.json").read_text())


@often
@given(where=st.lists(st.sampled_from(PARTS), min_size=1, max_size=3), value=JSON)
def test_a_submit_reads_a_damaged_manifest_or_names_it(run, where, value):
    """It lays its own manifest over the one that is there."""
    folder, good = run
    (folder / "manifest.json").write_text(json.dumps(planted(good, where, value)))

    def submit():
        old = RunStore(folder).read_manifest()
        refuse_reused_in([old], "base")
        manifests.version_changes(old, good)
        manifests.merge(old, good, "lldeg submit")

    or_a_sentence(submit)
