"""Direction and range of scores: what is known, what is said, and what is refused."""

import json

import numpy as np
import pytest
from analyze_runner import run_analyze
from lm_eval_maker import write_results, write_samples
from standin.runs import MadeTask, make_run

from jobs.formats.metrics import certain_range, known_metric


def table(path, base, variant, task="t", **columns):
    """A score table of two models; `columns` are constant."""
    tail = "".join(f",{value}" for value in columns.values())
    rows = ["model,task,prompt_id,score" + "".join(f",{name}" for name in columns)]
    for model, scores in (("base", base), ("v", variant)):
        rows += [f"{model},{task},{i},{score}{tail}" for i, score in enumerate(scores)]
    path.write_text("\n".join(rows) + "\n")
    return path


def perplexities(items=200):
    """Perplexities around 6, and the same ten per cent higher."""
    base = np.random.default_rng(3).uniform(4.0, 8.0, items)
    return base.round(3).tolist(), (1.1 * base).round(3).tolist()


def grades(items=400):
    """A judge's grades from 1 to 10, and the same with one grade less on every fourth."""
    base = np.random.default_rng(4).integers(2, 11, items)
    return base.tolist(), (base - (np.arange(items) % 4 == 0)).tolist()


def test_a_perplexity_that_rises_is_worse(tmp_path):
    """Ten per cent more perplexity is DEGRADED: the metric's name says that lower is better."""
    ran = run_analyze(table(tmp_path / "t.csv", *perplexities(), metric="perplexity"), out=tmp_path / "out")
    found = ran.comparison("v")
    assert (ran.code, found["verdict"]) == (1, "degraded")
    assert 0.5 < found["drop"] < 0.7
    assert "direction-by-name" in ran.verdicts["warning_codes"]
    assert found["tasks"][0]["higher_is_better"] is False


def test_a_score_without_a_known_range_is_refused_with_the_options(tmp_path):
    """Scores around 6 that nothing explains are not taken for percent: the sentence names both ways out."""
    ran = run_analyze(table(tmp_path / "t.csv", *perplexities()), out=tmp_path / "out")
    assert ran.code == 2
    assert "--range t=LOW..HIGH" in ran.error
    assert "--margin t=M" in ran.error


def test_scores_that_reach_a_hundred_are_percent(tmp_path):
    """Full marks of 100 occur, so the scores are percent, and it is said; without them they are refused."""
    base, worse = [100.0, 60.0, 80.0, 100.0] * 30, [100.0, 40.0, 80.0, 100.0] * 30
    ran = run_analyze(table(tmp_path / "t.csv", base, worse), out=tmp_path / "out")
    found = ran.comparison("v")
    assert found["drop"] == pytest.approx(0.05)
    assert found["tasks"][0]["range"] == [0.0, 100.0]
    assert "other-range" in ran.verdicts["warning_codes"]
    assert run_analyze(table(tmp_path / "u.csv", base[1:3] * 9, worse[1:3] * 9), out=tmp_path / "o").code == 2


