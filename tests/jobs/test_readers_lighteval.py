"""`lldeg` on details of lighteval, with numbers counted from the rows.

The files are written here with the columns and types of those that lighteval 0.13 writes
(`EvaluationTracker.save` on `Doc` and `ModelResponse`), without the columns that are null throughout.
"""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from analyze_runner import run_analyze

from jobs.formats.samples import PLAIN
from jobs.formats.write_run import imported, read_logs
from jobs.scores.read import read_reruns, read_scores
from orchestrator.errors import UserError

ITEMS = 40
DATE = "2026-05-05T17-54-23.123456"


def row(identifier, metric, *, text=None, logprobs=(), subject="law"):
    """One detail: a generated text, or the log-likelihoods of two choices."""
    return {
        "doc": {
            "query": f"ask {identifier}",
            "choices": ["A", "B"],
            "gold_index": 1,
            "specific": {"subject": subject},
            "id": str(identifier),
            "task_name": "gsm8k|0",
            "num_samples": 1,
        },
        "metric": metric,
        "model_response": {
            "input": f"few shots, ask {identifier}",
            "input_tokens": [1, 2, 3],
            "text": [] if text is None else [text],
            "output_tokens": [[4, 5]],
            "logprobs": list(logprobs),
            "argmax_logits_eq_gold": [True, False] if logprobs else [],
        },
    }


def write(folder, model, rows, *, task="gsm8k|0", date=DATE, temperature=0.7):
    """A file of details and the results beside it."""
    path = folder / "details" / model / date / f"details_{task}_{date}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    results = folder / "results" / model / f"results_{date}.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    generation = {"temperature": temperature, "seed": 3}
    config = {"model_name": model, "model_config": {"generation_parameters": generation}}
    results.write_text(json.dumps({"config_general": config}))
    return path


def scored(seed, chance):
    """Rows in random order with a metric that is right with some chance."""
    rng = random.Random(seed)
    rows = [
        row(i, {"em": float(rng.random() < chance)}, text=f"says {i}", subject=f"s{i % 4}")
        for i in range(ITEMS)
    ]
    rng.shuffle(rows)
    return rows


def test_two_folders_are_compared(tmp_path):
    """Items pair by their id; model and temperature come from the results, clusters from the documents."""
    contents = {m: scored(m, p) for m, p in (("org/base", 0.9), ("org/int4", 0.5))}
    for model, rows in contents.items():
        write(tmp_path, model, rows)
    found = run_analyze(tmp_path, "--cluster", "subject", out=tmp_path / "out").comparison("org/int4", 0.7)
    right = {model: sum(r["metric"]["em"] for r in rows) for model, rows in contents.items()}
    assert (found["items"], found["clusters"]) == (ITEMS, 4)
    assert found["drop"] == pytest.approx((right["org/base"] - right["org/int4"]) / ITEMS, abs=1e-12)


def test_log_likelihoods_are_read_as_choices(tmp_path):
    """Answers are equal where the likeliest choice is; nothing is sampled, so the temperature is 0."""
    one = [row(0, {"acc": 1}, logprobs=(-1.0, -2.0)), row(1, {"acc": 0}, logprobs=(-3.0, -1.0))]
    two = [row(0, {"acc": 1}, logprobs=(-1.5, -2.5)), row(1, {"acc": 1}, logprobs=(-1.0, -3.0))]
    paths = [str(write(tmp_path / str(n), "m", rows)) for n, rows in enumerate((one, two))]
    (cell,) = read_reruns(paths).cells
    assert cell.temperature == 0.0
    assert [len(set(answers)) for answers in cell.answers.tolist()] == [1, 2]


def test_texts_are_imported(tmp_path):
    """Prompt, target, response, and the numbers of tokens."""
    _, (task,) = read_logs([str(write(tmp_path, "m", [row(7, {"em": 1.0}, text="B")]))], PLAIN)
    _, items, samples = imported(task)
    (item,), (sample,) = items.to_pylist(), samples["m"].to_pylist()
    assert (item["prompt"], item["target"], sample["response"]) == ("few shots, ask 7", "B", "B")
    assert (sample["prompt_tokens"], sample["output_tokens"]) == (3, 2)


def test_documents_of_several_splits_are_told_apart(tmp_path):
    """Each split is numbered from 0; documents of one number are different items."""
    first, second = row(0, {"em": 1.0}, text="x"), row(0, {"em": 0.0}, text="x")
    second["doc"]["query"] = "another question"
    (table,) = read_scores([str(write(tmp_path, "m", [first, second]))]).tasks
    assert len(table.items) == 2


def test_of_several_dates_the_newest_counts(tmp_path):
    """Details of one model and task in a folder are not pooled, and that is said."""
    for date, score in (("2026-01-01T00-00-00.1", 0.0), ("2026-02-01T00-00-00.1", 1.0)):
        write(tmp_path, "m", [row(0, {"em": score}, text="x")], date=date)
    read = read_scores([str(tmp_path)])
    (column,) = read.tasks[0].columns.values()
    assert (column.scores.tolist(), column.reruns) == ([1.0], 1)
    assert [notice.code for notice in read.warnings] == ["older-results"]


@pytest.mark.parametrize("how", ["cut short", "another table", "no rows", "not Parquet"])
def test_a_broken_file_is_one_sentence(tmp_path, how):
    """It names the file."""
    path = write(tmp_path, "m", [row(0, {"em": 1.0}, text="x")])
    if how == "cut short":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "another table":
        pq.write_table(pa.table({"doc": [1]}), path)
    elif how == "no rows":
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    else:
        path.write_text("{}")
    with pytest.raises(UserError, match=path.name.replace("|", r"\|")) as refused:
        read_scores([str(path)])
    assert "\n" not in str(refused.value)
