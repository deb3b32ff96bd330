"""`lldeg` on logs of inspect_ai, with the numbers counted from the logs' own JSON."""

import json
import random
import zipfile

import pytest
from analyze_runner import run_analyze
from inspect_maker import ZSTANDARD, log, sample, write_eval, write_json

from jobs.formats.samples import PLAIN, InputQuery
from jobs.formats.write_run import imported, read_logs
from jobs.scores.read import read_reruns, read_scores
from orchestrator.errors import UserError

POINTS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}


def a_log(seed, model, **more):
    """Sixty string ids, three epochs, random grades."""
    rng = random.Random(seed)
    samples = [
        sample(f"q{i}", rng.choice("CCCPIN"), epoch=epoch, answer=rng.choice("abc"))
        for epoch in (1, 2, 3)
        for i in range(60)
    ]
    return log(samples, model=model, epochs=3, temperature=0.7, **more)


def means(content):
    """Mean score of each id, from the log's JSON."""
    found = {}
    for one in content["samples"]:
        found.setdefault(one["id"], []).append(POINTS[one["scores"]["match"]["value"]])
    return {identifier: sum(scores) / len(scores) for identifier, scores in found.items()}


@pytest.mark.parametrize("method", ["json", zipfile.ZIP_DEFLATED, ZSTANDARD])
def test_two_logs_are_compared(tmp_path, method):
    """Epochs are averaged, ids pair, and the drop is that of the JSON, however the log is stored."""
    contents = [a_log(1, "openai/base"), a_log(2, "openai/int4")]
    paths = []
    for content in contents:
        name = content["eval"]["model"].split("/")[1]
        if method == "json":
            paths.append(write_json(tmp_path / f"{name}.json", content))
        else:
            paths.append(write_eval(tmp_path / f"{name}.eval", content, method))
    found = run_analyze(*paths, out=tmp_path / "out").comparison("openai/int4", 0.7)
    base, int4 = map(means, contents)
    drop = sum(base[identifier] - int4[identifier] for identifier in base) / 60
    assert (found["items"], found["reruns"]) == (60, [3, 3])
    assert found["drop"] == pytest.approx(drop, abs=1e-12)


def test_a_folder_of_logs_is_compared_by_model(tmp_path):
    """Logs of two models and two tasks in one folder are two models."""
    for model in ("a", "b"):
        for task in ("s", "t"):
            write_eval(tmp_path / f"{model}{task}.eval", log([sample(1, "C")], task=task, model=model))
    read = read_scores([str(tmp_path)])
    assert (read.models, [table.info.name for table in read.tasks]) == (("a", "b"), ["s", "t"])


def test_the_same_model_in_two_logs_is_named_by_file(tmp_path):
    """Two versions behind one model name are told apart by their paths."""
    paths = [write_json(tmp_path / f"{name}.json", log([sample(1, "C")])) for name in ("before", "after")]
    assert read_scores([str(path) for path in paths]).models == ("before.json", "after.json")


def test_a_failed_sample_is_missing(tmp_path):
    """An error and a NaN are samples without a score, never wrong answers."""
    samples = [
        sample(1, "C"),
        sample(2, "C", error={"message": "timeout"}),
        sample(3, float("nan")),
        {**sample(4, "I"), "scores": {}},
    ]
    (table,) = read_scores([str(write_json(tmp_path / "a.json", log(samples)))]).tasks
    (column,) = table.columns.values()
    assert (column.answers.tolist(), column.errors) == ([1, 0, 0, 0], 3)


def test_several_scorers_and_mappings_are_metrics(tmp_path):
    """A mapping is a metric per key, "scorer.key"; --metric chooses, and else the others are named."""
    one = sample(1, {"f1": 0.25, "em": 0}, scorer="squad")
    one["scores"]["match"] = {"value": "C"}
    path = str(write_json(tmp_path / "a.json", log([one])))
    for metric, score in (("squad.f1", 0.25), ("squad.em", 0.0), ("match", 1.0)):
        (table,) = read_scores([path], InputQuery({"arc": metric})).tasks
        (column,) = table.columns.values()
        assert column.scores.tolist() == [score]
    (notice,) = read_scores([path]).warnings
    assert notice.code == "other-metrics"
    assert "squad.f1" in notice.text
    assert "match" in notice.text


@pytest.mark.parametrize(("metric", "is_known"), [("accuracy", True), ("mean", None)])
def test_a_scorer_whose_mean_is_an_accuracy_is_better_when_higher(tmp_path, metric, is_known):
    """The log's results say so of a scorer of any name, and of the keys of one that gives several scores."""
    listed = [{"name": "graded", "scorer": "graded"}, {"name": "tone", "scorer": "graded"}]
    results = {"scores": [{**one, "metrics": {metric: {"value": 1.0}}} for one in listed]}
    for value, name in (("C", "graded"), ({"tone": 1}, "graded.tone")):
        content = {"results": results, **log([sample(1, value, scorer="graded")])}
        (table,) = read_scores([str(write_json(tmp_path / "a.json", content))]).tasks
        assert (table.info.metric, table.info.stated.higher_is_better) == (name, is_known)
        assert table.info.is_direction_known is bool(is_known)


def test_an_unfinished_log_is_noticed(tmp_path):
    """A cancelled evaluation is said, and the items it did not reach are counted."""
    content = log([sample(1, "C")], status="cancelled")
    content["eval"]["dataset"]["sample_ids"] = [1, 2, 3]
    read = read_scores([str(write_json(tmp_path / "a.json", content))])
    assert [notice.code for notice in read.warnings] == ["cut-short"]
    assert read.tasks[0].unlisted == {"openai/m": 2}