@pytest.mark.parametrize(
    ("metric", "base", "worse"),
    [
        ("accuracy", [5, 4, 3, 2] * 60, [5, 4, 3, 1] * 60),  # grades from 1 to 5
        ("accuracy", [0.5, 1.0] * 120, [0.5, 1.0] * 119 + [0.5, 100.0]),  # one entry is wrong
        ("f1", [5, 4, 3, 2] * 60, [5, 4, 3, 1] * 60),
        ("error_rate", [0.2] * 240, [0.3] * 239 + [1.5]),
        ("hallucination", [1, 1, 2, 5] * 60, [1, 2, 2, 5] * 60),
        ("score", [100.0] + [5, 4, 3] * 80, [100.0] + [5, 4, 2] * 80),
    ],
)
def test_scores_are_percent_only_beyond_doubt(tmp_path, metric, base, worse):
    """Scores beyond their range that look like something else than percent are refused with the option."""
    path = table(tmp_path / "t.csv", base, worse, metric=metric)
    ran = run_analyze(path, "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, "--range t=LOW..HIGH" in ran.error) == (2, True)
    stated = run_analyze(path, "--range", "t=0..100", out=tmp_path / "out")
    assert stated.comparison("v")["tasks"][0]["range"] == [0.0, 100.0]


@pytest.mark.parametrize(
    ("metric", "scores"),
    [("accuracy", [0, 100] * 60), ("rougeL", [12.5, 61.3, 40.2] * 40), ("f1", [0, 80] * 60)],
)
def test_percent_beyond_doubt(tmp_path, metric, scores):
    """Full marks of 100, or a metric that is often given in percent far beyond any other scale."""
    ran = run_analyze(table(tmp_path / "t.csv", scores, scores, metric=metric), out=tmp_path / "out")
    assert ran.comparison("v")["tasks"][0]["range"] == [0.0, 100.0]
    assert "other-range" in ran.verdicts["warning_codes"]


def test_models_on_two_scales_are_not_compared(tmp_path):
    """Shares beside percent are no gain of the one in percent, unless the user says that they are percent."""
    right = [float(i % 3 > 0) for i in range(300)]
    path = table(tmp_path / "t.csv", right, [50 * score * (1 + i % 2) for i, score in enumerate(right)])
    refused = run_analyze(path, out=tmp_path / "out")
    assert (refused.code, "those of base at most 1" in refused.error) == (2, True)
    assert run_analyze(path, "--range", "t=0..100", out=tmp_path / "out").code == 0


def test_margins_by_task_are_said(tmp_path):
    """A certificate over tasks with margins of their own is not one without a margin."""
    base, _ = perplexities()
    paths = [table(tmp_path / f"{name}.csv", base, base, task=name, metric="perplexity") for name in "ab"]
    rows = [path.read_text().splitlines() for path in paths]
    (tmp_path / "t.csv").write_text("\n".join([*rows[0], *rows[1][1:]]) + "\n")
    margins = ("--margin", "a=0.2", "--margin", "b=0.3")
    ran = run_analyze(tmp_path / "t.csv", *margins, out=tmp_path / "out")
    assert ran.comparison("v")["verdict"] == "certified"
    assert ran.comparison("v")["reason_codes"][1] == "within-margin"
    assert "a drop as large as the margins of its tasks is ruled out" in " ".join(ran.text.split())


def test_a_word_error_rate_above_one_is_not_percent(tmp_path):
    """One sample with more insertions than words does not turn .244 → .274 into a certificate."""
    rng = np.random.default_rng(6)
    base = rng.uniform(0.1, 0.39, 400).round(3)
    worse = (base + 0.03 * (rng.random(400) < 0.5) + 0.03 * (rng.random(400) < 0.5)).round(3)
    worse[7] = 1.2
    path = table(tmp_path / "t.csv", base.tolist(), worse.tolist(), metric="word_error_rate")
    ran = run_analyze(path, "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, ran.comparison("v")["verdict"]) == (1, "degraded")
    flat = table(tmp_path / "u.csv", [*base.tolist(), 1.2], [*base.tolist(), 1.2], metric="word_error_rate")
    ran = run_analyze(flat, "--gate", "certified", out=tmp_path / "flat")
    assert (ran.code, ran.comparison("v")["verdict"]) == (3, "inconclusive")


BETTER_OR_WORSE = [1] * 13 + [0] * 87, [1] * 24 + [0] * 76
"""A rate of 13 % that becomes 24 %, on hundred items; three times as many decide."""


def rates(path, metric):
    """The same as a table with a metric."""
    return table(path, *(3 * scores for scores in BETTER_OR_WORSE), metric=metric)


@pytest.mark.parametrize(
    "metric", ["hallucination", "attack_success_rate", "false_positive_rate", "nll_per_token"]
)
def test_more_of_what_is_bad_is_worse(tmp_path, metric):
    """13 % → 24 % hallucinations are DEGRADED, never CERTIFIED, and a policy blocks them."""
    path = rates(tmp_path / "t.csv", metric)
    ran = run_analyze(path, "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, ran.comparison("v")["verdict"]) == (1, "degraded")
    assert "direction-by-name" in ran.verdicts["warning_codes"]
    policy = tmp_path / "policy.yaml"
    policy.write_text("tasks: {t: not-degraded}\n")
    assert run_analyze(path, "--policy", policy, out=tmp_path / "out").code == 1


@pytest.mark.parametrize("metric", ["refusal_rate", "quality"])
def test_nothing_is_certified_in_an_unknown_direction(tmp_path, metric):
    """A rise by 11 points is no certificate unless somebody says that higher is better; it is said why."""
    path = rates(tmp_path / "t.csv", metric)
    ran = run_analyze(path, "--gate", "certified", out=tmp_path / "out")
    found = ran.comparison("v")
    assert (ran.code, found["verdict"], found["items_needed"]) == (3, "inconclusive", None)
    assert found["reason_codes"][:2] == ["not-significant", "direction-unknown"]
    assert found["drop_interval_decision"][1] < 0.0  # whatever the margin
    assert ran.verdicts["warning_codes"] == ["direction-unknown"]
    assert "--lower-is-better t or --higher-is-better t" in " ".join(ran.text.split())
    assert run_analyze(path, out=tmp_path / "out").code == 0
    said = ("--gate", "certified", "--higher-is-better", "t")
    assert run_analyze(path, *said, out=tmp_path / "out").comparison("v")["verdict"] == "certified"
    assert run_analyze(path, "--lower-is-better", "t", out=tmp_path / "out").code == 1


@pytest.mark.parametrize("require", ["not-degraded", "certified"])
def test_no_policy_passes_in_an_unknown_direction(tmp_path, require):
    """A required task without a known direction is not enough evidence; a watched one is no obstacle."""
    path, policy = rates(tmp_path / "t.csv", "refusal_rate"), tmp_path / "policy.yaml"
    policy.write_text(f"tasks: {{t: {require}}}\n")
    assert run_analyze(path, "--policy", policy, out=tmp_path / "out").code == 3
    decision = json.loads((tmp_path / "out" / "decision.json").read_text())
    assert [reason["code"] for reason in decision["cases"][0]["reasons"]] == ["direction-unknown"]
    assert run_analyze(path, "--policy", policy, "--higher-is-better", "t", out=tmp_path / "out").code == 0


def test_one_task_in_an_unknown_direction_rules_out_the_whole(tmp_path):
    """Nine tasks with a known metric do not certify the tenth."""
    same = [1, 0] * 150
    path = rates(tmp_path / "t.csv", "quality")
    rows = [f"{model},u,{i},{score},acc" for model in ("base", "v") for i, score in enumerate(same)]
    path.write_text(path.read_text() + "\n".join(rows) + "\n")
    ran = run_analyze(path, "--gate", "certified", out=tmp_path / "out")
    found = ran.comparison("v")
    assert (ran.code, found["verdict"]) == (3, "inconclusive")
    assert [task["verdict"] for task in found["tasks"]] == ["inconclusive", "certified"]


def test_several_metrics_in_one_task_have_no_direction(tmp_path):
    """Their rows are one task, but of accuracies and hallucinations neither direction is meant."""
    lines = rates(tmp_path / "t.csv", "acc").read_text().split("\n")
    mixed = [line.replace(",acc", ",hallucination") if i % 2 else line for i, line in enumerate(lines)]
    (tmp_path / "t.csv").write_text("\n".join(mixed))
    ran = run_analyze(tmp_path / "t.csv", "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, ran.verdicts["warning_codes"]) == (3, ["direction-unknown"])


def test_the_import_makes_no_direction_known(tmp_path):
    """A run made of a table says as little of its metric as the table, and so does a task's name."""
    from typer.testing import CliRunner

    from jobs.cli import app

    path = rates(tmp_path / "t.csv", "quality")
    CliRunner().invoke(app, ["import", str(path), "--out", str(tmp_path / "run")])
    ran = run_analyze(tmp_path / "run", "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, ran.verdicts["warning_codes"]) == (3, ["direction-unknown"])
    path = table(tmp_path / "u.csv", [0.5] * 40, [0.4] * 40, task="val_loss")
    CliRunner().invoke(app, ["import", str(path), "--out", str(tmp_path / "other")])
    assert "--lower-is-better val_loss" in run_analyze(tmp_path / "other", out=tmp_path / "out").error


def test_the_direction_can_be_said(tmp_path):
    """--lower-is-better and a margin in the metric's own unit settle a score that nothing explains."""
    base, worse = perplexities()
    given = ("--lower-is-better", "t", "--margin", "t=0.1")
    worse_ran = run_analyze(table(tmp_path / "t.csv", base, worse), *given, out=tmp_path / "out")
    assert worse_ran.comparison("v")["verdict"] == "degraded"
    better_ran = run_analyze(table(tmp_path / "u.csv", worse, base), *given, out=tmp_path / "better")
    assert better_ran.comparison("v")["drop"] == pytest.approx(-worse_ran.comparison("v")["drop"])


def test_a_margin_in_the_metrics_own_unit_is_said_in_it(tmp_path):
    """A hundredth more perplexity is certified at a margin of 0.1, which is not called points."""
    base, _ = perplexities()
    rows = table(tmp_path / "t.csv", base, [round(b + 0.01, 3) for b in base], metric="perplexity")
    ran = run_analyze(rows, "--margin", "t=0.1", "--gate", "certified", out=tmp_path / "out")
    found = ran.comparison("v")
    assert (found["margin"], found["margin_unit"]) == (0.1, "metric")
    assert "0.1 (in units of perplexity)" in " ".join(ran.text.split())
    assert "0.1 points" not in ran.text


def test_without_a_margin_of_its_own_a_loss_is_never_certified(tmp_path):
    """A point of perplexity means nothing: without --margin t=M there is no certificate, and it is said."""
    base, _ = perplexities()
    ran = run_analyze(table(tmp_path / "t.csv", base, base, metric="loss"), out=tmp_path / "out")
    found = ran.comparison("v")
    assert (found["verdict"], found["margin"]) == ("inconclusive", None)
    assert "unbounded-without-margin" in found["reason_codes"]
    assert "--margin TASK=M" in ran.text


def test_grades_are_not_percent(tmp_path):
    """Grades from 1 to 10 are refused without their range; with it a quarter of a grade is 2.78 points."""
    path = table(tmp_path / "t.csv", *grades())
    assert run_analyze(path, out=tmp_path / "out").code == 2
    ran = run_analyze(path, "--range", "t=1..10", out=tmp_path / "out")
    found = ran.comparison("v")
    assert found["drop"] == pytest.approx(0.25 / 9)
    assert (ran.code, found["verdict"], found["tasks"][0]["range"]) == (1, "degraded", [1.0, 10.0])
    assert "1 point (0.09 on the scale from 1 to 10)" in " ".join(ran.text.split())


def test_columns_state_direction_and_range(tmp_path):
    """The columns higher_is_better and range say for a table what the options say."""
    base, lower = grades()
    path = table(tmp_path / "t.csv", lower, base, higher_is_better="false", range="1..10")
    found = run_analyze(path, out=tmp_path / "out").comparison("v")
    assert (found["verdict"], found["drop"]) == ("degraded", pytest.approx(0.25 / 9))


def test_the_import_keeps_direction_and_range(tmp_path):
    """A run made of a table has the table's direction and range in its manifest, and the same verdict."""
    from typer.testing import CliRunner

    from jobs.cli import app

    base, lower = grades()
    path = table(tmp_path / "t.csv", lower, base, higher_is_better="false", range="1..10")
    CliRunner().invoke(app, ["import", str(path), "--out", str(tmp_path / "run")])
    first = run_analyze(path, out=tmp_path / "a").comparison("v")
    second = run_analyze(tmp_path / "run", out=tmp_path / "b").comparison("v")
    assert (first["drop"], first["p_pooled"]) == (second["drop"], second["p_pooled"])


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"range": "0..5"}, (), "outside the range that the input states"),
        ({}, ("--range", "t=0..5"), "outside --range t"),
        ({"range": "0 to 10"}, (), "LOW..HIGH"),
        ({"higher_is_better": "perhaps", "range": "0..10"}, (), "write true or false"),
        ({"range": "0..10"}, ("--margin", "t=0.5"), "is a share of that"),
        ({"metric": "wer", "higher_is_better": "true"}, (), "--lower-is-better t"),
        ({"range": "0..10"}, ("--higher-is-better", "t", "--lower-is-better", "*"), "both name task t"),
        ({"range": "0..10"}, ("--lower-is-better", "u"), "matches no task: u"),
        ({"range": "0..10"}, ("--range", "t=10..0"), "LOW..HIGH"),
        ({"range": "0..10"}, ("--range", "t"), "KEY=VALUE"),
        ({"range": "0..10"}, ("--margin", "0"), "positive number"),
        ({"range": "0..10"}, ("--margin", "0.01", "--margin", "0.02"), "given twice"),
        ({"range": "0..10"}, ("--margin", "1.5"), "between 0 and 1"),
    ],
)
def test_contradictions_are_refused(tmp_path, columns, options, said):
    """What cannot be read, or says two things, ends in a sentence with what to do."""
    ran = run_analyze(table(tmp_path / "t.csv", *grades(), **columns), *options, out=tmp_path / "out")
    assert (ran.code, said in ran.error) == (2, True)


def test_two_tables_must_agree(tmp_path):
    """Models that were scored on different scales are not paired."""
    for name, limits in (("base", "0..10"), ("v", "0..100")):
        rows = [f"{i},{i % 10},{limits}" for i in range(40)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["prompt_id,score,range", *rows]) + "\n")
    ran = run_analyze(tmp_path / "base.csv", tmp_path / "v.csv", out=tmp_path / "out")
    assert (ran.code, "disagree on the range" in ran.error) == (2, True)


