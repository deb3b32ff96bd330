"""Scores that not every item has, that only an answer has told, or that exist only over a corpus."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from analyze_runner import run_analyze
from standin.files import GENERATE, questions, write_small_sweep, write_task
from standin.lookalikes import metrics
from standin.runs import MadeTask, cell_folder, make_run

from jobs.submit.progress import outcome_text
from orchestrator.errors import UserError
from orchestrator.rundir.lease import owner
from orchestrator.rundir.progress import SweepProgress
from orchestrator.rundir.schema import sample_schema, with_scores
from orchestrator.rundir.store import RunStore
from orchestrator.sweep.plan import plan_sweep
from orchestrator.sweep.prepare import prepare
from orchestrator.workers.execute import conclude

SCORES = [1] * 30 + [0] * 10
LONG, SHORT = "8192,none", "4096,none"


def rewrite(run, variant, task, change):
    """Replace the rows of a variant: `change` gets each as a dictionary."""
    store = RunStore(run)
    for file in sorted(cell_folder(run, variant, task).glob("*.parquet")):
        rows = [change(row) for row in pq.read_table(file, partitioning=None).to_pylist()]
        names = {name for row in rows for name in row["scores"] or {}}
        schema = sample_schema(sorted(names), ["none"])
        store.write_block(variant, task, file.stem, pa.Table.from_pylist(rows, schema=schema))


@pytest.fixture
def lengths(tmp_path):
    """A run whose first half of the items, and files, has one metric, and the second half another."""
    made = {("base", 0.0): [SCORES], ("other", 0.0): [SCORES]}
    task = MadeTask(made, {"own_score,none": True, SHORT: True, LONG: True})
    run = make_run(tmp_path / "run", {"ruler": task})

    def own(row):
        length = SHORT if row["item"] < len(SCORES) // 2 else LONG
        return row | {"scores": {name: row["scores"][name] for name in ("own_score,none", length)}}

    for variant in ("base", "other"):
        rewrite(run, variant, "ruler", own)
    return run


@pytest.mark.parametrize(("metric", "items"), [(None, 40), (SHORT, 20), (LONG, 20)])
def test_items_of_another_kind_are_left_out(lengths, tmp_path, metric, items):
    """A metric of one length is tested on the items of that length; the others are not missing answers."""
    asked = ("--metric", f"ruler={metric}") if metric else ()
    ran = run_analyze(lengths, *asked, out=tmp_path / "out")
    comparison = ran.comparison("other")
    assert (comparison["items"], comparison["missing_answers"]) == (items, [0, 0])
    assert comparison["failed_answers"] == [0, 0]
    assert ("other-items" in ran.verdicts["warning_codes"]) == (metric is not None)


def test_an_answer_without_a_score_of_its_own_kind_is_no_other_item(lengths, tmp_path):
    """An item that one model has a score of, and the other does not, is a failed answer."""
    rewrite(lengths, "other", "ruler", lambda row: row | {"scores": {SHORT: row["scores"].get(SHORT)}})
    ran = run_analyze(lengths, "--metric", f"ruler={SHORT}", out=tmp_path / "out")
    assert ran.comparison("other")["items"] == 20
    ran = run_analyze(lengths, out=tmp_path / "all")
    assert ran.error
    assert ran.code == 2


AGGREGATE = {
    "variant": "base", "task": "ruler", "temperature": 0.0, "seed": None, "metric": "bleu,none",
    "value": 12.3456789012345, "items": 40,
}  # fmt: skip


def test_scores_of_the_corpus_are_shown(lengths, tmp_path):
    """aggregates.csv has lm-eval's own scores as they are, and a warning names them."""
    RunStore(lengths).write_aggregates([AGGREGATE, AGGREGATE | {"variant": "other", "value": 11.5}])
    ran = run_analyze(lengths, out=tmp_path / "out")
    lines = (ran.out / "aggregates.csv").read_text().splitlines()
    assert lines[0] == ",".join(AGGREGATE)
    assert lines[1] == 'base,ruler,0.0,,"bleu,none",12.3456789012345,40'
    (said,) = [text for text in ran.verdicts["warnings"] if "lm-eval's own scores" in text]
    assert "ruler bleu,none at temperature 0: base 12.3457, other 11.5000" in said


@pytest.mark.parametrize(
    "text", ["[", "{}", "[1]", '[{"variant": "base"}]', str([{**AGGREGATE, "value": "x"}]).replace("'", '"')]
)
def test_damaged_scores_of_the_corpus_are_named(lengths, text):
    """One sentence that says which file; nothing is computed from it."""
    (lengths / "aggregates.json").write_text(text)
    with pytest.raises(UserError, match=r"aggregates\.json is damaged"):
        RunStore(lengths).read_aggregates()