def test_of_a_retried_log_the_last_counts(tmp_path):
    """Two attempts at one task id are one evaluation."""
    for name, value in (("1", "I"), ("2", "C")):
        content = log([sample(1, value)], task_id="same", created=f"2025-01-0{name}")
        write_eval(tmp_path / f"{name}.eval", content)
    (table,) = read_scores([str(tmp_path)]).tasks
    (column,) = table.columns.values()
    assert (column.scores.tolist(), column.reruns) == ([1.0], 1)


def test_of_several_logs_in_a_folder_the_newest_counts(tmp_path):
    """Two logs of one model and task with the same settings: the older one is left out, and that is said."""
    for name, value in (("1", "I"), ("2", "C")):
        content = log([sample(1, value)], task_id=name, created=f"2025-01-0{name}")
        write_eval(tmp_path / f"{name}.eval", content)
    read = read_scores([str(tmp_path)])
    (column,) = read.tasks[0].columns.values()
    assert (column.scores.tolist(), column.reruns) == ([1.0], 1)
    assert [notice.code for notice in read.warnings] == ["older-results"]


def test_flips_count_all_logs_of_a_folder(tmp_path):
    """There they are the reruns that are asked for."""
    for name, value in (("1", "I"), ("2", "C")):
        write_eval(tmp_path / f"{name}.eval", log([sample(1, value)], task_id=name))
    (cell,) = read_reruns([str(tmp_path)]).cells
    assert sorted(cell.scores.tolist()[0]) == [0.0, 1.0]


def test_logs_with_other_settings_in_a_folder_are_refused(tmp_path):
    """Two temperatures are neither reruns nor an older and a newer version."""
    for name, temperature in (("1", 0.0), ("2", 0.7)):
        content = log([sample(1, "C")], task_id=name, temperature=temperature)
        write_eval(tmp_path / f"{name}.eval", content)
    with pytest.raises(UserError, match="settings differ"):
        read_scores([str(tmp_path)])


@pytest.mark.slow
def test_a_large_json_log_is_read_in_pieces(tmp_path):
    """Samples that are longer than what is read at once, keys in another order, and escapes at the edges."""
    text = 'é\\\n"' * (1 << 18)
    content = log([sample(i, "C", answer=text + str(i)) for i in range(3)])
    order = ("version", "eval", "samples", "plan", "status")
    reordered = {name: content[name] for name in order}
    _, (task,) = read_logs([str(write_json(tmp_path / "a.json", reordered))], PLAIN)
    assert [row["response"] for row in imported(task)[2]["openai/m"].to_pylist()] == [
        text + str(i) for i in range(3)
    ]


def test_flips_between_epochs_are_counted(tmp_path):
    """Rerun by rerun: scores and whether the answer changed."""
    content = a_log(3, "m")
    (cell,) = read_reruns([str(write_eval(tmp_path / "a.eval", content))]).cells
    assert (cell.seeds, cell.scores.shape) == ((1, 2, 3), (60, 3))
    by_id = {(one["id"], one["epoch"]): one for one in content["samples"]}
    for row, identifier in enumerate(cell.items.tolist()):
        texts = [by_id[identifier, epoch]["output"]["completion"] for epoch in (1, 2, 3)]
        numbers = cell.answers[row].tolist()
        assert [a == b for a in numbers for b in numbers] == [a == b for a in texts for b in texts]


def test_an_imported_log_keeps_texts(tmp_path):
    """Prompt, target, response, epoch and finish reason; attachments are put in."""
    one = sample("x", "C", answer="attachment://h", attachments={"h": "forty-two"})
    _, (task,) = read_logs([str(write_json(tmp_path / "a.json", log([one], temperature=0.5)))], PLAIN)
    _, items, samples = imported(task)
    (row,) = samples["openai/m"].to_pylist()
    assert (row["response"], row["temperature"], row["finish_reason"]) == ("forty-two", 0.5, "stop")
    (item,) = items.to_pylist()
    assert (item["prompt"], item["target"], json.loads(item["doc"])["id"]) == ("question x", "4", "x")


def _broken(path, how):
    good = write_eval(path, log([sample(1, "C"), sample(2, "I")]))
    content = good.read_bytes()
    if how == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif how == "no header":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("samples/1_epoch_1.json", "{}")
    elif how == "no id":
        write_eval(path, log([sample(1, "C")]))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("samples/2_epoch_1.json", '{"epoch": 1}')
    elif how == "twice":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("samples/again.json", json.dumps(sample(1, "I")))
    elif how == "no scores":
        write_eval(path, log([{**sample(1, "C"), "scores": {}}]))
    elif how == "not JSON":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("samples/3_epoch_1.json", '{"id": 1')
    elif how == "scores are a list":
        write_eval(path, log([{**sample(1, "C"), "scores": ["C"]}]))
    elif how == "no samples":
        write_eval(path, log([]))
    return str(path)


@pytest.mark.parametrize(
    "how",
    ["cut short", "no header", "no id", "twice", "no scores", "scores are a list", "not JSON", "no samples"],
)
def test_a_broken_log_is_one_sentence(tmp_path, how):
    """Whatever is wrong is said with the file's name."""
    with pytest.raises(UserError) as refused:
        read_scores([_broken(tmp_path / "a.eval", how)])
    assert "a.eval" in str(refused.value) or "arc" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_damaged_zstandard_entry_is_refused(tmp_path):
    """Flipped bytes are found by the checksum."""
    path = write_eval(tmp_path / "a.eval", log([sample(1, "C")]), ZSTANDARD)
    content = bytearray(path.read_bytes())
    content[80] ^= 255
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="damaged"):
        read_scores([str(path)])
