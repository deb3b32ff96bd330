"""`lldeg analyze --policy`: what passes, what is blocked, what fails closed, and which policies are refused.

Each row of the tables is a policy, what the models answered, the exit status and a reason code.
"""

import json

import pytest
import yaml
from standin.runs import OWED, MadeTask, make_run

import lldeg
from jobs.analysis.policy import PolicyError

N = 400
SAME = [1] * 300 + [0] * 100
WORSE = [1] * 240 + [0] * 160
"""15 points worse than SAME."""

BETTER = [1] * 400
FAILED = [None] * 40 + SAME[40:]
"""A tenth of the requests failed."""

CERTIFIED = {"margin": 0.02, "tasks": {"*": "certified"}}
UNHARMED = {"tasks": {"*": "not-degraded"}}


def task(baseline, variant, temperature=0.0, **details):
    """A task with one rerun of both models; None for a model without answers."""
    sides = {"base": baseline, "v": variant}
    scores = {(name, temperature): [found] for name, found in sides.items() if found is not None}
    return MadeTask(scores, **details)


A, B = task(SAME, SAME), task(SAME, SAME)
IMPROVED = task(SAME, BETTER)
DAMAGED = task(SAME, WORSE)
BOTH = {"a": A, "b": B}
NO_RANGE = {"bits_per_byte,none": False}

DECIDED = {
    "everything certified": (BOTH, CERTIFIED, 0, "certified"),
    "nothing degraded": (BOTH, UNHARMED, 0, "not-degraded"),
    "one task degraded": ({"a": A, "b": DAMAGED}, UNHARMED, 1, "degraded"),
    "better on average, one task degraded": (
        {"a": task(SAME, BETTER), "b": DAMAGED},
        UNHARMED,
        1,
        "degraded",
    ),
    "a watched task degraded": (
        {"a": A, "b": DAMAGED},
        {"margin": 0.02, "tasks": {"a": "certified", "b": "watched"}},
        0,
        "watched",
    ),
    "a task that no rule names degraded": (
        {"a": A, "b": DAMAGED},
        {"margin": 0.02, "tasks": {"a": "certified"}},
        0,
        "watched",
    ),
    "degraded and thin at once": ({"a": A, "b": DAMAGED}, UNHARMED | {"min_items": 500}, 1, "degraded"),
    "not shown to be within the margin": (
        BOTH,
        {"margin": 0.002, "tasks": {"*": "certified"}},
        3,
        "not-certified",
    ),
    "too few items": (BOTH, UNHARMED | {"min_items": 500}, 3, "too-few-items"),
    "one thin task by a rule of its own": (
        BOTH,
        {"tasks": {"*": "not-degraded", "b": {"require": "not-degraded", "min_items": 500}}},
        3,
        "too-few-items",
    ),
    "the variant lacks a task": ({"a": A, "b": task(SAME, None)}, UNHARMED, 3, "missing-in-variant"),
    "the baseline lacks a task": ({"a": A, "b": task(None, SAME)}, UNHARMED, 3, "missing-in-baseline"),
    "failed samples above the limit": ({"a": A, "b": task(SAME, FAILED)}, UNHARMED, 3, "too-many-missing"),
    "the baseline's failed samples count": (
        {"a": A, "b": task(FAILED, SAME)},
        UNHARMED,
        3,
        "too-many-missing",
    ),
    "failed samples below the limit": (
        {"a": A, "b": task(SAME, FAILED)},
        UNHARMED | {"max_missing": 0.2},
        0,
        "not-degraded",
    ),
    "failed samples could hide a drop": (
        {"a": A, "b": task(SAME, FAILED)},
        CERTIFIED | {"max_missing": 0.2},
        3,
        "not-certified",
    ),
    "all samples of a task failed": (
        {"a": A, "b": task(SAME, [None] * N)},
        UNHARMED,
        3,
        "missing-in-variant",
    ),
    "an incomplete run": ({"a": A, "b": task(SAME, [OWED, *SAME[1:]])}, UNHARMED, 3, "incomplete-run"),
    "a metric without a range and without a margin": (
        {"a": A, "b": task([2.5] * N, [2.5] * N, metrics=NO_RANGE)},
        CERTIFIED,
        3,
        "no-margin",
    ),
    "a certificate over all tasks where only one is judged": (
        {"a": A},
        {"margin": 0.002, "tasks": {"a": "not-degraded"}, "overall": "certified"},
        3,
        "not-certified",
    ),
    "more items over all tasks than the only one has": (
        {"a": A},
        {"tasks": {"a": "not-degraded"}, "overall": {"require": "not-degraded", "min_items": 500}},
        3,
        "too-few-items",
    ),
    "a watched whole where only one task is judged": (
        {"a": A},
        {"tasks": {"a": {"require": "not-degraded", "min_items": 400}}, "overall": "watched"},
        0,
        "not-degraded",
    ),
    "little damage on every task": (
        {name: task(SAME, [0] * 6 + SAME[6:]) for name in "abcdefgh"},
        {"alpha": 0.001, "tasks": {"*": "not-degraded"}},
        1,
        "degraded",
    ),
    "little damage on every task, tasks only": (
        {name: task(SAME, [0] * 6 + SAME[6:]) for name in "abcdefgh"},
        {"alpha": 0.001, "tasks": {"*": "not-degraded"}, "overall": "watched"},
        0,
        "not-degraded",
    ),
}

