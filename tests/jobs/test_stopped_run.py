"""`lldeg analyze` on runs that stopped early: the looks decide, and nothing else does."""

import json
import math
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from analyze_runner import run_analyze
from standin.runs import cell_folder, digest
from standin.sequential_runs import SEED, a_sweep, look_values, make_stopped_run

import lldeg
from stats.sequential.plan import item_order

pytestmark = pytest.mark.slow  # made sweeps with all their looks

BAD, SAME = {"worse": 0.25, "better": 0.05}, {"worse": 0.02, "better": 0.03}
FLAKY = {"worse": 0.03, "better": 0.045, "failing": 0.01}
TASKS, TWO_TASKS = {"sums": 400}, {"sums": 240, "words": 160}
FIXED = ("p_pooled", "p_max_drop", "p_fisher", "p_joint", "p_noninferior_paired", "mde", "items_needed")


def varied(tasks=TASKS):
    """Damage, no damage and failing requests at two temperatures, once and over three reruns."""
    return a_sweep({"bad": BAD, "same": SAME, "flaky": FLAKY}, tasks, {0.0: 1, 0.7: 3})


def with_a_task_at_one_temperature():
    """Log-likelihoods have answers at temperature 0 only."""
    scores = varied(TWO_TASKS)
    return {(name, t): found if t == 0.0 else {"sums": found["sums"]} for (name, t), found in scores.items()}


CLUSTERS = {
    task: [f"{'' if item < 80 else task}{item // 4}" for item in range(items)]
    for task, items in TWO_TASKS.items()
}
"""Four items each, some of them in both tasks."""

KINDS = {
    "until decided": (varied, {}),
    "until degraded": (varied, {"until": "degraded"}),
    "two tasks": (lambda: varied(TWO_TASKS), {"looks": 5}),
    "clusters": (lambda: varied(TWO_TASKS), {"looks": 5, "clusters": CLUSTERS, "margin": 0.1}),
    "proven": (varied, {"looks": 5, "certificate": "proven"}),
    "a task at one temperature": (with_a_task_at_one_temperature, {"looks": 5}),
}


@pytest.fixture(scope="module", params=KINDS)
def analyzed(request, tmp_path_factory):
    """A made run, and what the command says of it."""
    folder = tmp_path_factory.mktemp("stopped")
    scores, plan = KINDS[request.param]
    run = make_stopped_run(folder / "run", scores(), extra=0.1, **plan)
    return run, run_analyze(run.path, out=folder / "out")


def test_changes_are_described_where_scores_chose_the_items(analyzed):
    """Empty answers are counted, not tested: at a stop that scores have chosen no test would hold."""
    for comparison in analyzed[1].verdicts["comparisons"]:
        (change,) = comparison["changes"]
        is_described = change["verdict"] == "described", change["p"] is None
        assert is_described == (comparison["stopped"], comparison["stopped"])


@pytest.fixture
def stopped(tmp_path):
    """A run with one damaged and one equal variant at temperature 0; both were stopped."""
    return make_stopped_run(tmp_path / "run", a_sweep({"bad": BAD, "same": SAME}, TASKS, {0.0: 1}))


def test_verdicts_are_those_of_the_looks(analyzed):
    """Verdict, look, share, p-values and interval equal those computed from the scores directly."""
    run, ran = analyzed
    assert len(ran.verdicts["comparisons"]) == len(run.courses) == 6
    for (variant, temperature), course in run.courses.items():
        found = ran.comparison(variant, temperature)
        assert (found["verdict"], found["look"]) == (course.verdict, len(course.looks))
        assert (found["share_used"], found["stopped"]) == (course.share_used, course.stopped)
        assert (found["drop_adjusted"] is None) == (not course.stopped)
        numbers = [course.p_adjusted, course.p_noninferior, *course.interval, course.drop_adjusted or 0.0]
        reported = [found["p_adjusted"], found["p_noninferior"], *found["drop_interval_decision"]]
        reported.append(found["drop_adjusted"] or 0.0)
        assert reported == pytest.approx(numbers, rel=1e-6, abs=1e-9)
    assert {found["verdict"] for found in ran.verdicts["comparisons"]} >= {"degraded", "certified"}