def planned(path, run):
    """The plan of a sweep in a run directory."""
    return plan_sweep(prepare(path, run_dir=str(run)), config_path=path)


@pytest.fixture
def begun(tmp_path):
    """A run whose submit was killed after it had written a file, with an error and an unlisted score."""
    path, run = write_small_sweep(tmp_path), tmp_path / "run"
    plan = planned(path, run)
    plan.sweep.store.write_manifest(plan.manifest)
    (cell, *_) = plan.cells
    rows = [
        {"sample_key": f"{number:032x}", "scores": {"pass@1,number": 1.0}, "error": error}
        for number, error in enumerate([None, "scoring: MissingScoreError: none", None])
    ]
    schema = with_scores(plan.columns, ["pass@1,number"])
    table = pa.Table.from_pylist(rows, schema=schema)
    plan.sweep.store.write_block(cell.variant, cell.task, "0000000-0123456789ab", table)
    return path, run


def test_a_score_that_only_an_answer_told_is_listed_by_the_next_submit(begun):
    """Also if the submit that wrote it was killed before it could; later submits keep it."""
    path, run = begun
    plan = planned(path, run)
    assert plan.manifest["tasks"]["asked"]["metrics"]["pass@1,number"] == {"higher_is_better": True}
    assert next(iter(plan.manifest["tasks"]["asked"]["metrics"])) == "exact_match,number"
    plan.sweep.store.write_manifest(plan.manifest)
    for file in (run / "samples").rglob("*.parquet"):
        file.unlink()
    assert "pass@1,number" in planned(path, run).manifest["tasks"]["asked"]["metrics"]


def test_samples_that_failed_in_an_earlier_submit_are_said_at_the_end(begun):
    """A run does not call itself complete without them."""
    plan = planned(*begun)
    progress = SweepProgress(plan.initial_counts())
    for counts in progress.variants.values():
        counts.planned = counts.found
    assert "is complete" in outcome_text("run", progress)
    assert "1 sample failed; see the column error." in outcome_text("run", progress)


def test_a_dry_run_says_what_exists_only_over_a_corpus(lldeg, tmp_path):
    """With what is tested instead."""
    path = write_small_sweep(tmp_path)
    listed = [*metrics("bleu"), *metrics("ter", up=False)]
    write_task(tmp_path / "pack", "asked", questions(6), **{**GENERATE, "metric_list": listed})
    said = " ".join(lldeg("submit", path, "--dry-run").out.split())
    assert "asked: lm-eval computes bleu, ter over a whole corpus; sentence_bleu,number, a number" in said


@pytest.fixture
def concluded(tmp_path):
    """Concludes a submit that has written its answers, as one of a name; returns its notes; and the store."""
    listed = [*metrics("bleu"), *metrics("ter", up=False)]
    path, run = write_small_sweep(tmp_path), tmp_path / "run"
    write_task(tmp_path / "pack", "asked", questions(2), **{**GENERATE, "metric_list": listed})
    plan = planned(path, run)
    store = plan.sweep.store
    store.write_manifest(plan.manifest)
    pair = '{"bleu,number": ["one two three four", "one two three four"]}'
    texts = {0: pair, 1: "[forged", 2: "7"}
    rows = [{"item": i, "temperature": 0.0, "corpus_values": text} for i, text in texts.items()]
    table = pa.Table.from_pylist(rows, schema=plan.columns)
    store.write_block("base", "asked", "0000000-0123456789ab", table)

    def conclude_as(holder):
        progress = SweepProgress(plan.initial_counts())
        conclude(plan, progress, holder)
        return progress.notes

    return conclude_as, store


def test_what_a_scoring_process_forges_is_left_out_of_the_aggregates(concluded):
    """BLEU is computed from the item whose values are as they should be."""
    conclude_as, store = concluded
    assert conclude_as(owner(store)) == []
    (row,) = store.read_aggregates()
    assert (row["metric"], row["value"], row["items"]) == ("bleu,number", pytest.approx(100.0), 1)


def test_damaged_aggregates_are_computed_again(concluded):
    """A submit does not end over a file that it can make anew."""
    conclude_as, store = concluded
    store.local_folder.joinpath("aggregates.json").write_text("[")
    assert conclude_as(owner(store)) == []
    assert len(store.read_aggregates()) == 1


def test_a_submit_that_has_lost_the_run_concludes_nothing(concluded):
    """What stands in the run is another's."""
    conclude_as, store = concluded
    assert conclude_as("somebody else") == []
    assert store.read_aggregates() == []


def test_a_storage_that_fails_at_the_end_is_noted(concluded, monkeypatch):
    """The samples are there; the next submit aggregates them."""
    conclude_as, store = concluded

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(RunStore, "write_aggregates", fail)
    assert conclude_as(owner(store)) == [
        "scores of corpora were not written (OSError: disk full): submit again"
    ]
