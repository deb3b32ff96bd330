"""Files of other programs and of earlier runs, damaged in any way, are read or named in a sentence."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lm_eval_maker import write_results, write_samples
from standin.runs import MadeTask, make_run
from standin.strange import JSON, often, or_a_sentence, planted

from jobs.analysis.analyze import analyze
from jobs.analysis.request import AnalyzeRequest
from jobs.formats.metrics import read_metrics
from jobs.formats.samples import PLAIN
from jobs.formats.write_run import imported, read_logs
from jobs.report.server import Catalog
from jobs.scores.read import read_reruns
from orchestrator.sweep.item_subset import read_subset

pytestmark = pytest.mark.slow

ROW = ["doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "doc_hash", "prompt_hash", "filter",
       "metrics", "exact_match"]  # fmt: skip
RESULTS = ["configs", "gsm", "config", "higher_is_better", "n-shot", "n-samples", "model_name", "output_type",
           "generation_kwargs", "gen_kwargs", "metric_list", "group_subtasks", "exact_match"]  # fmt: skip


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Two folders as lm-eval leaves them: the sample file of one of them, and its results file."""
    folder = tmp_path_factory.mktemp("logged")
    for name in ("base", "v"):
        samples, results = write_samples(folder / name, [1.0, 0.0, 1.0]), write_results(folder / name)
    return [str(folder / "base"), str(folder / "v")], samples, results


def read_in_every_way(paths):
    """Scores, reruns and texts, each in its own way."""
    or_a_sentence(lambda: analyze(paths, AnalyzeRequest()))
    or_a_sentence(lambda: read_reruns(paths))
    or_a_sentence(lambda: list(map(imported, read_logs(paths, PLAIN)[1])))


@often
@given(where=st.lists(st.sampled_from(ROW), min_size=1, max_size=2), value=JSON)
def test_a_damaged_sample_of_lm_eval_is_read_or_named(logged, where, value):
    """Any part of it replaced by anything that JSON can say."""
    paths, samples, _ = logged
    write_samples(Path(paths[1]), [1.0, 0.0, 1.0])
    first, *others = samples.read_text().split("\n")
    samples.write_text("\n".join([json.dumps(planted(json.loads(first), where, value)), *others]))
    read_in_every_way(paths)


@often
@given(where=st.lists(st.sampled_from(RESULTS), min_size=1, max_size=4), value=JSON)
def test_damaged_results_of_lm_eval_are_read_or_named(logged, where, value):
    """Any part of the file that says how the samples were made."""
    paths, _, results = logged
    write_samples(Path(paths[1]), [1.0, 0.0, 1.0])
    content = json.loads(write_results(Path(paths[1])).read_text())
    results.write_text(json.dumps(planted(content, where, value)))
    read_in_every_way(paths)


LINES = st.lists(
    st.one_of(JSON.map(lambda tree: json.dumps(tree).encode()), st.binary(max_size=50)), max_size=3
)


@often
@given(content=st.one_of(st.binary(max_size=200), LINES.map(b"\n".join)))
@pytest.mark.parametrize("name", ["samples", "results"])
def test_any_bytes_in_place_of_a_log_are_read_or_named(logged, name, content):
    """Lines of JSON that is no sample, and what is not even text."""
    paths, samples, results = logged
    write_samples(Path(paths[1]), [1.0, 0.0, 1.0])
    write_results(Path(paths[1]))
    (samples if name == "samples" else results).write_bytes(content)
    read_in_every_way(paths)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run."""
    task = MadeTask({("base", 0.0): [[1, 0, 1]], ("v", 0.0): [[1, 1, 0]]})
    return make_run(tmp_path_factory.mktemp("fuzz") / "run", {"t": task})


@often
@given(where=st.sampled_from(["name", "baseline", "analysis", "tasks", "variants"]), value=JSON)
def test_a_damaged_sweep_is_read_or_named(run, where, value):
    """The copy of the configuration in a run, which says the baseline, the level and the margin."""
    (run / "sweep.yaml").write_text(json.dumps({"name": "s", "baseline": "base", where: value}))
    or_a_sentence(lambda: analyze([str(run)], AnalyzeRequest()))
    (viewed,) = Catalog([str(run)]).runs().values()
    or_a_sentence(viewed.analyze)


@often
@given(
    name=st.sampled_from(["status.json", "events.jsonl", "lease.json"]),
    content=st.one_of(st.binary(max_size=200), LINES.map(b"\n".join)),
)
def test_damaged_logs_of_a_run_change_no_answer(lldeg, run, name, content):
    """They inform only: what is done is counted from the samples."""
    (run / "logs").mkdir(exist_ok=True)
    (run / "logs" / name).write_bytes(content + b"\n")
    (run / "sweep.yaml").write_text(yaml.safe_dump({"name": "s", "baseline": "base"}))
    for arguments in (["status", run], ["status", run, "--format", "json"], ["logs", run]):
        assert lldeg(*arguments).status == 0


@often
@given(
    st.one_of(st.binary(max_size=100), JSON.map(lambda tree: json.dumps(tree).encode())).filter(
        lambda content: b'"/"' not in content and b'".."' not in content  # the whole disk
    )
)
def test_any_file_that_is_named_is_read_or_named(tmp_path, content):
    """Lists of models, metrics and items."""
    path = tmp_path / "list.json"
    path.write_bytes(content)
    or_a_sentence(lambda: analyze([str(path)], AnalyzeRequest()))
    or_a_sentence(lambda: read_metrics(path))
    or_a_sentence(lambda: read_subset(path))