def test_every_look_is_reported(analyzed):
    """With statistics, boundaries and what was spent; null where nothing could cross."""
    run, ran = analyzed
    for (variant, temperature), course in run.courses.items():
        found = ran.comparison(variant, temperature)["looks"]
        assert [list(look) for look in found] == [list(look_values(look)) for look in course.looks]
        for look, expected in zip(found, map(look_values, course.looks), strict=True):
            known = {name: value for name, value in expected.items() if value is not None}
            assert {name for name, value in look.items() if value is not None} == set(known)
            assert {name: look[name] for name in known} == pytest.approx(known, rel=1e-6, abs=1e-9)


def test_the_record_of_an_untouched_run_agrees(analyzed):
    """No warning about looks.json."""
    assert not [code for code in analyzed[1].verdicts["warning_codes"] if code.startswith("looks")]


def test_no_test_of_the_fixed_analysis_is_made(analyzed):
    """Its p-values are null in total and for every task, and tasks say that they were not tested."""
    for found in analyzed[1].verdicts["comparisons"]:
        assert {found[name] for name in FIXED} == {None}
        for task in found["tasks"]:
            assert {task[name] for name in (*FIXED, "p_adjusted", "p_noninferior")} == {None}
            assert (task["verdict"], task["reason_codes"]) == ("inconclusive", ["task-not-tested"])


def test_numbers_count_the_items_of_the_deciding_look(tmp_path):
    """Items, flips and drop are those of the look, although a tenth of the items came in after it."""
    run = make_stopped_run(tmp_path / "run", varied(), extra=0.1)
    ran = run_analyze(run.path, out=tmp_path / "out")
    for (variant, temperature), differences in run.counted.items():
        found, known = ran.comparison(variant, temperature), differences[~np.isnan(differences)]
        assert (found["items"], found["missing"]) == (known.size, differences.size - known.size)
        if variant != "flaky":  # means over the reruns that both models have are those of the looks
            assert (found["worse"], found["better"]) == ((known > 0).sum(), (known < 0).sum())
            assert found["drop"] == pytest.approx(known.mean(), abs=1e-12)
        assert sum(task["items"] for task in found["tasks"]) == found["items"]


def test_what_came_in_after_the_decision_changes_nothing(tmp_path):
    """Blocks in flight may be there or not: every file is the same, but for the digest of all samples."""
    outputs = []
    for name, extra in (("none", 0.0), ("some", 0.2)):
        run = make_stopped_run(tmp_path / name, varied(), extra=extra)
        ran = run_analyze(run.path, out=tmp_path / f"{name}-out")
        files = {path.name: path.read_text() for path in ran.out.glob("[!.]*.[cj]s*")}
        digest = ran.verdicts["samples_digest"]
        outputs.append({name: text.replace(digest, "") for name, text in files.items()})
    assert len(outputs[0]) == 7
    assert outputs[0] == outputs[1]


def test_finishing_changes_numbers_but_no_verdict(tmp_path):
    """After `submit --finish` all items count; verdict, look and p-values stay."""
    run = make_stopped_run(tmp_path / "run", varied(), finished=True)
    ran = run_analyze(run.path, out=tmp_path / "out")
    assert ran.verdicts["stopping"]["finished"]
    for (variant, temperature), course in run.courses.items():
        found = ran.comparison(variant, temperature)
        assert (found["verdict"], found["look"]) == (course.verdict, len(course.looks))
        assert found["items"] + found["missing"] == sum(TASKS.values())
        assert ("finished-later" in found["reason_codes"]) == course.stopped
        assert found["drop_adjusted"] is None


def test_what_is_not_finished_yet_counts_as_before(tmp_path):
    """While `submit --finish` is at work the numbers are those of the look, and the run is incomplete."""
    stopped = make_stopped_run(tmp_path / "run", varied())
    manifest = json.loads((stopped.path / "manifest.json").read_text())
    before = run_analyze(stopped.path, out=tmp_path / "a")
    manifest["stopping"]["finished"] = True
    (stopped.path / "manifest.json").write_text(json.dumps(manifest))
    after = run_analyze(stopped.path, "--gate", "certified", out=tmp_path / "b")
    assert after.verdicts["comparisons"] == before.verdicts["comparisons"]
    assert set(after.verdicts["warning_codes"]) >= {"owed-answers"}
    same = lldeg.analyze(stopped.path, temperature=0.7)
    assert same.analysis.incomplete


