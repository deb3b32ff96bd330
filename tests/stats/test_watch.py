"""The alarm over dates: what counts where, and that it is rarely raised without a change."""

from itertools import product

import numpy as np
import pytest

from stats.arrays import EvidenceError
from stats.watch import log_e_value, matched_runs, process_weights, watch


def date(**signs):
    """A date by unit and sign."""
    return np.array(list(signs)), np.array(list(signs.values()), dtype=np.int64)


def one_way(units, worse, better=0):
    """A date on numbered units, the first of them worse, the next better, the rest equal."""
    signs = np.zeros(len(units), dtype=np.int64)
    signs[:worse], signs[worse : worse + better] = 1, -1
    return np.array(units), signs


def test_one_date_is_one_e_process_at_half_the_level():
    """The process that starts at the first date has weight 1/2."""
    found = watch([one_way(range(100), 12, 4)])
    assert found.log_evidence[0] == pytest.approx(float(log_e_value(12, 4)) - np.log(2))


def test_a_unit_counts_once_in_a_process():
    """Asked again on the second date, it counts only in the process that starts there."""
    found = watch([date(a=1, b=1), date(a=1, c=1)])
    expected = [float(log_e_value(3, 0)) - np.log(2), float(log_e_value(2, 0)) - np.log(6)]
    assert found.log_evidence[1] == pytest.approx(max(expected))


def test_a_unit_that_was_equal_counts_as_asked():
    """Only the first answer since a start counts, flip or not."""
    found = watch([date(a=0), date(a=1)])
    expected = [float(log_e_value(0, 0)) - np.log(2), float(log_e_value(1, 0)) - np.log(6)]
    assert found.log_evidence[1] == pytest.approx(max(expected))


def test_the_same_answers_every_day_are_no_new_evidence():
    """A difference of 15 to 5 that stays for 200 dates never becomes an alarm."""
    found = watch([one_way(range(300), 15, 5)] * 200)
    assert found.alarm is None
    assert found.log_evidence.max() == found.log_evidence[0]


def test_in_either_direction_it_is_the_mean_of_both():
    """The whole mixture is half of each of its halves, so that either direction counts alike."""
    for worse, better in ((12, 4), (0, 0), (3, 30)):
        both = [float(log_e_value(*flips, 5.0)) for flips in ((worse, better), (better, worse))]
        expected = np.logaddexp(*both) - np.log(2)
        assert float(log_e_value(worse, better, 5.0, either=True)) == pytest.approx(expected)
    longer, shorter = (watch([one_way(range(40), *flips)], either=True) for flips in ((30, 2), (2, 30)))
    assert longer.log_evidence == pytest.approx(shorter.log_evidence)
    assert longer.alarm == shorter.alarm == 0


def test_the_strongest_process_is_found():
    """Against working out every process at every date."""
    rng = np.random.default_rng(3)
    dates = [date(**{f"u{unit}": int(rng.choice([-1, 0, 1])) for unit in rng.choice(60, 20, replace=False)})
             for _ in range(40)]  # fmt: skip
    expected = []
    for now in range(40):
        logs = []
        for start in range(now + 1):
            first = {}
            for one in dates[start : now + 1]:
                for unit, sign in zip(*map(np.ndarray.tolist, one), strict=True):
                    first.setdefault(unit, sign)
            signs = list(first.values())
            weight = np.log((start + 1) * (start + 2))
            logs.append(float(log_e_value(signs.count(1), signs.count(-1))) - weight)
        expected.append(max(logs))
    assert watch(dates).log_evidence == pytest.approx(expected)


def test_a_late_change_is_dated():
    """After 30 quiet dates the same 3,000 items lose: the alarm comes at once, and dates the change."""
    quiet, changed = one_way(range(3000), 20, 20), one_way(range(3000), 250, 110)
    found = watch([quiet] * 30 + [changed])
    assert (found.alarm, found.starts[30]) == (30, 30)


def test_an_improvement_is_no_alarm():
    """Only worse counts."""
    assert watch([one_way(range(1000), 10, 200)]).alarm is None


def test_series_that_come_later_take_nothing_from_those_that_run():
    """Two series from the first date on, a third from the fourth: shares add up to the level at most."""
    first, second, third = process_weights([range(10), [0, 1, 5], range(3, 10)], 10)
    assert first[:3] == pytest.approx([1 / 4, 1 / 12, 1 / 24])
    assert second == pytest.approx([1 / 4, 1 / 12, 1 / 126])
    assert third[0] == first[3] == pytest.approx(1 / 60)
    assert first.sum() + second.sum() + third.sum() <= 1.0


def test_no_date_and_repeated_units_are_refused():
    """There is nothing to look at, and two signs of one unit have no order."""
    with pytest.raises(EvidenceError):
        watch([])
    with pytest.raises(EvidenceError):
        watch([(np.array(["a", "a"]), np.array([1, 1]))])


