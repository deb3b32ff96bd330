"""The exact group-sequential sign-flip test against full enumeration of the signs."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.sequential.boundaries import parse_spending
from stats.sequential.looks import SignFlipWalk
from stats.signflip import SignFlipTest

SPENDING = st.sampled_from(["hsd-2", "hsd-4", "hsd1", "obf"])
BINARY = st.integers(-1, 1).map(float)
AVERAGED = st.integers(-10, 10).map(lambda steps: steps / 10)
UNEQUAL = st.tuples(st.integers(0, 3), st.integers(0, 4)).map(lambda pair: pair[0] / 3 - pair[1] / 4)
LOOKS = (
    st.sampled_from([BINARY, AVERAGED, UNEQUAL])
    .flatmap(lambda scores: st.lists(st.lists(scores, max_size=4), min_size=1, max_size=4))
    .filter(lambda looks: sum(map(len, looks)) <= 12)
)


def walked(looks, levels, spending="hsd-2", fractions=None):
    """What every look says."""
    fractions = fractions or [(number + 1) / len(looks) for number in range(len(looks))]
    walk = SignFlipWalk(np.array(levels), parse_spending(spending))
    found = []
    for fraction, values in zip(fractions, looks, strict=True):
        law = walk.look(fraction, np.array(values, dtype=float))
        found.append(law)
    return found


def enumerated_statistics(looks):
    """The standardised statistic of every sign vector at every look, shape (2^n, looks)."""
    values = np.concatenate([np.array(look, dtype=float) for look in looks])
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=values.size)))
    ends = np.cumsum([len(look) for look in looks])
    squares = [float(values[:end] @ values[:end]) for end in ends]
    return np.stack(
        [signs[:, :end] @ values[:end] / np.sqrt(s or 1.0) for end, s in zip(ends, squares, strict=True)],
        axis=1,
    )


@pytest.mark.slow
@settings(max_examples=200)
@given(LOOKS, SPENDING, st.sampled_from([[0.05], [0.3], [0.05, 0.1, 0.4]]))
def test_crossing_probabilities_equal_enumeration(looks, spending, levels):
    """For every look and level the share of all sign vectors that have crossed is what is said, to 1e-12."""
    laws = walked(looks, levels, spending)
    statistics = enumerated_statistics(looks)
    for place in range(len(levels)):
        crossed = np.zeros(len(statistics), dtype=bool)
        for look, law in enumerate(laws):
            crossed |= statistics[:, look] >= law.boundary[place] - 1e-9
            assert law.spent[place] == pytest.approx(crossed.mean(), abs=1e-12)


@settings(max_examples=100)
@given(LOOKS, SPENDING, st.sampled_from([0.05, 0.2, 0.5]))
def test_the_boundary_is_the_lowest_that_spending_allows(looks, spending, level):
    """What is spent stays within f, and the next lower value of the sum would exceed it."""
    function = parse_spending(spending)
    statistics = enumerated_statistics(looks)
    crossed = np.zeros(len(statistics), dtype=bool)
    for look, law in enumerate(walked(looks, [level], spending)):
        allowed = function((look + 1) / len(looks), level)
        assert law.spent[0] <= allowed + 1e-12
        below = statistics[~crossed & (statistics[:, look] < law.boundary[0] - 1e-9), look]
        if below.size:
            more = crossed | (statistics[:, look] >= below.max() - 1e-9)
            assert more.mean() > allowed
        crossed |= statistics[:, look] >= law.boundary[0] - 1e-9


@settings(max_examples=100)
@given(LOOKS, SPENDING)
def test_the_stagewise_p_value_equals_enumeration(looks, spending):
    """P(crossed earlier, or now with at least the observed sum); at most α where any look has crossed."""
    laws = walked(looks, [0.2], spending)
    statistics = enumerated_statistics(looks)
    crossed = np.zeros(len(statistics), dtype=bool)
    for look, law in enumerate(laws):
        as_far = crossed | (statistics[:, look] >= law.statistic - 1e-9)
        assert law.p_stagewise[0] == pytest.approx(as_far.mean(), abs=1e-12)
        crossed |= statistics[:, look] >= law.boundary[0] - 1e-9
    assert (laws[-1].p_stagewise[0] <= 0.2 + 1e-12) == (laws[-1].crossed[0] or bool(crossed[0]))


@settings(max_examples=100)
@given(LOOKS, SPENDING)
def test_what_crosses_at_a_level_crosses_at_every_higher_one(looks, spending):
    """Boundaries fall as the level rises, at every look."""
    for law in walked(looks, [0.02, 0.05, 0.1, 0.3, 0.6], spending):
        assert (np.diff(law.boundary[np.isfinite(law.boundary)]) <= 1e-12).all()
        assert (np.diff(np.isfinite(law.boundary).astype(int)) >= 0).all()


@settings(max_examples=60)
@given(st.lists(AVERAGED, min_size=1, max_size=40), st.sampled_from([0.05, 0.3]))
def test_a_single_look_is_the_fixed_test(values, level):
    """With one look p is that of the sign-flip test, and it crosses where that is at most α."""
    law = walked([values], [level])[0]
    p = SignFlipTest(np.array(values)).p
    assert law.p_stagewise[0] == pytest.approx(p, rel=1e-9)
    assert law.crossed[0] == (p <= level * (1 + 1e-12))


def test_skipped_looks_leave_their_share_to_the_next():
    """Looks 1 and 3 of four left out: the function is evaluated where looks are taken."""
    looks = [[1, -1, 1, 1, 0, 1], [1, 1, -1, 1]]
    laws = walked(looks, [0.3], fractions=[0.5, 1.0])
    assert laws[0].spent[0] <= parse_spending("hsd-2")(0.5, 0.3)
    assert laws[1].spent[0] <= 0.3


def test_the_statistic_keeps_its_step_when_a_finer_one_comes_in():
    """Halves after whole numbers, thirds after halves: the sum of the units is the sum of the scores."""
    looks = [[1.0, 1.0, -1.0], [0.5, -1.0], [1 / 3, 2 / 3]]
    values = np.concatenate([np.array(look) for look in looks])
    assert walked(looks, [0.05])[-1].statistic == pytest.approx(values.sum() / np.sqrt(values @ values))


def test_scores_on_no_lattice_are_rounded_and_stay_exact():
    """Normal differences: the statistic is theirs to half a percent, and the level is spent but for steps."""
    values = np.random.default_rng(1).normal(size=2_000)
    laws = walked(np.array_split(values, 5), [0.05])
    assert laws[-1].statistic == pytest.approx(values.sum() / np.sqrt(values @ values), abs=0.02)
    assert laws[-1].spent[0] == pytest.approx(0.05, abs=2e-4)


def test_the_same_scores_in_another_unit_cross_alike():
    """A factor changes no look, whatever it does to the rounding of sums."""
    values = np.random.default_rng(2).integers(-3, 4, 60) / 10
    first, second = (walked(np.array_split(scale * values, 4), [0.05, 0.1]) for scale in (1.0, 0.7))
    for one, other in zip(first, second, strict=True):
        assert one.spent == pytest.approx(other.spent, abs=1e-14)
        assert one.boundary == pytest.approx(other.boundary, rel=1e-12)


def test_without_differences_nothing_crosses():
    """No sign, no evidence."""
    for law in walked([[0.0, 0.0], [], [0.0]], [0.05]):
        assert not law.crossed[0]
        assert law.p_stagewise[0] == pytest.approx(1.0)
        assert np.isinf(law.boundary[0])