def test_a_name_that_suggests_the_other_direction_is_not_passed_over(tmp_path):
    """A task called val_loss with scores between 0 and 1 and nothing else said could be read both ways."""
    path = table(tmp_path / "t.csv", [0.5] * 40, [0.4] * 40, task="val_loss")
    assert "--lower-is-better val_loss" in run_analyze(path, out=tmp_path / "out").error
    ran = run_analyze(path, "--lower-is-better", "val_loss", out=tmp_path / "out")
    assert ran.comparison("v")["drop"] == pytest.approx(-0.1)


def test_all_tasks_without_a_range_are_named_at_once(tmp_path):
    """Two tasks that need a range are two sentences in one refusal."""
    rows = [f"{m},{t},{i},{i}" for m in ("base", "v") for t in ("one", "two") for i in range(30)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["model,task,prompt_id,score", *rows]) + "\n")
    ran = run_analyze(path, out=tmp_path / "out")
    assert "--range one=" in ran.error
    assert "--range two=" in ran.error
    assert run_analyze(path, "--range", "*=0..29", out=tmp_path / "out").code == 0


def test_a_share_in_the_unit_range_stays_what_it_was(tmp_path):
    """Scores between 0 and 1 need nothing said, and no warning is made of them."""
    ran = run_analyze(table(tmp_path / "t.csv", [1, 0] * 40, [1, 0] * 40), out=tmp_path / "out")
    assert (ran.code, ran.verdicts["warnings"]) == (0, [])
    assert ran.comparison("v")["tasks"][0]["range"] == [0.0, 1.0]