REFUSED = {
    "unknown key": (
        {"min_item": 3, "tasks": {"*": "certified"}},
        "invalid-policy",
        "did you mean 'min_items'",
    ),
    "unknown key of a rule": (
        {"tasks": {"a": {"require": "certified", "margins": 0.1}}},
        "invalid-policy",
        "did you mean 'margin'",
    ),
    "unknown requirement": ({"tasks": {"a": "certifed"}}, "invalid-policy", "certified"),
    "no tasks": ({"alpha": 0.05}, "invalid-policy", "tasks"),
    "alpha out of range": (CERTIFIED | {"alpha": 1.5}, "invalid-policy", "alpha"),
    "unknown task": ({"tasks": {"a": "certified", "bb": "certified"}}, "unknown-task", "bb"),
    "a pattern that matches nothing": ({"tasks": {"gsm*": "certified"}}, "unknown-task", "gsm*"),
    "unknown variant": (CERTIFIED | {"variants": ["w"]}, "unknown-variant", "w"),
    "only watched": ({"tasks": {"*": "watched"}}, "nothing-required", "watched"),
    "a limit without effect": (
        {"tasks": {"a": {"require": "watched", "min_items": 9}, "b": "certified"}},
        "setting-without-effect",
        "min_items",
    ),
    "two patterns disagree": (
        {"tasks": {"a*": "certified", "?": "not-degraded"}},
        "ambiguous-rules",
        "task a",
    ),
    "a level above the policy's": (
        {"alpha": 0.01, "tasks": {"a": {"require": "certified", "alpha": 0.05}}},
        "alpha-too-large",
        "0.05",
    ),
    "a margin in a unit that the metric lacks": (
        {"tasks": {"a": {"require": "certified", "margin_own_unit": 2}}},
        "wrong-margin",
        "margin",
    ),
    "a tolerance in percent": (
        CERTIFIED | {"measurements": {"output_tokens": {"within": 5}}},
        "invalid-policy",
        "should be a share below 1, such as 0.05 (it is 5)",
    ),
    "a tolerance in points": (
        CERTIFIED | {"measurements": {"cut": {"within": 2}}},
        "invalid-policy",
        "should be a share below 1",
    ),
}


@pytest.fixture
def decide(tmp_path, lldeg):
    """Runs the command on made tasks; returns how it ended and decision.json, None if there is none."""

    def run(tasks, policy, *options):
        folder = make_run(tmp_path / "run", tasks, baseline="base")
        path = tmp_path / "policy.yaml"
        path.write_text(policy if isinstance(policy, str) else yaml.safe_dump(policy))
        ended = lldeg("analyze", folder, "--policy", path, *options)
        file = folder / "analysis" / "decision.json"
        return ended, json.loads(file.read_text()) if file.exists() else None

    return run


def codes_of(decision):
    """All reason codes of a decision."""
    reasons = [*decision["reasons"], *(reason for case in decision["cases"] for reason in case["reasons"])]
    return {reason["code"] for reason in reasons}


@pytest.mark.slow
@pytest.mark.parametrize("case", DECIDED)
def test_what_a_policy_decides(decide, case):
    """Exit status and reason code of every kind of release."""
    tasks, policy, status, code = DECIDED[case]
    ended, decision = decide(tasks, policy)
    assert ended.status == decision["exit_status"] == status, ended
    assert code in codes_of(decision)
    assert (status == 0) == (decision["decision"] == "pass")


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_policies_that_are_refused(decide, case):
    """Exit status 2, one sentence that names the place, and no decision."""
    policy, code, named = REFUSED[case]
    ended, decision = decide(BOTH, policy)
    assert (ended.status, decision) == (2, None)
    assert named in ended.err
    assert "Traceback" not in ended.err
    with pytest.raises(PolicyError) as error:
        lldeg.analyze("run", policy=policy)
    assert error.value.codes == (code,)


def test_duplicate_keys_are_refused(decide):
    """YAML would let the last one win."""
    ended, _ = decide(BOTH, "tasks:\n  a: certified\n  a: watched\n")
    assert ended.status == 2
    assert "duplicate key 'a'" in ended.err


def test_all_mistakes_are_named_at_once(decide):
    """Three mistakes that only the tasks show."""
    rules = {"bb": "certified", "a": {"require": "certified", "alpha": 0.5}, "b": "certified"}
    ended, _ = decide(BOTH, {"alpha": 0.05, "tasks": rules, "variants": ["w"]})
    assert ended.status == 2
    assert all(word in ended.err for word in ("tasks.bb", "alpha 0.5", "'w'"))


@pytest.mark.parametrize(
    "options", [("--alpha", 0.01), ("--margin", 0.05), ("--gate", "certified"), ("--combine", "any")]
)
def test_options_that_contradict_the_policy(decide, options):
    """What the policy says is not said again, and no test without a controlled level decides."""
    ended, decision = decide(BOTH, CERTIFIED | {"alpha": 0.05}, *options)
    assert (ended.status, decision) == (2, None)
