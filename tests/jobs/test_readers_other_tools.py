"""`lldeg` on output of evalscope, HELM and Every Eval Ever, with numbers counted from the files."""

import json
import random

import pytest
import yaml
from analyze_runner import run_analyze

from jobs.formats.samples import PLAIN
from jobs.formats.write_run import imported, read_logs
from jobs.scores.read import read_reruns, read_scores
from orchestrator.errors import UserError

ITEMS = 40


def write_lines(path, rows):
    """Write JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_object(path, content):
    """Write one JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def only_column(table):
    """The column of a task that has one."""
    (column,) = table.columns.values()
    return column


def evalscope(folder, model, scores, repeats=1, temperature=0.7):
    """An output folder: rows in random order, `repeats` of each item."""
    rows = [
        {
            "index": item * repeats + repeat,
            "target": "4",
            "messages": [{"role": "user", "content": f"ask {item}"}, {"role": "assistant", "content": "4"}],
            "sample_score": {
                "score": {"value": {"acc": score}, "prediction": f"says {score}", "main_score_name": "acc"},
                "sample_id": item * repeats + repeat,
                "group_id": item,
                "sample_metadata": {"subject": f"s{item % 3}"},
            },
        }
        for item, of_item in enumerate(scores)
        for repeat, score in enumerate(of_item)
    ]
    random.Random(0).shuffle(rows)
    write_lines(folder / "reviews" / model / "gsm8k_main.jsonl", rows)
    config = folder / "configs" / "task_config.yaml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(yaml.safe_dump({"model": model, "generation_config": {"temperature": temperature}}))
    return folder


def test_evalscope_is_compared(tmp_path):
    """Two output folders are two models; drop, items, temperature and clusters are those of the files."""
    rng = random.Random(1)
    scores = {m: [[float(rng.random() < p)] for _ in range(ITEMS)] for m, p in (("base", 0.8), ("int4", 0.6))}
    folders = [evalscope(tmp_path / model, model, of_model) for model, of_model in scores.items()]
    found = run_analyze(*folders, "--cluster", "subject", out=tmp_path / "out").comparison("int4", 0.7)
    right = {model: sum(score for (score,) in of_model) for model, of_model in scores.items()}
    assert (found["items"], found["clusters"]) == (ITEMS, 3)
    assert found["drop"] == pytest.approx((right["base"] - right["int4"]) / ITEMS, abs=1e-12)


def test_repeats_of_evalscope_are_reruns(tmp_path):
    """Rows of one group are ordered by index, whatever their order in the file."""
    scores = [[float((item + repeat) % 2) for repeat in range(3)] for item in range(5)]
    (cell,) = read_reruns([str(evalscope(tmp_path, "m", scores, repeats=3))]).cells
    assert cell.scores.tolist() == scores


def helm(folder, model, scores, perturbation=None, trials=1):
    """A run folder: several statistics per instance, the request beside it."""
    name = f"mmlu:subject=law,model={model}"
    adapter = {"model": model, "temperature": 0.0, "num_train_trials": trials}
    write_object(folder / "run_spec.json", {"name": name, "adapter_spec": adapter})
    stats, states = [], []
    for item, of_item in enumerate(scores):
        for trial, score in enumerate(of_item):
            more = {} if perturbation is None else {"perturbation": {"name": perturbation}}
            values = {"num_references": 4.0, "exact_match": score, "quasi_exact_match": 1.0, "logprob": -3.0}
            stats.append(
                {
                    "instance_id": f"id{item}",
                    "train_trial_index": trial,
                    "stats": [{"name": {"name": k}, "count": 1, "mean": v} for k, v in values.items()],
                    **more,
                }
            )
            references = [{"output": {"text": t}, "tags": ["correct"] * (t == "B")} for t in "AB"]
            instance = {"id": f"id{item}", "input": {"text": f"q{item}"}, "references": references, **more}
            result = {"success": True, "completions": [{"text": " B"}]}
            request = {"prompt": f"few shots, q{item}"}
            states.append(
                {"instance": instance, "train_trial_index": trial, "request": request, "result": result}
            )
    write_object(folder / "per_instance_stats.json", stats)
    write_object(folder / "scenario_state.json", {"adapter_spec": adapter, "request_states": states})
    return folder


