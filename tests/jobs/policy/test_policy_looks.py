"""Policies of runs that stop early: every demand is decided at looks, under its own share of the level."""

import json

import numpy as np
import pytest
from standin.sequential_runs import BASE, a_sweep, make_stopped_run

import lldeg
from jobs.analysis.policy import PolicyError
from jobs.analysis.sequential.early_stopping import EarlyStopping
from jobs.text.meaning import decision_lines, terms
from orchestrator.workers.stopping import NO_SEED, SCORES, Next
from stats.sequential.boundaries import Stopping
from stats.sequential.monitor import Crossings, SequentialMonitor, holm_rounds
from stats.sequential.plan import Duty, PlannedTask, SequentialPlan
from stats.verdict import Verdict

pytestmark = pytest.mark.slow  # an analysis each

TASKS = {"sums": 600, "words": 400}
SAME, BAD = {"worse": 0.01, "better": 0.012}, {"worse": 0.3, "better": 0.02}
CERTIFIED = {"margin": 0.03, "tasks": {"*": "certified"}}


def planned(folder, rates, policy, *, share=1.0, bad=(), later=()):
    """A run that was planned with a policy; `bad` tasks are damaged, and a share of the items has come in.

    Variants that joined later are as good as the baseline.
    """
    scores, damaged = (a_sweep({"v": r} | dict.fromkeys(later, SAME), TASKS, {0.0: 1}) for r in (rates, BAD))
    scores["v", 0.0] |= {task: damaged["v", 0.0][task] for task in bad}
    owed = dict.fromkeys([key for key in scores if key[0] != BASE], share)
    run = make_stopped_run(folder, scores, looks=5, margin=policy.get("margin", 0.01), owed=owed)
    manifest = json.loads((run.path / "manifest.json").read_text())
    manifest["stopping"] |= {"policy": policy, "families": dict.fromkeys(later, 1)}
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    run.write_record({"format": 1, "comparisons": []})
    (run.path / "looks.jsonl").write_text('{"begins_late": false}\n')
    return run.path, scores


def decided(path, folder, **options):
    """The decision on a run whose looks a sweep has taken, the cases by task."""
    EarlyStopping(str(path), pytest.fail)
    result = lldeg.analyze(path, out=str(folder), **options)
    assert [code for code in result.analysis.warnings if code.code.startswith("looks")] == []
    return result, {case.task: case for case in result.decision.cases}


OUTCOMES = {
    "everything certified": (SAME, CERTIFIED, (), 0, {"sums": "certified", "words": "certified"}),
    "one task damaged": (SAME, CERTIFIED, ("words",), 1, {"words": "degraded"}),
    "a watched task damaged": (
        SAME,
        {"margin": 0.03, "tasks": {"sums": "certified"}},
        ("words",),
        0,
        {"sums": "certified", "words": "watched"},
    ),
    "too few items for the margin": (
        SAME,
        {"margin": 0.001, "tasks": {"*": "certified"}},
        (),
        3,
        {"sums": "not-certified", None: "not-degraded"},
    ),
    "nothing to certify": (SAME, {"tasks": {"*": "not-degraded"}}, (), 0, {"words": "not-degraded"}),
}


def test_sentences_have_the_level_of_the_rule_that_decides(tmp_path):
    """What 5 % would certify is not shown at the level of .1 % that the rule about all tasks has."""
    overall = {"require": "certified", "alpha": 0.001}
    path, _ = planned(tmp_path / "run", SAME, {"tasks": {"*": "not-degraded"}, "overall": overall})
    result, cases = decided(path, tmp_path / "out")
    assert cases[None].reasons[0].code == "not-certified"
    assert 0.001 < cases[None].comparison.p_noninferior < 0.05
    assert terms(result.analysis).startswith("Baseline base; level 0.001, ")
    (found,) = json.loads((tmp_path / "out" / "verdicts.json").read_text())["comparisons"]
    assert any(reason.endswith("> 0.001.") for reason in found["reasons"])
    assert "the 99.8 % interval of a drop" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(("rates", "policy", "bad", "status", "codes"), OUTCOMES.values(), ids=OUTCOMES)
