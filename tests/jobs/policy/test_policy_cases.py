"""What decision.json says of each case: levels, families, temperatures, and the same from Python."""

import json

import pytest
from standin.runs import MadeTask, make_run
from test_policy_table import CERTIFIED, DAMAGED, SAME, UNHARMED, WORSE, A, task

import lldeg
from jobs.analysis.policy import PolicyError

pytestmark = pytest.mark.slow  # an analysis each


def decision_of(folder, tasks, policy, **options):
    """The decision on made tasks, as a dictionary."""
    run = make_run(folder / "run", tasks, baseline="base")
    result = lldeg.analyze(run, policy=policy, out=str(folder / "out"), **options)
    entry = json.loads((folder / "out" / "decision.json").read_text())
    assert entry["exit_status"] == result.exit_status() == result.decision.exit_status
    return entry


def case_of(decision, task, temperature=0.0):
    """One case by task and temperature."""
    return next(c for c in decision["cases"] if (c["task"], c["temperature"]) == (task, temperature))


def test_p_values_are_adjusted_over_everything_that_can_block(tmp_path):
    """Holm over two tasks and all of them together: the smallest p-value is multiplied by 3."""
    decision = decision_of(tmp_path, {"a": A, "b": DAMAGED}, UNHARMED)
    assert decision["family"] == 3
    found = case_of(decision, "b")
    assert found["p_adjusted"] == pytest.approx(3 * found["p_pooled"])


def test_watched_tasks_cost_the_others_nothing(tmp_path):
    """One task can block; the watched one is not in the family, nor in the whole."""
    rules = {"a": "not-degraded", "b": "watched"}
    decision = decision_of(tmp_path, {"a": A, "b": DAMAGED}, {"tasks": rules})
    assert (decision["family"], decision["decision"]) == (1, "pass")
    assert case_of(decision, "b")["p_adjusted"] == case_of(decision, "b")["p_pooled"]


def test_the_whole_is_over_judged_tasks_only(tmp_path):
    """Damage of a watched task does not block through the overall rule."""
    rules = {"a": "not-degraded", "b": "not-degraded", "c": "watched"}
    decision = decision_of(tmp_path, {"a": A, "b": A, "c": DAMAGED}, {"tasks": rules})
    assert case_of(decision, None)["items"] == case_of(decision, "a")["items"] * 2
    assert decision["decision"] == "pass"


def test_a_rule_goes_by_name_then_group_then_pattern(tmp_path):
    """The most specific rule counts, wherever it is in the file."""
    tasks = {
        "a": task(SAME, SAME, group="g"), "b": task(SAME, SAME, group="g"),
        "c": task(SAME, SAME), "d": task(SAME, SAME),
    }  # fmt: skip
    rules = {"*": "watched", "c*": "not-degraded", "g": "certified", "a": "not-degraded"}
    decision = decision_of(tmp_path, tasks, {"margin": 0.02, "tasks": rules})
    found = {name: case_of(decision, name)["rule"] for name in "abcd"}
    assert found == {"a": "a", "b": "g", "c": "c*", "d": "*"}


def test_a_task_asked_at_one_temperature_is_judged_there(tmp_path):
    """Log-likelihoods exist at temperature 0 only; that is nothing missing at the other temperature."""
    sampled = MadeTask({(who, t): [SAME] for who in ("base", "v") for t in (0.0, 0.5)})
    decision = decision_of(tmp_path, {"a": A, "b": sampled}, UNHARMED)
    assert decision["decision"] == "pass"
    assert {(c["task"], c["temperature"]) for c in decision["cases"]} == {
        ("a", 0.0), ("b", 0.0), (None, 0.0), ("b", 0.5),
    }  # fmt: skip


def test_a_missing_temperature_fails_closed(tmp_path):
    """The baseline has answers at 0.5 and the variant has none."""
    lacking = MadeTask({("base", 0.0): [SAME], ("v", 0.0): [SAME], ("base", 0.5): [SAME]})
    decision = decision_of(tmp_path, {"a": lacking}, UNHARMED)
    assert decision["exit_status"] == 3
    assert "not-compared" in {reason["code"] for reason in decision["reasons"]}


