"""The alarm of `lldeg history`: false alarms over 1,000 looks, and how soon a drop is found.

    python benchmarks/history_alarms.py [SIMULATIONS] [--repeated | --measured]

False alarms, 1,000 dates of 50 items (the same 500 items in turns, or others every date), 10 % flips:
  other items       every date asks items that were never asked before
  noise             answers of reference and model are drawn anew on every date
  old reference     the reference was asked once, the model anew on every date
  same answers      answers never change: the model differs on a tenth of the items, as often better as worse
  neutral change    the same, and at date 500 the model differs on another tenth
Drift: from date c on the model loses 3 points at 10 % flips; other items every date. Prints the share found,
and the 50 % and 90 % quantiles of the items asked from date c to the alarm.
Reruns: 30 dates of other items, of which the model is right as often as its reference, or from the eleventh
date on 30 % less often. Prints the share of false alarms, then the share found and the median of the dates to
the alarm; by means over all runs, and over as many as both have, as `lldeg history` compares them.
  common seeds      under a common seed, three answers in four are decided by the same chance
  partly answered   half of the model's runs of an item but the first are missing
  old reference     the reference was asked once, the same items are asked in turns of five dates
  clusters          five items that are alike count as one
Repeated (alone with --repeated): a single model asked the same items on every date, and compared with its own
oldest run, from which some answers differ by chance; from date 30 on it loses points. Prints the shares found
on that date and within a week.
Measured (alone with --measured): the same, of answers that grow from date 30 on; by chance, the logarithms of
the lengths of two answers to an item differ with some standard deviation.
"""

import itertools
import sys

import numpy as np

from jobs.history import FOLLOWED
from stats.arrays import block_sums
from stats.scores import from_reruns
from stats.watch import DateFlips, matched_runs, watch

Setting = tuple[str, tuple[int, int], int]  # kind, share of right answers as Beta(a, b), items a date

LOOKS, A_DATE, POOL, FLIPS, DROP = 1000, 50, 500, 0.1, 0.03
REPEATED, DROPS, MONTH, WEEK = (200, 500, 1000, 2000, 5000), (0.0, 0.02, 0.03, 0.05, 0.1), 30, 7
NOISE = {0.1: 1 / 8, 0.02: 1 / 48}  # share of answers that differ by chance where these are from Beta(a, a)
SPREAD, FEW, GROWTH = (0.2, 0.5, 0.9), (50, 100, 200, 500, 1000), (0.0, 0.1, 0.3)
DATES, CHANGE, LOSS = 30, 10, 0.3
RERUNS = {
    # by setting, runs of the reference and of the model
    ("right or wrong", (2, 8), 200): ((1, 1), (10, 10), (10, 1), (3, 1), (2, 1), (3, 2), (5, 4), (1, 3)),
    ("right or wrong", (2, 5), 50): ((1, 1), (2, 1), (3, 2)),
    ("right or wrong", (1, 1), 200): ((1, 1), (10, 1)),
    ("right or wrong", (8, 2), 200): ((1, 1), (3, 1), (1, 3), (1, 10)),
    ("graded", (2, 8), 200): ((1, 1), (3, 1), (3, 2)),
    ("common seeds", (2, 8), 200): ((1, 1), (3, 1), (3, 2)),
    ("partly answered", (2, 8), 200): ((3, 3), (10, 3)),
    ("old reference", (2, 8), 200): ((1, 1), (10, 1), (10, 3)),
    ("clusters", (2, 8), 200): ((1, 1), (3, 1), (3, 2)),
}


def drawn(rng: np.random.Generator, size: int, drop: float = 0.0) -> np.ndarray:
    """Signs of items that flip in both directions."""
    return rng.choice([1, -1, 0], size, p=[(FLIPS + drop) / 2, (FLIPS - drop) / 2, 1 - FLIPS])