def test_helm_is_compared(tmp_path):
    """Run folders of two models on one scenario are one task; exact match is tested, tokens are no metric."""
    rng = random.Random(2)
    scores = {
        m: [[float(rng.random() < p)] for _ in range(ITEMS)] for m, p in (("a/base", 0.9), ("a/int4", 0.5))
    }
    for model, of_model in scores.items():
        helm(tmp_path / "runs" / model.replace("/", "_"), model, of_model)
    ran = run_analyze(tmp_path / "runs", out=tmp_path / "out")
    found = ran.comparison("a/int4", 0.0)
    right = {model: sum(score for (score,) in of_model) for model, of_model in scores.items()}
    assert found["drop"] == pytest.approx((right["a/base"] - right["a/int4"]) / ITEMS, abs=1e-12)
    assert [task["task"] for task in found["tasks"]] == ["mmlu:subject=law"]
    assert found["tasks"][0]["metric"] == "exact_match"


def test_texts_of_helm_are_imported(tmp_path):
    """Prompt, correct reference and completion come from the scenario's state; only scores are metrics."""
    _, (task,) = read_logs([str(helm(tmp_path / "run", "m", [[1.0]]))], PLAIN)
    entry, items, samples = imported(task)
    (item,), (row,) = items.to_pylist(), samples["m"].to_pylist()
    assert (item["prompt"], item["target"], row["response"]) == ("few shots, q0", "B", " B")
    assert list(entry["metrics"]) == ["exact_match,none", "quasi_exact_match,none"]


def test_train_trials_of_helm_are_reruns_and_perturbations_are_tasks(tmp_path):
    """Trials of an instance are averaged; perturbed instances do not mix with the originals."""
    helm(tmp_path / "plain", "m", [[1.0, 0.0]], trials=2)
    helm(tmp_path / "typos", "m", [[0.0, 0.0]], trials=2, perturbation="typos")
    tables = {table.info.name: only_column(table) for table in read_scores([str(tmp_path)]).tasks}
    assert tables["mmlu:subject=law"].scores.tolist() == [0.5]
    assert tables["mmlu:subject=law [typos]"].scores.tolist() == [0.0]


def every_eval_ever(folder, model, scores, **config):
    """A sample file and its aggregates."""
    rows = [
        {
            "model_id": model,
            "evaluation_name": "bench",
            "sample_id": f"s{item}",
            "sample_hash": f"h{item}",
            "input": {"raw": f"ask {item}", "reference": ["4"]},
            "output": {"raw": ["four"]},
            "evaluation": {"score": score, "is_correct": score > 0},
        }
        for item, score in enumerate(scores)
    ]
    result = {
        "evaluation_name": "bench",
        "metric_config": {"metric_id": "grade", "min_score": 0.0, "max_score": 5.0, **config},
        "generation_config": {"generation_args": {"temperature": 0.2}},
    }
    write_object(folder / "u.json", {"evaluation_results": [result]})
    return write_lines(folder / "u_samples.jsonl", rows)


def test_every_eval_ever_is_compared(tmp_path):
    """Metric, range and temperature come from the aggregates: a drop of 1 of 5 is a fifth."""
    files = [
        every_eval_ever(tmp_path / m, f"org/{m}", [s] * ITEMS) for m, s in (("base", 4.0), ("int4", 3.0))
    ]
    found = run_analyze(*files, out=tmp_path / "out").comparison("org/int4", 0.2)
    assert found["drop"] == pytest.approx(0.2)
    assert (found["tasks"][0]["metric"], found["tasks"][0]["range"]) == ("grade", [0.0, 5.0])


def test_a_stated_direction_turns_the_drop(tmp_path):
    """Where lower is better, a rise is the loss."""
    files = [
        every_eval_ever(tmp_path / m, f"org/{m}", [s] * ITEMS, lower_is_better=True)
        for m, s in (("base", 1.0), ("v", 2.0))
    ]
    assert run_analyze(*files, out=tmp_path / "out").comparison("org/v", 0.2)["drop"] == pytest.approx(0.2)


def test_other_documents_under_one_id_are_refused(tmp_path):
    """Sample hashes that differ prove that the models saw different data."""
    first = every_eval_ever(tmp_path / "a", "a", [1.0] * 3)
    second = every_eval_ever(tmp_path / "b", "b", [1.0] * 3)
    second.write_text(second.read_text().replace('"h1"', '"other"'))
    with pytest.raises(UserError, match="s1 of task bench is not the same for all models"):
        read_scores([str(first), str(second)])


@pytest.mark.parametrize("line", ["{", "[1]", '{"model_id": "m", "evaluation_name": "bench"}'])
def test_a_broken_line_is_named(tmp_path, line):
    """What is not a sample is said with its file and its line."""
    path = every_eval_ever(tmp_path / "a", "a", [1.0] * 3)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"Line 4 of .*u_samples\.jsonl"):
        read_scores([str(path)])