def test_a_rule_of_a_lower_level_blocks_later(tmp_path):
    """A drop that is significant at .05 does not block a task whose own level is .001."""
    mild = task(SAME, [0] * 7 + SAME[7:])
    strict = {"tasks": {"a": {"require": "not-degraded", "alpha": 0.001}}}
    assert decision_of(tmp_path / "1", {"a": mild}, {"tasks": {"a": "not-degraded"}})["exit_status"] == 1
    assert decision_of(tmp_path / "2", {"a": mild}, strict)["exit_status"] == 0
    for folder, warned in (("1", False), ("2", True)):
        verdicts = json.loads((tmp_path / folder / "out" / "verdicts.json").read_text())
        assert ("laxer-rule" in verdicts["warning_codes"]) == warned


def test_a_margin_in_the_metrics_own_unit(tmp_path):
    """A metric without a range is certified by `margin_own_unit`."""
    flat = task([2.5, 2.5, 2.4] * 100, [2.5, 2.49, 2.41] * 100, metrics={"bits_per_byte,none": False})
    policy = {"tasks": {"a": {"require": "certified", "margin_own_unit": 0.1}}, "overall": "watched"}
    assert decision_of(tmp_path, {"a": flat}, policy)["decision"] == "pass"


def test_only_the_variants_named_are_judged(tmp_path):
    """An experiment in the same run does not block the release of another variant."""
    tried = MadeTask({("base", 0.0): [SAME], ("v", 0.0): [SAME], ("w", 0.0): [WORSE]})
    assert decision_of(tmp_path / "1", {"a": tried}, UNHARMED)["exit_status"] == 1
    assert decision_of(tmp_path / "2", {"a": tried}, UNHARMED | {"variants": ["v"]})["exit_status"] == 0


def test_a_run_that_stops_early_is_refused(tmp_path):
    """How many samples there are depended on their scores, and its looks have tests of their own."""
    run = make_run(tmp_path / "run", {"a": A}, baseline="base")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["stopping"] = {
        "looks": 5, "until": "degraded", "spending": {"degraded": "hsd-2", "certified": "hsd-4"},
        "alpha": 0.05, "margin": 0.01, "comparisons": [["v", 0.0]], "metrics": {"a": "acc,none"}, "seed": 0,
    }  # fmt: skip
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PolicyError) as error:
        lldeg.analyze(run, policy=UNHARMED)
    assert error.value.codes == ("stops-early",)


def test_without_a_policy_there_is_no_decision(tmp_path):
    """Neither in Python nor as a file."""
    run = make_run(tmp_path / "run", {"a": A}, baseline="base")
    result = lldeg.analyze(run, out=str(tmp_path / "out"))
    assert result.decision is None
    assert not (tmp_path / "out" / "decision.json").exists()


def test_a_policys_level_and_margin_are_those_of_the_verdicts(tmp_path):
    """One analysis has one level and one margin."""
    decision_of(tmp_path, {"a": A}, CERTIFIED | {"alpha": 0.01})
    verdicts = json.loads((tmp_path / "out" / "verdicts.json").read_text())
    assert (verdicts["alpha"], verdicts["margin"]) == (0.01, 0.02)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"*": "not-degraded"}, "insufficient"),
        ({"a": "not-degraded", "corpus": "certified"}, "insufficient"),
        ({"a": "not-degraded"}, "pass"),
        ({"*": "not-degraded", "corpus": "watched"}, "pass"),
    ],
    ids=["a pattern", "its name", "no rule", "watched"],
)
def test_a_task_without_a_number_per_sample_fails_closed(tmp_path, rules, expected):
    """A metric over the whole corpus cannot be tested: what requires something of it does not pass."""
    run = make_run(tmp_path / "run", {"a": A, "corpus": A}, baseline="base")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["tasks"]["corpus"] |= {"metrics": {}, "metric": None}
    (run / "manifest.json").write_text(json.dumps(manifest))
    decision = lldeg.analyze(run, policy={"tasks": rules}).decision
    assert decision.status.value == expected
    assert [reason.code for reason in decision.reasons] == ["no-testable-metric"] * (expected != "pass")


def test_a_margin_that_fits_no_task_of_a_pattern_is_refused(tmp_path):
    """Accuracies have a range; a margin in their own unit would be left out without a word."""
    run = make_run(tmp_path / "run", {"a": A, "b": A}, baseline="base")
    with pytest.raises(PolicyError) as raised:
        lldeg.analyze(run, policy={"tasks": {"*": {"require": "certified", "margin_own_unit": 0.2}}})
    assert raised.value.codes == ("wrong-margin",)