def test_the_log_likelihoods_under_a_perplexity_go_up(tmp_path):
    """lm-eval logs a sample's log-likelihood as its perplexity: a lower one is worse."""
    likelihoods = np.random.default_rng(5).uniform(-9.0, -1.0, 60)
    for name, values in (("base", likelihoods), ("v", likelihoods - 0.5)):
        samples = [{"perplexity": value} for value in values.tolist()]
        path = write_samples(tmp_path / name, samples)
        rows = [json.loads(line) for line in path.read_text().strip().split("\n")]
        for row in rows:
            row |= {"metrics": ["perplexity"], **row.pop("exact_match")}
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert (ran.code, ran.comparison("v")["drop"]) == (1, pytest.approx(0.5))
    assert "log-likelihoods" in ran.verdicts["warning_codes"]


def test_results_that_contradict_each_other_are_refused(tmp_path):
    """lm-eval's own higher_is_better must be the same for both models."""
    for name, up in (("base", True), ("v", False)):
        write_samples(tmp_path / name, [0.5] * 30)
        path = write_results(tmp_path / name)
        content = json.loads(path.read_text())
        content["higher_is_better"]["gsm"]["exact_match"] = up
        path.write_text(json.dumps(content))
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert (ran.code, "disagree on whether higher or lower" in ran.error) == (2, True)


