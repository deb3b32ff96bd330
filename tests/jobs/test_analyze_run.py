"""`lldeg analyze` on run directories."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from analyze_runner import run_analyze
from standin.runs import MadeTask, cell_folder, make_run, write_block

GOOD, BAD = [1] * 60 + [0] * 40, [1] * 30 + [0] * 70


def answer_again(run, task, score):
    """Add one more sample of v for the first item of t, in a file that is the last in the order of names."""
    write_block(run, "t", task, "v", "z", [(0, 0.0, None, score)])


def two_variants(**details):
    """A task on which `same` equals the baseline and `worse` lost 30 of 100 items."""
    scores = {("base", 0.0): [GOOD], ("same", 0.0): [GOOD], ("worse", 0.0): [BAD]}
    return MadeTask(scores, **details)


def test_a_real_drop_is_degraded_and_exits_1(tmp_path):
    """A variant that loses 30 of 100 items and wins none is DEGRADED; the exit status says so."""
    run = make_run(tmp_path / "run", {"sums": two_variants()})
    ran = run_analyze(run, out=tmp_path / "out")
    assert ran.code == 1
    worse = ran.comparison("worse")
    assert (worse["verdict"], worse["worse"], worse["better"]) == ("degraded", 30, 0)
    assert worse["drop"] == 0.3
    assert worse["p_pooled"] == pytest.approx(2.0**-30, rel=1e-9)


def test_no_drop_exits_0(tmp_path):
    """Where nothing is worse the exit status is 0, certified or not."""
    task = MadeTask({("base", 0.0): [GOOD], ("same", 0.0): [GOOD]})
    ran = run_analyze(make_run(tmp_path / "run", {"sums": task}), out=tmp_path / "out")
    assert (ran.code, ran.comparison("same")["p_pooled"]) == (0, 1.0)


def test_gate_certified_exits_3_when_undecided(tmp_path):
    """--gate certified turns an inconclusive variant into exit status 3."""
    task = MadeTask({("base", 0.0): [GOOD], ("same", 0.0): [GOOD]})
    run = make_run(tmp_path / "run", {"sums": task})
    ran = run_analyze(run, "--gate", "certified", "--margin", "0.001", out=tmp_path / "out")
    assert (ran.comparison("same")["verdict"], ran.code) == ("inconclusive", 3)


def test_gate_certified_exits_0_when_all_is_certified(tmp_path):
    """--gate certified passes a variant that is non-inferior within the margin."""
    task = MadeTask({("base", 0.0): [GOOD * 5], ("same", 0.0): [GOOD * 5]})
    run = make_run(tmp_path / "run", {"sums": task})
    ran = run_analyze(run, "--gate", "certified", "--margin", "0.05", out=tmp_path / "out")
    assert (ran.comparison("same")["verdict"], ran.code) == ("certified", 0)


def test_reruns_are_averaged_not_collapsed(tmp_path):
    """Baseline right 9 of 10, variant 3 of 10 on every item is a drop of 0.6, not a tie."""
    base = [[1] * 20] * 9 + [[0] * 20]
    variant = [[1] * 20] * 3 + [[0] * 20] * 7
    task = MadeTask({("base", 0.7): base, ("v", 0.7): variant})
    found = run_analyze(make_run(tmp_path / "run", {"t": task}), out=tmp_path / "out").comparison("v")
    assert (found["items"], found["reruns"], found["verdict"]) == (20, [10, 10], "degraded")
    assert abs(found["drop"] - 0.6) < 1e-12


def test_every_temperature_is_compared_with_its_own_baseline(tmp_path):
    """A variant gets one verdict per temperature, and 0.3 stays 0.3 although samples hold float32."""
    scores = {("base", 0.0): [GOOD], ("v", 0.0): [GOOD], ("base", 0.3): [GOOD, GOOD], ("v", 0.3): [BAD, BAD]}
    ran = run_analyze(make_run(tmp_path / "run", {"t": MadeTask(scores)}), out=tmp_path / "out")
    found = {c["temperature"]: c["verdict"] for c in ran.verdicts["comparisons"]}
    assert found == {0.0: "inconclusive", 0.3: "degraded"}


def test_tasks_without_sampling_are_left_out_at_other_temperatures_with_a_word(tmp_path):
    """A log-likelihood task stands only at temperature 0; elsewhere the others are compared, with a word."""
    sampled = MadeTask({(v, t): [GOOD] for v in ("base", "v") for t in (0.0, 0.7)})
    choice = MadeTask({(v, 0.0): [GOOD] for v in ("base", "v")}, sampled=False)
    ran = run_analyze(make_run(tmp_path / "run", {"a": sampled, "b": choice}), out=tmp_path / "out")
    assert [task["task"] for task in ran.comparison("v", 0.7)["tasks"]] == ["a"]
    assert ran.comparison("v", 0.7)["missing"] == 0
    assert "b has answers only at temperature 0, so it is not compared at 0.7." in ran.verdicts["warnings"]
    assert ran.code == 0


def test_failed_samples_are_missing_never_zero(tmp_path):
    """A failed request takes its item out of the comparison, is counted, and its effect is bounded."""
    task = MadeTask({("base", 0.0): [GOOD], ("v", 0.0): [[None] * 10 + GOOD[10:]]})
    ran = run_analyze(make_run(tmp_path / "run", {"t": task}), out=tmp_path / "out")
    found = ran.comparison("v")
    assert (found["items"], found["missing"], found["worse"]) == (90, 10, 0)
    assert found["drop_bounds"] == [-0.0, pytest.approx(0.1)]
    assert any("v at temperature 0 has failed answers" in warning for warning in ran.verdicts["warnings"])
    assert ran.code == 0


def test_an_incomplete_run_exits_3(tmp_path):
    """Samples that are still owed keep the exit status from being 0."""
    task = MadeTask({("base", 0.0): [GOOD], ("v", 0.0): [["owed"] * 5 + GOOD[5:]]})
    ran = run_analyze(make_run(tmp_path / "run", {"t": task}), out=tmp_path / "out")
    assert (ran.comparison("v")["missing"], ran.code) == (5, 3)
    assert any("5 samples" in warning and "incomplete" in warning for warning in ran.verdicts["warnings"])


def test_under_half_of_the_items_is_refused_unless_told(tmp_path):
    """Less than half of the items in common ends in an error; --min-common lets it pass."""
    task = MadeTask({("base", 0.0): [GOOD], ("v", 0.0): [GOOD[:40] + ["owed"] * 60]})
    run = make_run(tmp_path / "run", {"t": task})
    refused = run_analyze(run, out=tmp_path / "a")
    assert (refused.code, "40%" in refused.error) == (2, True)
    assert run_analyze(run, "--min-common", "0.3", out=tmp_path / "b").code == 3


def test_a_retried_failure_counts_as_the_answer_it_became(tmp_path):
    """Where a sample stands first as a failure, then as an answer, the answer counts and nothing is twice."""
    task = MadeTask({("base", 0.0): [GOOD], ("v", 0.0): [[None, *GOOD[1:]]]})
    run = make_run(tmp_path / "run", {"t": task})
    answer_again(run, task, 1)
    ran = run_analyze(run, out=tmp_path / "out")
    assert (ran.comparison("v")["items"], ran.verdicts["warnings"]) == (100, [])


def test_a_sample_that_stands_twice_counts_once_and_is_reported(tmp_path):
    """A duplicate is no rerun: the first copy counts, and a warning says so."""
    task = MadeTask({("base", 0.0): [GOOD], ("v", 0.0): [GOOD]})
    run = make_run(tmp_path / "run", {"t": task})
    answer_again(run, task, 0)
    ran = run_analyze(run, out=tmp_path / "out")
    assert ran.comparison("v")["worse"] == 0
    assert ran.verdicts["warning_codes"] == ["repeated-answers"]


def test_half_written_and_torn_files_are_not_read(tmp_path):
    """A hidden temporary file is invisible, and a torn one is left out with a warning, as if not there."""
    run = make_run(tmp_path / "run", {"t": two_variants()})
    cell = cell_folder(run, "same", "t")
    (cell / ".2.parquet").write_bytes(b"half")
    torn = max(cell.glob("*.parquet"))
    torn.write_bytes(torn.read_bytes()[:200])
    ran = run_analyze(run, out=tmp_path / "out")
    assert (ran.comparison("same")["items"], ran.comparison("same")["missing"]) == (50, 50)
    assert any("unreadable" in warning for warning in ran.verdicts["warnings"])


def test_the_direction_of_a_metric_is_respected(tmp_path):
    """Where lower is better a rise of the score is the drop."""
    task = MadeTask({("base", 0.0): [BAD], ("v", 0.0): [GOOD]}, metrics={"error_rate,none": False})
    found = run_analyze(make_run(tmp_path / "run", {"t": task}), out=tmp_path / "out").comparison("v")
    assert (found["verdict"], found["drop"]) == ("degraded", 0.3)
    assert (found["baseline_score"], found["variant_score"]) == (0.3, 0.6)


def test_clusters_of_the_run_are_flipped_as_blocks(tmp_path):
    """The run's clusters are used unless --cluster none; their number stands in the verdict."""
    clusters = [i // 10 for i in range(100)]
    run = make_run(tmp_path / "run", {"t": two_variants(clusters=clusters)})
    clustered = run_analyze(run, out=tmp_path / "a").comparison("worse")
    assert (clustered["clusters"], clustered["p_pooled"]) == (10, pytest.approx(2.0**-3, rel=1e-9))
    assert run_analyze(run, "--cluster", "none", out=tmp_path / "b").comparison("worse")["clusters"] is None


def test_clusters_can_come_from_a_column_of_the_documents(tmp_path):
    """--cluster COLUMN groups items by that column, and an unknown column names those that exist."""
    run = make_run(tmp_path / "run", {"t": two_variants()})
    assert run_analyze(run, "--cluster", "half", out=tmp_path / "a").comparison("worse")["clusters"] == 2
    unknown = run_analyze(run, "--cluster", "pasage", out=tmp_path / "b")
    assert (unknown.code, "half, id" in unknown.error) == (2, True)


def test_level_and_margin_come_from_the_sweep_unless_given(tmp_path):
    """The sweep's analysis settings hold; an option overrides them."""
    run = make_run(tmp_path / "run", {"t": two_variants()}, analysis={"alpha": 0.01, "margin": 0.03})
    first = run_analyze(run, out=tmp_path / "a").verdicts
    second = run_analyze(run, "--alpha", "0.1", out=tmp_path / "b").verdicts
    assert (first["alpha"], first["margin"]) == (0.01, 0.03)
    assert (second["alpha"], second["margin"]) == (0.1, 0.03)


def test_the_named_metric_is_tested_and_an_unknown_one_lists_the_others(tmp_path):
    """--metric picks by name or pattern; a metric that does not exist ends in the list of those that do."""
    run = make_run(tmp_path / "run", {"t": two_variants(metrics={"acc,none": True, "em,strict": True})})
    assert run_analyze(run, "--metric", "*=em", out=tmp_path / "a").code == 1
    unknown = run_analyze(run, "--metric", "t=bleu", out=tmp_path / "b")
    assert (unknown.code, "'em,strict'" in unknown.error) == (2, True)
    nowhere = run_analyze(run, "--metric", "u=acc", out=tmp_path / "c")
    assert (nowhere.code, "no task" in nowhere.error) == (2, True)


def test_other_prompts_are_warned_of_and_refused_when_strict(tmp_path):
    """Items asked with another prompt are compared with a loud warning; --strict refuses them."""
    run = make_run(tmp_path / "run", {"t": two_variants(reworded=("worse",))})
    ran = run_analyze(run, out=tmp_path / "a")
    assert "mixed-prompts" in ran.verdicts["warning_codes"]
    assert any("100 of 100 items of t" in warning for warning in ran.verdicts["warnings"])
    assert run_analyze(run, "--strict", out=tmp_path / "b").code == 2


def test_a_folder_of_runs_pairs_a_baseline_in_one_with_a_variant_in_another(tmp_path):
    """Runs in one folder are one body of evidence: baseline here, variant there."""
    make_run(tmp_path / "runs" / "a", {"t": MadeTask({("base", 0.0): [GOOD]})})
    make_run(tmp_path / "runs" / "b", {"t": MadeTask({("v", 0.0): [BAD]})}, baseline="v")
    ran = run_analyze(tmp_path / "runs", "--baseline", "base", out=tmp_path / "out")
    assert (ran.code, ran.comparison("v")["worse"]) == (1, 30)


def test_runs_with_different_baselines_need_a_choice(tmp_path):
    """Where two runs disagree on the baseline none is guessed."""
    make_run(tmp_path / "runs" / "a", {"t": MadeTask({("base", 0.0): [GOOD]})})
    make_run(tmp_path / "runs" / "b", {"t": MadeTask({("v", 0.0): [BAD]})}, baseline="v")
    ran = run_analyze(tmp_path / "runs", out=tmp_path / "out")
    assert (ran.code, "base, v" in ran.error) == (2, True)


def test_a_variant_without_a_counterpart_is_no_pass(tmp_path):
    """A variant whose temperature the baseline was never asked at keeps the exit status from being 0."""
    scores = {("base", 0.0): [GOOD], ("v", 0.0): [GOOD], ("v", 0.7): [GOOD]}
    ran = run_analyze(make_run(tmp_path / "run", {"t": MadeTask(scores)}), out=tmp_path / "out")
    assert [c["temperature"] for c in ran.verdicts["comparisons"]] == [0.0]
    assert ran.code == 3


def test_a_task_without_numbers_does_not_stop_the_others(tmp_path):
    """A task whose metrics are all of a corpus is left out with a warning; alone it is an error."""
    run = make_run(tmp_path / "run", {"t": two_variants(), "u": two_variants()})
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["tasks"]["u"] |= {"metrics": {}, "metric": None}
    (run / "manifest.json").write_text(json.dumps(manifest))
    ran = run_analyze(run, out=tmp_path / "a")
    assert [task["task"] for task in ran.comparison("worse")["tasks"]] == ["t"]
    assert any("Task u has no metric" in warning for warning in ran.verdicts["warnings"])
    manifest["tasks"].pop("t")
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert run_analyze(run, out=tmp_path / "b").code == 2


def test_seeds_in_two_runs_are_pooled(tmp_path):
    """The same variants with other seeds in a second run add reruns."""
    for name, seeds in (("a", [0, 1]), ("b", [2])):
        run = make_run(
            tmp_path / "runs" / name, {"t": MadeTask({(v, 0.7): [GOOD] * 3 for v in ("base", "v")})}
        )
        for variant in ("base", "v"):
            for file in cell_folder(run, variant, "t").glob("*.parquet"):
                table = pq.read_table(file)
                keep = pa.array([seed in seeds for seed in table["seed"].to_pylist()])
                pq.write_table(table.filter(keep), file)
    ran = run_analyze(tmp_path / "runs", out=tmp_path / "out")
    assert (ran.comparison("v")["reruns"], ran.code) == ([3, 3], 0)


def test_one_name_for_two_models_is_refused(tmp_path):
    """A variant whose digest differs between two runs is not one variant; both runs are named."""
    a = make_run(tmp_path / "runs" / "a", {"t": two_variants()})
    b = tmp_path / "runs" / "b"
    shutil.copytree(a, b)
    manifest = json.loads((b / "manifest.json").read_text())
    manifest["variants"]["worse"]["digest"] = "other"
    (b / "manifest.json").write_text(json.dumps(manifest))
    ran = run_analyze(tmp_path / "runs", out=tmp_path / "out")
    assert ran.code == 2
    assert str(a) in ran.error
    assert str(b) in ran.error


def test_an_empty_run_is_an_error_not_a_pass(tmp_path):
    """No samples at all end in exit status 2, whatever the gate."""
    run = make_run(tmp_path / "run", {"t": two_variants()})
    shutil.rmtree(run / "samples")
    ran = run_analyze(run, "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, "no samples" in ran.error) == (2, True)


def test_an_unknown_baseline_lists_the_models(tmp_path):
    """--baseline with a name that does not exist names those that do."""
    ran = run_analyze(
        make_run(tmp_path / "run", {"t": two_variants()}), "--baseline", "bf16", out=tmp_path / "out"
    )
    assert (ran.code, "base, same, worse" in ran.error) == (2, True)


def test_without_out_the_files_go_into_the_run(tmp_path):
    """A run keeps its own analysis, all ten files of it, beside the hidden list of them."""
    from analyze_runner import app
    from typer.testing import CliRunner

    run = make_run(tmp_path / "run", {"t": two_variants()})
    CliRunner().invoke(app, [str(run)])
    assert sorted(file.name for file in (run / "analysis").glob("[!.]*")) == [
        "junit.xml",
        "measurements.csv",
        "model_comparison.csv",
        "model_differences.csv",
        "report.html",
        "summary.csv",
        "summary.md",
        "summary_with_stderr.csv",
        "summary_without_stderr.csv",
        "verdicts.json",
    ]


def test_a_variant_that_was_left_out_is_named(tmp_path):
    """What the machine could not run is missing from the table, and the warnings say why."""
    run = make_run(tmp_path / "run", {"sums": two_variants()})
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "skipped": {"kv-fp8": "it needs AVX-512"}}))
    ran = run_analyze(run, out=tmp_path / "out")
    assert "kv-fp8 was skipped in the run: it needs AVX-512." in ran.verdicts["warnings"]
