"""The alarm of `lldeg history`: false alarms over 1,000 looks, and how soon a drop is found.

    python benchmarks/history_alarms.py [SIMULATIONS]

False alarms, 1,000 dates of 50 items (the same 500 items in turns, or others every date), 10 % flips:
  other items       every date asks items that were never asked before
  noise             answers of reference and model are drawn anew on every date
  old reference     the reference was asked once, the model anew on every date
  same answers      answers never change: the model differs on a tenth of the items, as often better as worse
  neutral change    the same, and at date 500 the model differs on another tenth
Drift: from date c on the model loses 3 points at 10 % flips; other items every date. Prints the share found,
and the 50 % and 90 % quantiles of the items asked from date c to the alarm.
"""

import sys

import numpy as np

from stats.watch import DateFlips, watch

LOOKS, A_DATE, POOL, FLIPS, DROP = 1000, 50, 500, 0.1, 0.03


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


def items_to_alarm(rng: np.random.Generator, start: int, a_date: int) -> float:
    """Items from the change to the alarm; infinite if there is none, or one before the change."""
    dates = [
        (np.arange(a_date) + a_date * look, drawn(rng, a_date, DROP if look >= start else 0.0))
        for look in range(start + 8000 // a_date)
    ]
    alarm = watch(dates).alarm
    return float("inf") if alarm is None or alarm < start else float((alarm - start + 1) * a_date)


def main() -> None:
    """Print both tables."""
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 400
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


if __name__ == "__main__":
    main()