def test_a_run_says_the_direction_of_its_metrics(tmp_path):
    """The manifest's higher_is_better decides for a metric without a known name; a range in it, too."""
    task = MadeTask({("base", 0.0): [[2] * 40], ("v", 0.0): [[8] * 40]}, metrics={"penalty,none": False})
    run = make_run(tmp_path / "run", {"t": task})
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["tasks"]["t"]["metrics"]["penalty,none"]["range"] = "0..10"
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert run_analyze(run, out=tmp_path / "out").comparison("v")["drop"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    "name",
    ["perplexity", "word_perplexity,none", "valid_loss", "WER", "brier_score", "bits_per_byte",
     "error_rate", "character-error-rate", "hallucination", "judge.hallucination", "HalluRate",
     "attack_success_rate", "safety.attack_success", "false_positive_rate", "nll_per_token",
     "word_error_rate", "noise_sensitivity", "toxic_frac", "over_refusal_rate", "Levenshtein Distance"],
)  # fmt: skip
def test_names_that_go_down(name):
    """Metrics known to be better when lower, also as the end of a longer name and in any spelling."""
    assert known_metric(name)[0] is False


@pytest.mark.parametrize(
    "name",
    ["acc,none", "exact_match", "exact_match@5", "pass@1,create_test", "pass^4", "maj@n:n=8", "rougeL",
     "BERTScore-F", "NDCG@10", "quasi_prefix_exact_match", "model_graded_qa", "faithfulness", "F1 Score",
     "logprob_per_byte", "true_negative_rate", "reward"],
)  # fmt: skip
def test_names_that_go_up(name):
    """Metrics known to be better when higher, in the spelling of several tools."""
    assert known_metric(name)[0] is True


