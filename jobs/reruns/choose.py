"""Chooses the items on which a baseline flips, and says what running only these would keep.

What it keeps is measured on runs that did not choose: at another temperature as it is, at the same one by
leaving out a run of the baseline in turn, choosing by the others and comparing the variants with the one left
out. Measured on the choosing runs themselves it would look better than it is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.formats.notices import some
from jobs.formats.samples import Temperature
from jobs.reruns.summary import run_pairs
from jobs.scores.rerun_set import RepeatedAnswers
from orchestrator.errors import UserError
from stats.arrays import Bools, Ints
from stats.flips import flipping_items

SIGNAL = 2.0  # standard errors from which on a difference is worth comparing with another

Choice = tuple[RepeatedAnswers, Bools]
"""The baseline's answers to a task that chose, and which of its complete items flip, shape (complete,)."""


def choose_items(cells: Sequence[RepeatedAnswers], baseline: str, asked: Temperature) -> list[Choice]:
    """Choose the items on which the baseline flips, task by task.

    If no temperature is asked for, the runs at the lowest with several of them choose.

    Raises:
        UserError: the baseline has fewer than two runs there, or none of them differ.
    """
    own = [c for c in cells if c.variant == baseline]
    repeated = [c for c in own if len(c.runs) > 1 and c.binary and c.complete.any()]
    temperatures = sorted({c.temperature for c in repeated if c.temperature is not None})
    temperature = asked if asked is not None else (temperatures[0] if temperatures else None)
    choices = [(c, flipping_items(c.right)) for c in repeated if c.temperature == temperature]
    if not choices:
        where = f"only at {some(temperatures)}" if temperatures else "at no temperature"
        at = "" if asked is None else f" at temperature {asked:g}"
        raise UserError(
            f"Choosing items needs several runs of the baseline {baseline}{at}, which has several {where}: "
            "run it with more seeds."
        )
    if not any(flips.any() for _, flips in choices):
        raise UserError(f"No answer of {baseline} flips between its runs: there is nothing to choose.")
    return choices


def flips_kept(cells: Sequence[RepeatedAnswers], choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """What the choice keeps of every variant's flips, at every temperature of the chosen tasks.

    Returns:
        For each variant and temperature with runs that did not choose (at the choosing temperature itself
        that takes three runs of the baseline): pairs of runs; `worse` and `better`, b and c over all pairs,
        on all items and on the chosen ones; `share`, chosen items of all; `share_kept`, flips on chosen items
        of all flips, None where nothing flips; `signal_to_noise`, (b − c)/√(b + c) of one pair, before and
        after, on which the paired test rests; `gain`, what becomes of it for the same number of samples:
        after/before/√share, None for mere noise.
    """
    baseline = choices[0][0].variant
    by_name = {(c.variant, c.info.name, c.temperature): c for c in cells if c.binary}
    entries = []
    for variant, temperature in dict.fromkeys((c.variant, c.temperature) for c in cells):
        outcomes, most = [], 0
        for chooser, _ in choices if variant != baseline else ():
            own, other = (by_name.get((n, chooser.info.name, temperature)) for n in (baseline, variant))
            if own is not None and other is not None and (own is not chooser or len(own.runs) > 2):
                pairs = run_pairs(own, other)
                outcomes += [_outcomes(own, i, other, j, chooser) for i, j in pairs]
                most = max(most, len(pairs))
        if outcomes:
            worse, better, (items, chosen) = np.sum(outcomes, axis=0)
            flips, share = worse + better, float(chosen / items)
            before, after = ((worse - better) / np.sqrt(np.maximum(flips, 1) * most)).tolist()
            is_signal = abs(before) * np.sqrt(most) > SIGNAL and share > 0.0
            entries.append(
                {
                    "variant": variant,
                    "temperature": temperature,
                    "pairs": most,
                    "worse": tuple(worse.tolist()),
                    "better": tuple(better.tolist()),
                    "share": share,
                    "share_kept": flips[1] / flips[0] if flips[0] else None,
                    "signal_to_noise": (before, after),
                    "gain": after / before / np.sqrt(share) if is_signal else None,
                }
            )
    return entries


def _outcomes(
    baseline: RepeatedAnswers, i: int, variant: RepeatedAnswers, j: int, chooser: RepeatedAnswers
) -> Ints:
    """Run i of the baseline against run j of a variant, where run i has no part in the choice.

    Returns:
        Worse, better and items, each on all common items and on the chosen ones; shape (3, 2).
    """
    others = [k for k in range(len(chooser.runs)) if baseline is not chooser or k != i]
    complete = ~np.isnan(chooser.scores[:, others]).any(axis=1)
    flipping = flipping_items(chooser.scores[complete][:, others] == 1.0)
    items, rows, of_variant = np.intersect1d(baseline.items, variant.items, return_indices=True)
    scores = np.stack([baseline.scores[rows, i], variant.scores[of_variant, j]])
    known = ~np.isnan(scores).any(axis=0)
    right = scores[:, known] == (1.0 if baseline.info.higher_is_better else 0.0)
    inside = np.isin(items[known], chooser.items[complete][flipping])
    masks = (right[0] & ~right[1], ~right[0] & right[1], np.ones_like(inside))
    return np.array([[mask.sum(), (mask & inside).sum()] for mask in masks], dtype=np.int64)