def test_the_looks_decide_the_release(tmp_path, rates, policy, bad, status, codes):
    """Pass, blocked and insufficient with their exit statuses and the reason of each case."""
    path, _ = planned(tmp_path / "run", rates, policy, bad=bad)
    result, cases = decided(path, tmp_path / "out")
    assert result.exit_status() == status
    assert not any("other damage" in line for line in decision_lines(result.decision))
    assert {task: cases[task].reasons[0].code for task in codes} == codes


def test_each_demand_is_tested_at_its_share_of_the_level(tmp_path):
    """Verdicts and p-values are those of two tasks and both together, at α/3 each, computed directly."""
    path, _ = planned(tmp_path / "run", SAME, CERTIFIED)
    result, cases = decided(path, tmp_path / "out")
    assert result.decision.family == len(cases) == 3
    plan = SequentialPlan(
        tuple(PlannedTask(name, items) for name, items in TASKS.items()),
        ("sums", "words", None),
        Stopping(5, "decided"),
        margin=0.03,
        tasks_of={name: (name,) for name in TASKS},
        duties=dict.fromkeys(("sums", "words", None), Duty(0.05, 0.03, 30, "v")),
    )
    whole, monitor = make_differences(path), SequentialMonitor(plan)
    for name in plan.comparisons:
        monitor.observe(name, [whole[task] for task in (TASKS if name is None else [name])])
    for name, course in monitor.courses().items():
        found = cases[name].comparison
        assert (found.verdict, found.p_noninferior) == (course.verdict, course.p_noninferior)
        assert found.p_adjusted == pytest.approx(course.p_adjusted, rel=1e-12)
        assert found.items == course.looks[-1].items


def make_differences(path):
    """By task, how much worse the variant is on each item in the order of asking, from the samples."""
    from jobs.analysis.sequential.run_monitor import follow
    from jobs.formats.run_files import RunFiles

    monitor = follow(RunFiles.open(str(path)))
    scores = {key: grid.scores[:, 0] for key, grid in monitor._answers.items()}
    return {task: scores[BASE, task, 0.0] - scores["v", task, 0.0] for task in TASKS}


def test_a_certificate_waits_for_the_fewest_items(tmp_path):
    """Certified at look 2 of 5, but only from 500 of 600 items on where the policy wants as many."""
    used = []
    for least in (30, 500):
        policy = {"margin": 0.03, "tasks": {"sums": {"require": "certified", "min_items": least}}}
        path, _ = planned(tmp_path / str(least), SAME, policy)
        result, cases = decided(path, tmp_path / f"{least}-out")
        assert result.exit_status() == 0
        used.append(cases["sums"].comparison.items)
    assert used[0] < 500 <= used[1]


def test_a_rule_has_its_own_level_and_margin(tmp_path):
    """The level and the margin of a rule are those of its looks."""
    policy = {
        "margin": 0.03,
        "tasks": {"sums": {"require": "certified", "margin": 0.001}, "words": "certified"},
    }
    path, _ = planned(tmp_path / "run", SAME, policy)
    result, cases = decided(path, tmp_path / "out")
    assert result.exit_status() == 3
    assert (cases["sums"].comparison.margin, cases["words"].comparison.margin) == (0.001, 0.03)
    assert cases["words"].status == "pass"


