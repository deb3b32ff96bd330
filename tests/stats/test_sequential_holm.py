"""Group-sequential Holm: levels passed on, and decisions that do not depend on who comes first."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.multiplicity import holm
from stats.sequential.monitor import Crossings, holm_rounds
from stats.verdict import Verdict

LOOKS = 4


@st.composite
def crossing(draw, comparisons):
    """First crossings of a comparison: a higher level is crossed no later."""
    found = sorted(draw(st.lists(st.integers(1, LOOKS + 1), min_size=comparisons, max_size=comparisons)))[
        ::-1
    ]
    certified = draw(st.integers(0, LOOKS))
    return tuple(look if look <= LOOKS else 0 for look in found), certified


SWEEPS = st.integers(1, 4).flatmap(lambda m: st.lists(crossing(m), min_size=m, max_size=m))


def seen(sweep, taken):
    """What is known of every comparison after some of its looks."""
    return {
        str(number): Crossings(
            known,
            tuple(look if look <= known else 0 for look in degraded),
            certified if certified <= known else 0,
        )
        for number, ((degraded, certified), known) in enumerate(zip(sweep, taken, strict=True))
    }


def test_a_rejection_passes_its_level_on():
    """The second comparison crosses only α, and is rejected in the round in which the first is."""
    tests = {"first": Crossings(4, (2, 1), 0), "second": Crossings(4, (0, 1), 0)}
    found, places = holm_rounds(tests, LOOKS)
    assert [(end.verdict, end.look, end.place) for end in found.values()] == [
        (Verdict.DEGRADED, 2, 0),
        (Verdict.DEGRADED, 2, 1),
    ]
    assert places == [0, 1, 1, 1]


@pytest.mark.slow
@settings(max_examples=300)
@given(SWEEPS)
def test_without_certificates_the_rejections_are_those_of_holm(sweep):
    """A level is crossed by the end, or not: Holm's step-down on the levels crossed."""
    tests = seen([(degraded, 0) for degraded, _ in sweep], [LOOKS] * len(sweep))
    count = len(sweep)
    smallest = [
        next((0.05 / (count - place) for place in range(count) if degraded[place]), 1.0)
        for degraded, _ in sweep
    ]
    found, _ = holm_rounds(tests, LOOKS)
    rejected = [found[str(number)].verdict is Verdict.DEGRADED for number in range(count)]
    assert rejected == [p <= 0.05 + 1e-12 for p in holm(smallest)]


@pytest.mark.slow
@settings(max_examples=300)
@given(SWEEPS, st.data())
def test_a_verdict_given_early_is_the_one_given_at_the_end(sweep, data):
    """Whatever is known of the others: verdicts stay, and looks move forward at most."""
    taken = [data.draw(st.integers(0, LOOKS)) for _ in sweep]
    early, _ = holm_rounds(seen(sweep, taken), LOOKS)
    late, _ = holm_rounds(seen(sweep, [LOOKS] * len(sweep)), LOOKS)
    for name, end in early.items():
        assert late[name].verdict is end.verdict
        assert late[name].look <= end.look <= taken[int(name)]


@settings(max_examples=200)
@given(SWEEPS)
def test_stopping_where_it_is_decided_changes_nothing(sweep):
    """Comparisons that take no look after their decision get the decisions of those that take all."""
    late, places = holm_rounds(seen(sweep, [LOOKS] * len(sweep)), LOOKS)
    stopped = seen(sweep, [late[str(number)].look for number in range(len(sweep))])
    assert holm_rounds(stopped, LOOKS) == (late, places)
    assert holm_rounds(stopped, LOOKS, closed=True) == (late, places)


def test_the_order_of_comparisons_has_no_say():
    """All permutations of three comparisons."""
    tests = {
        "a": Crossings(4, (0, 3, 2), 2),
        "b": Crossings(4, (3, 1, 1), 0),
        "c": Crossings(4, (0, 0, 3), 4),
    }
    expected = holm_rounds(tests, LOOKS)
    for names in itertools.permutations(tests):
        assert holm_rounds({name: tests[name] for name in names}, LOOKS) == expected


def test_a_certificate_waits_until_damage_is_excluded():
    """As long as another comparison could pass its level on, no certificate: it may turn out as damage."""
    lagging = {"a": Crossings(2, (0, 2), 2), "b": Crossings(1, (0, 0), 0)}
    assert holm_rounds(lagging, LOOKS)[0] == {}
    rejected = {**lagging, "b": Crossings(2, (2, 1), 0)}
    assert holm_rounds(rejected, LOOKS)[0]["a"].verdict is Verdict.DEGRADED
    kept = {**lagging, "b": Crossings(2, (0, 0), 0)}
    assert holm_rounds(kept, LOOKS)[0]["a"].verdict is Verdict.CERTIFIED


def test_a_closed_sweep_waits_for_nobody():
    """A comparison that never reported counts as not rejected, and gets no verdict itself."""
    tests = {"a": Crossings(4, (0, 3), 2), "b": Crossings(0, (0, 0), 0)}
    found, _ = holm_rounds(tests, LOOKS, closed=True)
    assert found["a"].verdict is Verdict.CERTIFIED
    assert "b" not in found