def test_the_verdicts_travel_with_the_samples(tmp_path, stopped):
    """A copy of the run in another folder gives the same verdicts.json."""
    first = run_analyze(stopped.path, out=tmp_path / "a")
    shutil.copytree(stopped.path, tmp_path / "elsewhere" / "copy")
    second = run_analyze(tmp_path / "elsewhere" / "copy", out=tmp_path / "b")
    assert first.verdicts == second.verdicts


def test_early_stops_say_so(tmp_path, stopped):
    """A code for why it ended, one for estimates that are biased by stopping, and the drop without that."""
    ran = run_analyze(stopped.path, out=tmp_path / "out")
    assert ran.comparison("bad")["reason_codes"] == ["stopped-degraded", "significant", "estimate-after-stop"]
    expected = ["stopped-certified", "not-significant", "within-margin", "estimate-after-stop"]
    assert ran.comparison("same")["reason_codes"] == expected
    corrected = ran.comparison("bad")["drop_adjusted"]
    assert 0.0 < corrected < ran.comparison("bad")["drop"]
    assert f"Without the bias of stopping early it loses {100 * corrected:.2f} points." in " ".join(
        ran.text.split()
    )


def test_the_last_look_says_so(tmp_path):
    """A comparison that used all of its samples was not stopped."""
    scores = a_sweep({"v": {"worse": 0.06, "better": 0.05}}, TASKS, {0.0: 1}, seed=3)
    run = make_stopped_run(tmp_path / "run", scores, margin=0.005)
    found = run_analyze(run.path, out=tmp_path / "out").comparison("v")
    assert (found["verdict"], found["stopped"], found["share_used"]) == ("inconclusive", False, 1.0)
    assert found["reason_codes"] == ["last-look", "not-significant", "not-within-margin"]


def test_scores_without_a_range_are_never_certified(tmp_path):
    """The margin is a share of the range, so without one it says nothing, here as in every analysis."""
    run = make_stopped_run(tmp_path / "run", a_sweep({"same": SAME}, TASKS, {0.0: 1}), extra=1.0)
    assert run.courses["same", 0.0].verdict == "certified"
    manifest = json.loads((run.path / "manifest.json").read_text())
    manifest["tasks"]["sums"]["metrics"]["acc,none"]["range"] = "none"
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    found = run_analyze(run.path, out=tmp_path / "out").comparison("same")
    assert (found["verdict"], found["margin"]) == ("inconclusive", None)
    assert found["reason_codes"][-1] == "unbounded-without-margin"


def test_scores_in_an_unknown_direction_are_never_certified(tmp_path, monkeypatch):
    """Neither the manifest nor the metric's name says whether higher is better; a plan knows no more."""
    run = make_stopped_run(tmp_path / "run", a_sweep({"same": SAME}, TASKS, {0.0: 1}), extra=1.0)
    manifest = (run.path / "manifest.json").read_text()
    (run.path / "manifest.json").write_text(manifest.replace('"higher_is_better": true', ""))
    monkeypatch.setattr("jobs.formats.metrics.listed_metric", lambda name: None)
    found = run_analyze(run.path, out=tmp_path / "out").comparison("same")
    assert (found["verdict"], found["reason_codes"][-1]) == ("inconclusive", "direction-unknown")


def changed(record, key, value):
    """A record with one number of the first look of the first comparison changed."""
    record["comparisons"][0]["looks"][0][key] = value
    return record