def in_turns(look: int) -> np.ndarray:
    """The items of a date where the same ones are asked in turns."""
    return np.arange(A_DATE) + A_DATE * (look % (POOL // A_DATE))


def histories(kind: str, rng: np.random.Generator) -> list[DateFlips]:
    """One history without damage."""
    chance = rng.uniform(0.0, 1.0, POOL)  # of a right answer to each item
    old = rng.random(POOL) < chance
    fixed = drawn(rng, POOL), drawn(rng, POOL)
    dates = []
    for look in range(LOOKS):
        units = in_turns(look)
        if kind == "other items":
            units, signs = np.arange(A_DATE) + A_DATE * look, drawn(rng, A_DATE)
        elif kind in {"noise", "old reference"}:
            model = (rng.random(A_DATE) < chance[units]).astype(int)
            now = (rng.random(A_DATE) < chance[units]).astype(int)
            signs = (old[units].astype(int) if kind == "old reference" else now) - model
        else:
            signs = fixed[int(kind == "neutral change" and look >= LOOKS // 2)][units]
        dates.append((units, signs))
    return dates


def with_reruns(
    rng: np.random.Generator, setting: Setting, runs: tuple[int, int], loss: float
) -> list[list[DateFlips]]:
    """A history with reruns: signs of means over all runs, and over as many as both have."""
    kind, beta, items = setting

    def scores(chance: np.ndarray, luck: np.ndarray) -> np.ndarray:
        return luck ** (1 / chance - 1) if kind == "graded" else (luck < chance).astype(float)

    size, turns = 5 if kind == "clusters" else 1, 5 if kind == "old reference" else DATES
    seeds = [np.arange(k) if kind == "common seeds" else np.full(k, -1) for k in runs]
    ability = np.repeat(rng.beta(*beta, items * turns // size), size)[:, None]
    luck = rng.random((items * turns, runs[0]))
    reference, dates = scores(ability, luck), [list[DateFlips](), list[DateFlips]()]
    for date in range(DATES):
        units, own = np.arange(items) + items * (date % turns), rng.random((items, runs[1]))
        if kind == "common seeds":
            same = rng.random((items, min(runs))) < 0.75
            own[:, : min(runs)] = np.where(same, luck[units, : min(runs)], own[:, : min(runs)])
        model = scores(ability[units] * (1 - loss * (date >= CHANGE)), own)
        if kind == "partly answered":
            model[:, 1:][rng.random((items, runs[1] - 1)) < 0.5] = np.nan
        every = reference[units], model
        for flips, sides in zip(dates, (every, matched_runs(every, seeds, date)), strict=True):
            sums = block_sums(from_reruns("t", *sides).differences, units // size)
            flips.append((np.unique(units // size), np.sign(sums).astype(int)))
    return dates


def items_to_alarm(rng: np.random.Generator, start: int, a_date: int) -> float:
    """Items from the change to the alarm; infinite if there is none, or one before the change."""
    dates = [
        (np.arange(a_date) + a_date * look, drawn(rng, a_date, DROP if look >= start else 0.0))
        for look in range(start + 8000 // a_date)
    ]
    alarm = watch(dates).alarm
    return float("inf") if alarm is None or alarm < start else float((alarm - start + 1) * a_date)


def alarm_dates(setting: Setting, runs: tuple[int, int], loss: float, simulations: int) -> np.ndarray:
    """Number of the date of the alarm, infinite for none, by both kinds of signs, shape (simulations, 2)."""
    histories = (with_reruns(np.random.default_rng([3, s]), setting, runs, loss) for s in range(simulations))
    alarms = [[watch(dates).alarm for dates in both] for both in histories]
    return np.array([[np.inf if alarm is None else alarm + 1 for alarm in both] for both in alarms])


def dates_to_alarm(
    rng: np.random.Generator, noise: float, items: int, change: float, measured: bool
) -> float:
    """Dates from the change of a model to the alarm over its own oldest run; infinite without one."""
    chance = rng.beta(NOISE[noise], NOISE[noise], items) if not measured else np.zeros(0)
    answers = []
    for date in range(-1, MONTH + WEEK - 1):
        size = change * (date >= MONTH - 1)
        if measured:
            answers.append(rng.normal(np.log1p(size), noise / np.sqrt(2), items))
        else:  # half of the answers are right
            answers.append((rng.random(items) < chance * (1 - 2 * size)).astype(float))
    dates = [(np.arange(items), np.sign(answers[0] - now).astype(int)) for now in answers[1:]]
    alarm = watch(dates, 0.05 / len(FOLLOWED) if measured else 0.05, either=measured).alarm
    return float("inf") if alarm is None else float(alarm - MONTH + 2)


def repeated(simulations: int, measured: bool = False) -> None:
    """Print how soon the same items of every date find a drop, or that answers have grown."""
    for noise, items, drop in itertools.product(
        *((SPREAD, FEW, GROWTH) if measured else (NOISE, REPEATED, DROPS))
    ):
        rngs = (np.random.default_rng([4, items, int(1000 * drop), s]) for s in range(simulations))
        found = np.array([dates_to_alarm(rng, noise, items, drop, measured) for rng in rngs])
        early = (found <= 0).mean()
        shares = (f"{((found > 0) & (found <= within)).mean():.2f}" for within in (1, WEEK))
        print(
            f"{noise} {items} items, {'growth' if measured else 'drop'} {drop}: before {early:.3f}, found",
            *shares,
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    simulations = next((int(text) for text in sys.argv[1:] if text.isdigit()), 400)
    if {"--repeated", "--measured"} & set(sys.argv):
        repeated(simulations, "--measured" in sys.argv)
        return
    for kind in ("other items", "noise", "old reference", "same answers", "neutral change"):
        raised = [
            watch(histories(kind, np.random.default_rng([1, seed]))).alarm is not None
            for seed in range(simulations)
        ]
        rate = float(np.mean(raised))
        print(f"{kind}: false alarms {rate:.4f} ± {np.sqrt(rate * (1 - rate) / simulations):.4f}", flush=True)
    for start in (0, 29, 364):
        found = [items_to_alarm(np.random.default_rng([2, start, s]), start, 200) for s in range(simulations)]
        half, most = np.quantile(found, [0.5, 0.9], method="higher")
        share = np.isfinite(found).mean()
        print(f"drop from date {start + 1}: found {share:.3f}, items {half:,.0f} (50 %), {most:,.0f} (90 %)")
    for setting, several in RERUNS.items():
        for runs in several:
            quiet, late = (alarm_dates(setting, runs, loss, simulations // 2) for loss in (0.0, LOSS))
            false, late = np.isfinite(quiet).mean(axis=0), np.where(late > CHANGE, late - CHANGE, np.inf)
            for which, rate, dates in zip(("all runs", "as many"), false, late.T, strict=True):
                found, half = np.isfinite(dates).mean(), np.quantile(dates, 0.5, method="higher")
                said = f"false alarms {rate:.3f}, found {found:.3f}, dates {half:.0f} (50 %)"
                print(*setting, runs, f"{which}: {said}", flush=True)
    repeated(simulations)


if __name__ == "__main__":
    main()