@pytest.mark.slow
def test_a_drop_is_found_within_the_items_that_the_docs_promise():
    """3 points at 10 % flips from date 30 on: 4,000 items find it nine times in ten (docs/history.md)."""
    found = 0
    for seed in range(100):
        rng = np.random.default_rng([7, seed])
        dates = [
            (
                np.arange(200) + 200 * day,
                rng.choice([1, -1, 0], 200, p=[0.065, 0.035, 0.9] if day >= 29 else [0.05, 0.05, 0.9]),
            )
            for day in range(29 + 4000 // 200)
        ]
        alarm = watch(dates).alarm
        found += alarm is not None and alarm >= 29
    assert found >= 84  # 90, less two standard errors


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [True, False], ids=["other items", "same items"])
def test_false_alarms_without_a_change(fresh):
    """Of 200 histories of 60 dates, at most a share of .05, plus two standard errors, raises an alarm."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        dates = [
            (np.arange(200) + 200 * day * fresh, rng.choice([-1, 0, 1], 200, p=[0.05, 0.9, 0.05]))
            for day in range(60)
        ]
        alarms += watch(dates).alarm is not None
    assert alarms / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.slow
def test_three_hundred_days_without_a_change_of_any_measurement():
    """Of 40 histories, each of six measurements at a sixth of the level, two raise an alarm at most.

    Lengths differ on most items and by chance, shares on few; the same items are asked every day, and the
    answers are drawn anew, of the reference, too.
    """
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng([9, seed])
        for differs in (0.9, 0.9, 0.1, 0.5, 0.05, 0.3):
            p = [differs / 2, 1 - differs, differs / 2]
            dates = [(np.arange(40) + 40 * (day % 50), rng.choice([-1, 0, 1], 40, p=p)) for day in range(300)]
            alarms += watch(dates, 0.05 / 6, either=True).alarm is not None
    assert alarms <= 2


UNKNOWN = ((-1,) * 3, (-1,))


def test_runs_under_common_seeds_count_first():
    """As many runs as both have; of an item with equal numbers all of them, whatever their seeds."""
    first = np.array([[10.0, 11.0, 12.0], [20.0, 21.0, np.nan], [np.nan, 31.0, 32.0]])
    second = np.array([[1.0, 2.0], [3.0, 4.0], [np.nan, 6.0]])
    kept, others = matched_runs((first, second), ((0, 1, 2), (2, 1)), 0)
    assert kept[0].tolist() == pytest.approx([np.nan, 11.0, 12.0], nan_ok=True)
    assert kept[1].tolist() == pytest.approx([20.0, 21.0, np.nan], nan_ok=True)
    assert kept[2].tolist() == pytest.approx([np.nan, 31.0, np.nan], nan_ok=True)
    assert np.array_equal(others, second, equal_nan=True)


def test_scores_have_no_part_in_which_runs_count():
    """Other scores, the same choice; every run is chosen as often as another."""
    rng = np.random.default_rng(0)
    masks = [
        ~np.isnan(matched_runs((rng.random((3000, 3)), rng.random((3000, 1))), UNKNOWN, 5)[0])
        for _ in range(2)
    ]
    assert np.array_equal(*masks)
    assert (masks[0].sum(axis=1) == 1).all()
    assert masks[0].mean(axis=0) == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize("chance", [0.1, 0.7])
def test_signs_of_matched_runs_are_fair_coins(chance):
    """By enumeration of three answers beside one; the means over all of them are no fair coin."""
    answers = np.array(list(product((0.0, 1.0), repeat=4)))
    weights = np.prod(np.where(answers == 1.0, chance, 1.0 - chance), axis=1)
    pairs = [(row[None, :3], row[None, 3:]) for row in answers]
    for means, is_fair in ((pairs, False), ([matched_runs(pair, UNKNOWN, 0) for pair in pairs], True)):
        signs = np.array([np.sign(np.nanmean(first) - np.nanmean(second)) for first, second in means])
        assert (abs(weights @ signs) < 1e-12) == is_fair


@pytest.mark.slow
@pytest.mark.parametrize("runs", [(1, 1), (10, 1), (3, 1), (2, 1), (3, 2)], ids=str)
def test_false_alarms_with_unequal_reruns(runs):
    """Of 100 histories of 30 dates at most a share of .05, plus two standard errors, raises an alarm.

    By the means over all runs it is all of them with 10, 3 or 2 runs beside one, and a fifth with 3 beside 2.
    """
    alarms = 0
    for seed in range(100):
        rng = np.random.default_rng([8, seed])
        dates = []
        for day in range(30):
            ability = rng.beta(2, 8, 200)[:, None]
            answers = tuple((rng.random((200, count)) < ability).astype(float) for count in runs)
            first, second = matched_runs(answers, tuple((-1,) * count for count in runs), day)
            signs = np.sign(np.nanmean(first, axis=1) - np.nanmean(second, axis=1))
            dates.append((np.arange(200) + 200 * day, signs.astype(np.int64)))
        alarms += watch(dates).alarm is not None
    assert alarms / 100 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 100)