@pytest.mark.parametrize(("bad", "blocked"), [((), False), (("words",), True)], ids=["pass", "blocked"])
def test_a_variant_is_asked_until_every_demand_is_decided(tmp_path, bad, blocked):
    """It stops with the last certificate, or with the first damage; never with some of the certificates."""
    path, scores = planned(tmp_path / "run", SAME, CERTIFIED, share=0.0, bad=bad)
    policy, verdicts = EarlyStopping(str(path), pytest.fail), []
    for look in range(5):
        for task, items in TASKS.items():
            part = slice(look * items // 5, (look + 1) * items // 5)
            order = policy._monitor.tasks[list(TASKS).index(task)].items[part]
            for model in (BASE, "v"):
                own = np.zeros(order.size, SCORES)
                own["item"], own["seed"], own["score"] = order, NO_SEED, scores[model, 0.0][task][0][order]
                policy.take_scores(model, task, own)
        recorded = json.loads((path / "looks.json").read_text())["comparisons"]
        found = {entry["verdict"] for entry in recorded}
        is_over = None not in found
        assert (policy.next_for("v", 0.0) is Next.STOP) == is_over
        verdicts.append(found)
        if is_over:
            break
    assert ("degraded" in verdicts[-1]) == blocked
    assert len(verdicts) < 5
    assert {entry.get("task") for entry in recorded} == {None, *TASKS}


def test_the_first_damage_ends_a_release():
    """What is undecided then is not tested further, and raises no level of another release."""
    tests = {
        "a": Crossings(5, (2, 2, 2), 0),
        "b": Crossings(5, (0, 4, 3), 0),
        "c": Crossings(5, (0, 0, 0), 2),
    }
    found, places = holm_rounds(tests, 5, dict.fromkeys("abc", "v"))
    assert {name: (one.verdict, one.look) for name, one in found.items()} == {
        "a": (Verdict.DEGRADED, 2),
        "b": (Verdict.INCONCLUSIVE, 2),
        "c": (Verdict.CERTIFIED, 2),
    }
    assert places[-1] == 1
    apart, _ = holm_rounds(tests, 5, {"a": "v", "b": "w", "c": "v"})
    assert (apart["b"].verdict, apart["b"].look) == (Verdict.DEGRADED, 4)


def test_a_variant_that_joined_has_the_level_for_itself(tmp_path):
    """Three cases share it, not six; and one that was blocked before blocks nothing any more."""
    path, _ = planned(tmp_path / "run", SAME, CERTIFIED, bad=["sums"], later=["w"])
    assert decided(path, tmp_path / "all")[0].exit_status() == 1
    result, _ = decided(path, tmp_path / "out", policy=CERTIFIED | {"variants": ["w"]})
    assert (result.exit_status(), result.decision.family) == (0, 3)
    assert {one.variant for one in result.decision.cases} == {"w"}
    (whole,) = result.analysis.results
    assert {look.level for look in whole.course.looks} == {0.05 / 3}


REFUSED = {
    "a measurement": CERTIFIED | {"measurements": {"output_tokens": {"within": 0.05}}},
    "nothing about all tasks": CERTIFIED | {"overall": "watched"},
    "an unknown task": {"margin": 0.03, "tasks": {"other": "certified"}},
}


@pytest.mark.parametrize("policy", REFUSED.values(), ids=REFUSED)
def test_what_no_look_can_show_is_refused(tmp_path, policy):
    """Before the first answer, when the looks are planned."""
    path, _ = planned(tmp_path / "run", SAME, policy)
    with pytest.raises(PolicyError) as error:
        EarlyStopping(str(path), pytest.fail)
    assert error.value.codes in {("stops-early",), ("unknown-task",)}


def test_the_policy_is_part_of_the_plan(tmp_path):
    """The same may be named again; another one would be chosen after scores were seen."""
    path, _ = planned(tmp_path / "run", SAME, CERTIFIED)
    for given in (CERTIFIED, CERTIFIED | {"variants": ["v"]}):
        assert decided(path, tmp_path / "out", policy=given)[0].exit_status() == 0
    with pytest.raises(PolicyError) as error:
        lldeg.analyze(path, policy={"margin": 0.03, "tasks": {"sums": "not-degraded"}})
    assert error.value.codes == ("stops-early",)
