"""The policy that stops variants early while a sweep runs: the looks of an analysis, block by block."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standin.runs import digest
from standin.sequential_runs import BASE, a_sweep, make_stopped_run, write_samples

from jobs.analysis.sequential.early_stopping import EarlyStopping
from orchestrator.workers.stopping import NO_SEED, SCORES, Next
from stats.sequential.plan import item_order

TASKS = {"first": 120, "second": 80}
VARIANTS = {"broken": {"worse": 0.4}, "worse": {"worse": 0.12, "better": 0.02}, "same": {}}
NOTHING = {"broken": 0.0, "worse": 0.0, "same": 0.0}


def owed(shares, temperatures=(0.0, 0.7)):
    """Shares of the items that have come in, by comparison."""
    return {(variant, t): share for variant, share in shares.items() for t in temperatures}


@pytest.fixture(scope="module")
def scores():
    """Answers of a baseline and three variants at two temperatures, some of them failed."""
    variants = {name: {**rates, "failing": 0.01} for name, rates in VARIANTS.items()}
    return a_sweep(variants, TASKS, {0.0: 1, 0.7: 2})


@pytest.fixture(scope="module")
def undisturbed(scores, tmp_path_factory):
    """The looks of the whole sweep, computed independently."""
    return make_stopped_run(tmp_path_factory.mktemp("whole"), scores, looks=5)


def reported(*columns):
    """Scores of samples: items, temperatures, seeds, scores."""
    return np.rec.fromarrays(columns, dtype=SCORES)


def reports(scores, rng):
    """All answers in blocks of some items, in random order."""
    blocks = []
    for (model, t), by_task in scores.items():
        for task, values in by_task.items():
            for items in np.array_split(rng.permutation(values.shape[1]), 9):
                seeds = [NO_SEED] if t == 0.0 else list(range(len(values)))
                count = len(items)
                blocks.append(
                    (
                        model,
                        task,
                        reported(
                            np.tile(items, len(seeds)),
                            np.full(count * len(seeds), t),
                            np.repeat(seeds, count),
                            np.concatenate([values[number][items] for number in range(len(seeds))]),
                        ),
                    )
                )
    return [blocks[place] for place in rng.permutation(len(blocks))]


def decided(policy):
    """Verdicts that the policy knows, by variant and temperature."""
    return {
        (variant, standing.temperature): standing.verdict
        for variant, standings in policy.last_looks().items()
        for standing in standings
        if standing.verdict
    }


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.2, 0.5, 0.9]))
def test_decisions_do_not_depend_on_blocks_order_or_kills(seed, share, scores, undisturbed, tmp_path_factory):
    """Whatever an earlier submit left, and however the rest comes in: looks.json of the whole sweep."""
    folder = tmp_path_factory.mktemp("run")
    begun = make_stopped_run(folder, scores, looks=5, owed=owed(dict.fromkeys(VARIANTS, share)))
    policy = EarlyStopping(str(begun.path), pytest.fail)
    for block in reports(scores, np.random.default_rng(seed)):
        policy.take_scores(*block)
    assert json.loads((folder / "looks.json").read_text()) == undisturbed.record


def test_what_is_decided_stops_and_stays_so(scores, undisturbed, tmp_path):
    """STOP where the looks decide, at no other place; the baseline at a temperature once all have ended."""
    run = make_stopped_run(tmp_path / "run", scores, looks=5, owed=owed(NOTHING))
    policy = EarlyStopping(str(run.path), pytest.fail)
    stopped = set()
    for block in reports(scores, np.random.default_rng(5)):
        policy.take_scores(*block)
        now = {key for key in scores if policy.next_for(*key) is Next.STOP}
        assert stopped <= now
        assert {key for key in now if key[0] != BASE} == decided(policy).keys()
        stopped = now
    assert stopped == set(scores)
    assert decided(policy) == {key: course.verdict.value for key, course in undisturbed.courses.items()}
    assert decided(policy)["broken", 0.7] == "degraded"


def test_a_new_policy_knows_what_the_samples_say(scores, undisturbed):
    """A run that has been decided needs nothing more, from its samples alone."""
    undisturbed.write_record({"damaged": True})
    policy = EarlyStopping(str(undisturbed.path), pytest.fail)
    assert all(policy.next_for(*key) is Next.STOP for key in scores)
    assert undisturbed.record["comparisons"]


def test_the_baseline_leads_by_one_look(scores, tmp_path):
    """A variant waits unless the baseline has the next look, is complete, or has ended."""
    run = make_stopped_run(tmp_path / "run", scores, looks=5, owed=owed(NOTHING))
    policy = EarlyStopping(str(run.path), pytest.fail)
    asked = {}
    for model, task, part in reports(scores, np.random.default_rng(1)):
        asked.setdefault(model, []).append((model, task, part))
    assert policy.next_for("same", 0.7) is Next.WAIT
    assert policy.next_for(BASE, 0.7) is Next.CONTINUE
    for block in asked[BASE]:
        policy.take_scores(*block)
    assert policy.next_for("same", 0.7) is Next.CONTINUE
    again = EarlyStopping(str(make_stopped_run(tmp_path / "b", scores, owed=owed(NOTHING)).path), print)
    again.ended(BASE)
    assert again.next_for("same", 0.0) is Next.CONTINUE


def test_scores_out_of_range_end_all_looks_and_nothing_else(scores, tmp_path):
    """A score of 7 for an accuracy: one sentence, every sample is needed again, and the sweep goes on."""
    run = make_stopped_run(tmp_path / "run", scores, looks=5, owed=owed(NOTHING))
    said = []
    policy = EarlyStopping(str(run.path), said.append)
    for model, task, part in reports(scores, np.random.default_rng(2)):
        part["score"] = 7.0 * part["score"] + 1
        policy.take_scores(model, task, part)
    assert len(said) == 1
    assert {policy.next_for(*key) for key in scores} == {Next.CONTINUE}


def test_answers_outside_of_the_plan_are_ignored(scores, tmp_path):
    """Another task, item, temperature or seed: nothing is counted."""
    run = make_stopped_run(tmp_path / "run", scores, looks=5, owed=owed(NOTHING))
    policy = EarlyStopping(str(run.path), pytest.fail)
    for task, item, t, seed in (("x", 0, 0.0, -1), ("first", 999, 0.0, -1), ("first", 0, 0.3, 0)):
        policy.take_scores(BASE, task, reported([item], [t], [seed], [1.0]))
    assert policy.last_looks() == {}


def test_a_later_submit_is_told_of_scores_out_of_range_too(scores, tmp_path):
    """What ended the looks of the first submit ends those of the next, and not the submit itself."""
    beyond = {**scores, ("same", 0.0): {t: 7.0 * v + 1 for t, v in scores["same", 0.0].items()}}
    run = make_stopped_run(tmp_path / "run", scores, looks=5, owed=owed(NOTHING))
    made = (run.path / "manifest.json").read_bytes()
    order = {task: item_order([digest(f"{task}{i}") for i in range(n)]) for task, n in TASKS.items()}
    write_samples(run.path, beyond, None, order, dict.fromkeys(scores, 1.0))
    (run.path / "manifest.json").write_bytes(made)
    said = []
    policy = EarlyStopping(str(run.path), said.append)
    assert len(said) == 1
    assert policy.next_for("same", 0.0) is Next.CONTINUE


def test_what_is_not_compared_never_waits(scores, tmp_path):
    """A task without a metric may be the only one with answers at a temperature."""
    run = make_stopped_run(tmp_path / "run", scores, looks=5, owed=owed(NOTHING))
    assert EarlyStopping(str(run.path), pytest.fail).next_for("same", 0.3) is Next.CONTINUE


def test_finishing_asks_for_everything_and_still_takes_the_looks(scores, undisturbed, tmp_path):
    """Nothing stops or waits; looks.json of a run that was finished undecided is that of the whole run."""
    run = make_stopped_run(tmp_path / "run", scores, looks=5, owed=owed(dict.fromkeys(VARIANTS, 0.2)))
    policy = EarlyStopping(str(run.path), pytest.fail, finish=True)
    for block in reports(scores, np.random.default_rng(3)):
        policy.take_scores(*block)
        assert {policy.next_for(*key) for key in scores} == {Next.CONTINUE}
    assert run.record == undisturbed.record


def test_the_baseline_is_not_asked_for_a_variant_that_has_ended(scores, tmp_path):
    """An engine refuses one variant: the baseline stops with the last look that the others can take."""
    run = make_stopped_run(tmp_path / "run", scores, looks=5, owed=owed(NOTHING))
    policy = EarlyStopping(str(run.path), pytest.fail)
    for variant in ("worse", "same"):
        policy.ended(variant)
    assert policy.next_for(BASE, 0.7) is Next.CONTINUE
    for block in reports(scores, np.random.default_rng(4)):
        if block[0] in {BASE, "broken"}:
            policy.take_scores(*block)
    assert decided(policy)["broken", 0.7] == "degraded"
    assert policy.next_for(BASE, 0.7) is Next.STOP


def test_a_variant_that_was_answered_whole_still_needs_the_baseline(scores, tmp_path):
    """Its looks are taken as those of the baseline come in."""
    run = make_stopped_run(tmp_path / "run", scores, looks=5, owed=owed(NOTHING))
    policy = EarlyStopping(str(run.path), pytest.fail)
    for block in reports(scores, np.random.default_rng(6)):
        if block[0] != BASE:
            policy.take_scores(*block)
    for variant in VARIANTS:
        policy.ended(variant)
    assert policy.next_for(BASE, 0.7) is Next.CONTINUE
