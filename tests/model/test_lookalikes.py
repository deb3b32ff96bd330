"""On the real model: tasks shaped like lm-eval's most used ones, from a submit to a verdict for each."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from standin import reference
from standin.files import write_sweep
from standin.lookalikes import LENGTHS, write_lookalikes
from standin.machine import DTYPE
from standin.rows import block_files, identities, planned

pytestmark = pytest.mark.model

FAILING, SPANS, RULER = "like_failing", "like_spans", "like_ruler"
ENGINE = {
    "dtype": DTYPE,
    "max_model_len": 512,
    "block_size": 32,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 1 << 28,
}


@dataclass(frozen=True)
class Outcome:
    """One sweep over all look-alikes: what the commands said, rows by variant and task, lm-eval's results."""

    run: Path
    names: list
    submitted: tuple
    again: tuple
    rows: dict
    verdicts: dict
    told: dict


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, model_folder, command):
    """Two variants that differ in batch size, every look-alike, and an analysis."""
    folder = tmp_path_factory.mktemp("lookalikes")
    names = list(write_lookalikes(folder / "pack").values())
    lengths = {"metadata": {"max_seq_lengths": LENGTHS}}
    path = write_sweep(
        folder,
        model=str(model_folder),
        variants={"base": {}, "other": {"engine": {"max_num_seqs": 3}}},
        engine={"kind": "vllm", **ENGINE},
        confirm_run_unsafe_code=True,
        tasks=[{"task": name, **(lengths if name == RULER else {})} for name in names],
        cluster={"replicas": 1},
    )
    run = folder / "run"
    submitted = command.run("submit", path, "--run-dir", run, cwd=folder)
    again = command.run("submit", path, "--run-dir", run, cwd=folder)
    command.run("analyze", run, "--margin", "like_wikitext=0.1", "--margin", "like_lambada=0.1", cwd=folder)
    rows = defaultdict(list)
    for file in block_files(run):
        variant, task = (part.partition("=")[2] for part in file.parts[-3:-1])
        found = pq.read_table(file, partitioning=None).to_pylist()
        rows[variant, task] += [{**row, "task": task} for row in found]
    scored = [name for name in names if name != FAILING]
    told = {
        variant: reference.results(
            reference.Replay([row for (of, task), found in rows.items() if of == variant for row in found]),
            folder / "pack",
            scored,
            tokenizer=str(model_folder),
            max_seq_lengths=LENGTHS,
        )
        for variant in ("base", "other")
    }
    verdicts = json.loads((run / "analysis" / "verdicts.json").read_text())
    return Outcome(run, names, submitted, again, dict(rows), verdicts, told)


def manifest(outcome):
    """The run's manifest."""
    return json.loads((outcome.run / "manifest.json").read_text())


def test_every_sample_is_there_once(outcome):
    """The submit ends well, and the rows are those of the plan."""
    assert outcome.submitted[0] == 0, outcome.submitted[2]
    assert identities(outcome.run) == planned(outcome.run)


def test_every_answer_has_the_score_that_decides(outcome):
    """But for the documents that the task's own code cannot score: they are errors with its reason."""
    for (variant, task), rows in outcome.rows.items():
        decides = manifest(outcome)["tasks"][task]["metric"]
        for row in rows:
            if task == FAILING and row["item"] % 2:
                assert row["error"] == "scoring: ZeroDivisionError: this document has no score"
            else:
                assert row["error"] is None, (variant, task, row["error"])
                assert decides is None or row["scores"][decides] is not None


def test_the_scores_are_lm_evals(outcome):
    """Each number that lm-eval gives for the same answers stands in the row, and the manifest lists it."""
    for (variant, task), found in outcome.rows.items():
        rows = {row["item"]: row["scores"] for row in found}
        for sample in outcome.told[variant]["samples"].get(task, []):
            for metric in sample["metrics"]:
                key, value = f"{metric},{sample['filter']}", sample[metric]
                if isinstance(value, (int, float)) and value != -1:
                    assert rows[sample["doc_id"]][key] == pytest.approx(value, rel=1e-9, abs=1e-9)
                    assert key in manifest(outcome)["tasks"][task]["metrics"]


def test_the_aggregates_are_lm_evals(outcome):
    """Perplexities, BLEU, F1 and the scores of each length equal lm-eval's for the same answers."""
    rows = json.loads((outcome.run / "aggregates.json").read_text())
    found = defaultdict(dict)
    for row in rows:
        found[row["variant"], row["task"]][row["metric"]] = row["value"]
    shapes = {"like_wikitext": 3, "like_flores": 4, "like_cola": 3, SPANS: 1, RULER: 2, "like_lambada": 1}
    assert {task: len(found["base", task]) for task in shapes} == shapes
    for (variant, task), aggregates in found.items():
        results = outcome.told[variant]["results"][task]
        assert aggregates == pytest.approx({key: results[key] for key in aggregates}, rel=1e-9)


def test_every_task_has_a_paired_verdict(outcome):
    """But for the one whose score exists only over a corpus, which is said."""
    (comparison,) = outcome.verdicts["comparisons"]
    paired = {task["task"]: task["items"] for task in comparison["tasks"]}
    assert paired.keys() == set(outcome.names) - {SPANS}
    assert all(paired.values())
    assert "no-testable-metric" in outcome.verdicts["warning_codes"]
    assert "corpus-scores" in outcome.verdicts["warning_codes"]


def test_the_submit_says_what_cannot_be_tested_and_what_failed(outcome):
    """Metrics of a corpus are named before the sweep starts, failed samples at its end."""
    out = outcome.submitted[1]
    assert "like_spans: lm-eval computes span_f1 over a whole corpus; none of it can be tested." in out
    assert "sentence_bleu,none, a number per item, is tested" in out
    assert "4 samples failed" in out


def test_a_second_submit_does_not_forget_what_failed(outcome):
    """Nothing is run again, and the run is not called complete without its errors."""
    status, out, _ = outcome.again
    assert (status, "none new" in out, "4 samples failed" in out) == (0, True, True)