TAMPERED = {
    "a statistic": lambda record: changed(record, "statistic", 99.0),
    "a statistic beyond measure": lambda record: changed(record, "statistic", 10**400),
    "a level left out": lambda record: changed(record, "level", None),
    "a verdict": lambda record: record["comparisons"][0].update(verdict="certified") or record,
    "a look too few": lambda record: record["comparisons"][0]["looks"].pop() and record,
    "a comparison too few": lambda record: record["comparisons"].pop() and record,
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_record_that_the_samples_contradict_is_named(tmp_path, stopped, what):
    """The verdicts stay, a warning says it, and --strict refuses."""
    before = run_analyze(stopped.path, out=tmp_path / "a")
    stopped.write_record(TAMPERED[what](stopped.record))
    ran = run_analyze(stopped.path, out=tmp_path / "b")
    assert ran.verdicts["warning_codes"] == ["looks-differ"]
    assert ran.verdicts["comparisons"] == before.verdicts["comparisons"]
    assert run_analyze(stopped.path, "--strict", out=tmp_path / "c").code == 2


def test_a_record_of_an_earlier_moment_is_not_called_changed(tmp_path, stopped):
    """Whatever wrote it was interrupted after blocks had come in, or is still at work."""
    record = stopped.record
    record["comparisons"][0]["looks"].pop()
    record["comparisons"][0].update(verdict=None, stopped=False)
    stopped.write_record(record)
    ran = run_analyze(stopped.path, out=tmp_path / "out")
    assert ran.verdicts["warning_codes"] == ["looks-behind"]


HUGE = f'{{"comparisons": [{{"variant": "v", "temperature": {10**400}}}]}}'


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", '{"comparisons": [1]}', "\udcff", "[" * 10**5, HUGE]
)
def test_a_record_that_cannot_be_read_is_named(tmp_path, stopped, content):
    """Missing, empty or damaged: the verdicts come from the samples anyway."""
    path = stopped.path / "looks.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    ran = run_analyze(stopped.path, out=tmp_path / "out")
    assert (ran.code, ran.verdicts["warning_codes"]) == (1, ["looks-missing"])


def test_a_stopped_sweep_is_complete(tmp_path):
    """Samples that are not needed are not missing: status 0, also for the gate, and 1 with damage."""
    scores = a_sweep({"same": SAME, "twin": SAME}, TASKS, {0.0: 1, 0.7: 2})
    run = make_stopped_run(tmp_path / "run", scores)
    ran = run_analyze(run.path, "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, ran.verdicts["warnings"]) == (0, [])
    assert all(found["stopped"] for found in ran.verdicts["comparisons"])


def test_a_damaged_variant_exits_1(tmp_path, stopped):
    """As in every analysis."""
    assert run_analyze(stopped.path, out=tmp_path / "out").code == 1


@pytest.mark.parametrize("items", [41, 68, 74, 149])
def test_a_sum_exactly_on_the_boundary_is_analyzed(tmp_path, items):
    """Every item flips, the better ones come first, and the last look ties: DEGRADED, with finite limits."""
    order, base = item_order(np.array([digest(f"t{item}") for item in range(items)]), SEED), np.zeros(items)
    for name in ("better", "tied"):
        scores = {("base", 0.0): {"t": base[None]}, ("v", 0.0): {"t": 1.0 - base[None]}}
        run = make_stopped_run(tmp_path / name, scores, until="degraded")
        boundary = run.courses["v", 0.0].looks[-1].boundary
        base[order[(items - round(boundary * np.sqrt(items))) // 2 :]] = 1.0
    ran = run_analyze(run.path, out=tmp_path / "out")
    found = ran.comparison("v")
    assert (ran.code, found["verdict"], found["look"]) == (1, "degraded", 10)
    assert found["looks"][-1]["statistic"] == found["looks"][-1]["boundary"]
    assert 0.0 < found["drop_interval_decision"][0] < found["drop"] < found["drop_interval_decision"][1]


def test_failed_answers_keep_the_gate_from_passing(tmp_path):
    """They count as losses at the looks; `--gate certified` asks for complete evidence as ever."""
    run = make_stopped_run(tmp_path / "run", a_sweep({"flaky": FLAKY}, TASKS, {0.0: 1}, seed=2), margin=0.08)
    assert run.courses["flaky", 0.0].verdict == "certified"
    assert run_analyze(run.path, "--gate", "certified", out=tmp_path / "a").code == 3
    assert run_analyze(run.path, out=tmp_path / "b").code == 0


@pytest.mark.parametrize(("share", "looks"), [(0.37, 3), (0.05, 0)])
def test_a_comparison_that_waits_for_samples_is_undecided(tmp_path, share, looks):
    """Its look cannot be taken yet: inconclusive with a code of its own, and the run is incomplete."""
    scores = a_sweep({"same": SAME, "slow": SAME}, TASKS, {0.0: 1})
    run = make_stopped_run(tmp_path / "run", scores, until="degraded", owed={("slow", 0.0): share})
    ran = run_analyze(run.path, out=tmp_path / "out")
    found = ran.comparison("slow")
    assert (ran.code, found["verdict"], found["look"], len(found["looks"])) == (
        3,
        "inconclusive",
        None,
        looks,
    )
    assert (found["reason_codes"], found["p_adjusted"]) == (["looks-pending"], None)
    assert "owed-answers" in ran.verdicts["warning_codes"]
    assert ran.comparison("same")["verdict"] == run.courses["same", 0.0].verdict


def test_samples_that_were_lost_reopen_a_comparison(tmp_path, stopped):
    """A damaged file that the deciding look needs: no verdict from what is left, but an incomplete run."""
    block = next(cell_folder(stopped.path, "bad", "sums").glob("*.parquet"))
    block.write_bytes(block.read_bytes()[:100])
    ran = run_analyze(stopped.path, out=tmp_path / "out")
    assert (ran.code, ran.comparison("bad")["reason_codes"]) == (3, ["looks-pending"])


def test_a_temperature_selects_what_is_shown(tmp_path):
    """The others still count in the adjustment, which the plan fixed."""
    run = make_stopped_run(tmp_path / "run", varied())
    ran = run_analyze(run.path, "--temperature", "0.7", out=tmp_path / "out")
    assert [found["temperature"] for found in ran.verdicts["comparisons"]] == [0.7] * 3
    p = run.courses["bad", 0.7].p_adjusted
    assert ran.comparison("bad")["p_adjusted"] == pytest.approx(p, rel=1e-6)
    assert ran.verdicts["stopping"]["comparisons"] == 6


def test_tables_show_the_look_and_the_samples(tmp_path, stopped):
    """On a terminal the look, in Markdown both; tasks have neither verdict nor p-value."""
    course = stopped.courses["bad", 0.0]
    look, share = f"{len(course.looks)}/10", f"{100 * course.share_used:.0f}"
    assert look in run_analyze(stopped.path, out=tmp_path / "out").text
    shown = run_analyze(stopped.path, "--format", "markdown", out=tmp_path / "out").text
    assert f"| bad | 0 | DEGRADED | {look} | {share} |" in shown
    assert "nan" not in shown


def test_python_gets_the_same(tmp_path, stopped):
    """`lldeg.analyze`: courses with the verdicts, columns in the table, and nulls as NaN."""
    found = lldeg.analyze(stopped.path)
    for result in found.comparisons:
        course = stopped.courses[result.variant, result.temperature]
        assert (result.comparison.verdict, len(result.course.looks)) == (course.verdict, len(course.looks))
        assert math.isnan(result.comparison.p_pooled)
    frame = found.to_frame().set_index("variant")
    assert frame.loc["bad", "look"] == len(stopped.courses["bad", 0.0].looks)
    assert frame.loc["bad", "looks_planned"] == 10
    assert json.loads(json.dumps(found.verdicts, allow_nan=False)) == found.verdicts
    assert found.exit_status() == 1


def test_cut_answers_are_those_of_the_items_that_count(tmp_path):
    """Answers that came in after the decision make no share of more than all."""
    run = make_stopped_run(tmp_path / "run", a_sweep({"bad": BAD}, TASKS, {0.0: 1}), extra=0.3)
    for path in cell_folder(run.path, "bad", "sums").iterdir():
        rows = pq.read_table(path, partitioning=None)
        place = rows.column_names.index("finish_reason")
        pq.write_table(rows.set_column(place, "finish_reason", pa.array(["length"] * len(rows))), path)
    assert run.courses["bad", 0.0].stopped
    (said,) = [
        text
        for text in run_analyze(run.path, out=tmp_path / "out").verdicts["warnings"]
        if "token limit" in text
    ]
    assert "(100% of sums)" in said


def test_a_model_that_said_nothing_gets_no_verdict(stopped, tmp_path):
    """The looks took its empty answers for wrong ones, or those of both models for alike."""
    for path in cell_folder(stopped.path, "same", "sums").iterdir():
        rows = pq.read_table(path, partitioning=None)
        place = rows.schema.get_field_index("response")
        pq.write_table(rows.set_column(place, "response", pa.array([""] * len(rows))), path)
    ran = run_analyze(stopped.path, out=tmp_path / "out")
    assert [found["variant"] for found in ran.verdicts["comparisons"]] == ["bad"]
    assert {"not-compared", "empty-answers"} <= set(ran.verdicts["warning_codes"])
