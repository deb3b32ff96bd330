"""`lldeg` on results.jsonl of verifiers and of NeMo Evaluator, with numbers counted from the rows.

Rows are written here with the fields that `save_outputs` of verifiers 0.1.14 writes, and with those of
`engine/eval_loop.py` and `engine/artifacts.py` of NeMo Evaluator 0.4, whose package needs a newer Python.
"""

import json
import random

import pytest
from analyze_runner import run_analyze

from jobs.formats.samples import PLAIN
from jobs.formats.write_run import imported, read_logs
from jobs.scores.read import read_reruns, read_scores
from orchestrator.errors import UserError

ITEMS = 40


def write(path, rows, beside, content):
    """JSON Lines, and a JSON file beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path.with_name(beside).write_text(json.dumps(content))
    return path


def rollout(example, reward, *, error=None, completion="4"):
    """A row of verifiers."""
    return {
        "example_id": example,
        "prompt": [{"role": "system", "content": "be brief"}, {"role": "user", "content": f"ask {example}"}],
        "completion": [{"role": "assistant", "content": completion}],
        "answer": "4",
        "info": {"subject": f"s{example % 4}"},
        "reward": reward,
        "error": error,
        "is_completed": True,
        "is_truncated": False,
        "stop_condition": "done",
        "metrics": {"correct": reward},
        "token_usage": {"input_tokens": 9.0, "output_tokens": 2.0},
    }


def verifiers(folder, model, rows, **more):
    """A run of verifiers in the folder that it makes."""
    metadata = {"env_id": "math", "model": model, "sampling_args": {"temperature": 0.7}, **more}
    name = f"math--{model.replace('/', '--')}"
    return write(folder / "evals" / name / "ab12cd34" / "results.jsonl", rows, "metadata.json", metadata)


def result(problem, reward, *, repeat=0, **details):
    """A row of NeMo Evaluator."""
    return {
        "problem_idx": problem,
        "repeat": repeat,
        "reward": reward,
        "scorer_rewards": {},
        "prompt": f"ask {problem}",
        "model_response": f"says {reward}",
        "extracted_answer": "4",
        "expected_answer": "4",
        "scoring_details": details,
        "metadata": {"category": f"c{problem % 4}"},
    }


def nemo(folder, model, rows, *, stamp="20260402T120000Z", **config):
    """A results folder of NeMo Evaluator."""
    bundle = {
        "timestamp": stamp,
        "config": {"benchmark": "mmlu_pro", "model": model, **config},
        "benchmark": {"name": "mmlu_pro", "scores": {}},
    }
    return write(folder / "mmlu_pro" / "results.jsonl", rows, f"eval-{stamp}-mmlu_pro.json", bundle)


def rewards(seed, chance):
    """Three rewards of each item."""
    rng = random.Random(seed)
    return [[float(rng.random() < chance) for _ in range(3)] for _ in range(ITEMS)]


def mean_drop(base, variant):
    """Mean difference, every item once."""
    return sum(sum(b) / len(b) - sum(v) / len(v) for b, v in zip(base, variant, strict=True)) / len(base)


def test_rollouts_of_verifiers_are_reruns(tmp_path):
    """Rows of one example are averaged; model, environment and temperature come from the metadata."""
    values = rewards(1, 0.8), rewards(2, 0.6)
    paths = []
    for model, of_model in zip(("org/base", "org/int4"), values, strict=True):
        rows = [rollout(i, r) for k in range(3) for i, r in enumerate(of[k] for of in of_model)]
        paths.append(verifiers(tmp_path / model.replace("/", "_"), model, rows))
    found = run_analyze(*paths, "--cluster", "subject", out=tmp_path / "out").comparison("org/int4", 0.7)
    assert (found["items"], found["reruns"], found["clusters"]) == (ITEMS, [3, 3], 4)
    assert found["drop"] == pytest.approx(mean_drop(*values), abs=1e-12)
    assert [(task["task"], task["metric"]) for task in found["tasks"]] == [("math", "reward")]


def test_a_failed_rollout_is_missing(tmp_path):
    """An error is a missing answer, whatever its reward."""
    rows = [rollout(0, 1.0), rollout(1, 0.0, error={"error": "ModelError"})]
    (table,) = read_scores([str(verifiers(tmp_path, "m", rows))]).tasks
    (column,) = table.columns.values()
    assert (column.answers.tolist(), column.errors) == ([1, 0], 1)


def test_texts_of_rollouts_are_imported(tmp_path):
    """The messages of the prompt, what the assistant said, target and tokens."""
    _, (task,) = read_logs([str(verifiers(tmp_path, "m", [rollout(3, 1.0, completion="four")]))], PLAIN)
    _, items, samples = imported(task)
    (item,), (sample,) = items.to_pylist(), samples["m"].to_pylist()
    assert json.loads(item["prompt"]) == [["system", "be brief"], ["user", "ask 3"]]
    assert (item["target"], sample["response"], sample["output_tokens"]) == ("4", "four", 2)


def test_without_metadata_the_folder_names_model_and_environment(tmp_path):
    """ENVIRONMENT--MODEL, as verifiers calls it."""
    path = verifiers(tmp_path, "org/base", [rollout(0, 1.0)])
    path.with_name("metadata.json").unlink()
    read = read_scores([str(path)])
    assert (read.models, read.tasks[0].info.name) == (("org/base",), "math")


def test_repeats_of_nemo_are_reruns(tmp_path):
    """`repeat` numbers them; benchmark, model and temperature come from the bundle."""
    values = rewards(3, 0.8), rewards(4, 0.6)
    folders = []
    for model, of_model in zip(("base", "int4"), values, strict=True):
        rows = [result(i, r, repeat=k) for i, of in enumerate(of_model) for k, r in enumerate(of)]
        random.Random(0).shuffle(rows)
        nemo(tmp_path / model, model, rows, temperature=0.6)
        folders.append(tmp_path / model)
    found = run_analyze(*folders, "--cluster", "category", out=tmp_path / "out").comparison("int4", 0.6)
    assert (found["items"], found["reruns"], found["clusters"]) == (ITEMS, [3, 3], 4)
    assert found["drop"] == pytest.approx(mean_drop(*values), abs=1e-12)
    assert found["tasks"][0]["task"] == "mmlu_pro"


def test_a_failed_problem_of_nemo_is_missing(tmp_path):
    """It has a reward of 0 there and a category of error; that is no wrong answer."""
    rows = [result(0, 1.0), result(1, 0.0, error="HTTP 500", error_category="infra_error")]
    (table,) = read_scores([str(nemo(tmp_path, "m", rows))]).tasks
    (column,) = table.columns.values()
    assert (column.answers.tolist(), column.errors) == ([1, 0], 1)


def test_flips_between_repeats_are_counted(tmp_path):
    """Rerun by rerun, with the seeds that `repeat` numbers."""
    rows = [result(i, float((i + k) % 2), repeat=k) for i in range(5) for k in range(2)]
    (cell,) = read_reruns([str(nemo(tmp_path, "m", rows))]).cells
    assert cell.seeds == (0, 1)
    assert cell.scores.tolist() == [[float(i % 2), float((i + 1) % 2)] for i in range(5)]


def test_of_several_results_of_nemo_the_newest_counts(tmp_path):
    """Two runs of one benchmark and model below a folder are not pooled."""
    nemo(tmp_path / "x", "m", [result(0, 0.0)], stamp="20260402T120000Z")
    nemo(tmp_path / "a", "m", [result(0, 1.0)], stamp="20260403T120000Z")
    read = read_scores([str(tmp_path)])
    (column,) = read.tasks[0].columns.values()
    assert (column.scores.tolist(), [notice.code for notice in read.warnings]) == ([1.0], ["older-results"])


@pytest.mark.parametrize(
    ("write_rows", "line", "said"),
    [
        (verifiers, '{"example_id": 1}', "it lacks example_id or reward"),
        (verifiers, '{"example_id": [1], "reward": 1}', "it lacks example_id or reward"),
        (verifiers, '{"example_id": 1, "reward": ', "not valid JSON"),
        (nemo, '{"problem_idx": 1}', "it lacks problem_idx or reward"),
        (nemo, '{"problem_idx": 1, "reward": 1, "repeat": "x"}', "does not conform"),
        (nemo, "[]", "is not a JSON object"),
    ],
)
def test_a_broken_line_is_named(tmp_path, write_rows, line, said):
    """What is not a result is said with its file, and what is wrong with it."""
    good = rollout(0, 1.0) if write_rows is verifiers else result(0, 1.0)
    path = write_rows(tmp_path, "m", [good])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=rf"results\.jsonl.*{said}") as refused:
        read_scores([str(path)])
    assert "\n" not in str(refused.value)