@pytest.mark.parametrize(
    "name",
    ["glossary", "parameter", "sweater", "judge", "refusal_rate", "compliance", "edit_distance", "asr",
     "no_hallucination", "neg_log_loss", "1-wer", "accuracy_gap", "quality_score", "attacker_success_rate"],
)  # fmt: skip
def test_names_that_do_not_tell(name):
    """Unlisted ones, negations, what only contains a known word, and what depends on the task."""
    assert known_metric(name)[0] is None


def test_the_list_agrees_with_lm_eval():
    """Every metric that lm-eval has a direction for is listed with the same one, but for its placeholder."""
    from lm_eval.api.registry import higher_is_better_registry as registry

    known = {name: known_metric(name)[0] for name in registry if name != "bypass"}
    assert known == {name: registry.get(name) for name in known}


def test_what_is_known_of_ranges():
    """Accuracies are shares; word error rates have no upper limit; BLEU has two scales in use."""
    assert known_metric("acc") == (True, ((0.0, 1.0),))
    assert known_metric("wer") == (False, ((float("-inf"), float("inf")),))
    assert known_metric("bleu") == (True, ((0.0, 1.0), (0.0, 100.0)))
    assert known_metric("judge") == (None, ())


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("acc,none", (0.0, 1.0)),
        ("exact_match_original,none", (0.0, 1.0)),
        ("prompt_level_strict_acc,none", (0.0, 1.0)),
        ("pass@1,create_test", (0.0, 1.0)),
        ("mcc", (-1.0, 1.0)),
        ("bleu", None),  # a share or percent
        ("f1", None),
        ("word_perplexity", None),
        ("impact", None),  # not an accuracy
    ],
)
def test_the_range_that_a_name_makes_certain(name, bounds):
    """Before any value has been seen, as a plan with looks needs it."""
    assert certain_range(name) == bounds


def test_a_margin_of_zero_is_refused_by_all(tmp_path):
    """A sweep's margin of 0 is refused by submit, analyze and view alike, never read as something else."""
    from pydantic import ValidationError

    from jobs.report.server import Catalog
    from orchestrator.config.schema import AnalysisConfig
    from orchestrator.errors import UserError

    task = MadeTask({("base", 0.0): [[1, 0] * 20], ("v", 0.0): [[1, 0] * 20]})
    run = make_run(tmp_path / "run", {"t": task}, analysis={"margin": 0})
    ran = run_analyze(run, out=tmp_path / "out")
    assert (ran.code, "analysis.margin of the sweep" in ran.error) == (2, True)
    (cached,) = Catalog([str(run)]).runs().values()
    with pytest.raises(UserError, match=r"analysis\.margin of the sweep"):
        cached.analyze()
    with pytest.raises(ValidationError):
        AnalysisConfig(margin=0)
    assert run_analyze(run, "--margin", "0.02", out=tmp_path / "out").code == 0


def test_the_page_takes_the_same_options(tmp_path):
    """The page reads a range like analyze does, so that a run of grades has one verdict."""
    from jobs.analysis.request import AnalyzeRequest
    from jobs.report.server import Catalog
    from jobs.scores.scales import scale_options

    base, lower = grades(40)
    run = make_run(tmp_path / "run", {"t": MadeTask({("base", 0.0): [base], ("v", 0.0): [lower]})})
    options = ("--range", "t=1..10", "--margin", "0.05")
    analyzed = run_analyze(run, *options, out=tmp_path / "out").verdicts
    share, scales = scale_options(None, None, ["t=1..10"], ["0.05"])
    request = AnalyzeRequest(margin=share, scales=scales)
    (cached,) = Catalog([str(run)], request).runs().values()
    assert json.loads(json.dumps(cached.analyze()[0]["verdicts"])) == analyzed
