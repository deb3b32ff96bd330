"""What repeated answers say: per model, task and temperature, against the baseline, by source of variance.

Of the baseline they also say which items it flips on, and what running only these would keep.

Rates are over pairs of runs (how likely two runs disagree), not over all runs, so that three seeds and ten
give comparable numbers. Numbers "over all tasks" take the tasks that have equally many runs.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jobs.formats.notices import some
from jobs.formats.samples import Temperature
from jobs.scores.rerun_set import RepeatedAnswers, RerunSet
from orchestrator.errors import UserError
from stats import flips
from stats.arrays import Bools, Floats, Ints
from stats.planning import Design

SIGNAL = 2.0  # standard errors from which on a difference is worth comparing with another

Choice = tuple[RepeatedAnswers, Bools]
"""The baseline's answers to a task that chose, and which of its complete items flip, shape (complete,)."""

Entry = dict[str, Any]
"""An object of flips.json. An estimate has value, low and high, a 95 % interval over items."""


def summarize(reruns: RerunSet) -> dict[str, Any]:
    """The content of flips.json; tasks whose scores are not binary are left out with a warning.

    Every entry has a variant, a task (None: all of them) and a temperature; rates are shares, not rounded.

    Returns:
        `cells`, each model at each temperature: runs, items that have a score in every run and items that are
        missing, accuracy, stability (items by successes), flip_rate (chance that two runs disagree, the A/A
        noise floor; None with one run), hidden_drop (smallest drop that one run each would show above that
        noise, at level .05 with power .8), churn (changed answers over all pairs of runs; None with one run
        or where only scores are known). `against`, variants and the baseline: pairs of runs, of equal seeds
        where both have them; flips, flip_rate and churn over these. `sources`: variance of a model's scores
        over the temperatures with several seeds. `curves`: as cells, for the tasks that a variant has at all
        of its temperatures. `warnings`: what was left out, and why.
    """
    binary = [cell for cell in reruns.cells if cell.binary]
    usable = [cell for cell in binary if cell.complete.any()]
    report: dict[str, Any] = {name: [] for name in ("cells", "against", "sources", "curves", "warnings")}
    if graded := sorted({cell.info.name for cell in reruns.cells if not cell.binary}):
        report["warnings"].append(f"Skipped because scores are not binary: {some(graded)}.")
    if bare := sorted({f"{cell.variant} on {cell.info.name}" for cell in binary if not cell.complete.any()}):
        report["warnings"].append(f"Skipped because no item has a score in every run: {some(bare)}.")
    baseline = {(c.info.name, c.temperature): c for c in usable if c.variant == reruns.baseline}
    for variant in dict.fromkeys(cell.variant for cell in usable):
        own = [cell for cell in usable if cell.variant == variant]
        at: dict[Temperature, list[RepeatedAnswers]] = {}
        for cell in sorted(own, key=lambda cell: by_temperature(cell.temperature)):
            at.setdefault(cell.temperature, []).append(cell)
        for temperature, group in at.items():
            alike = _most_repeated(group)
            most = len(alike[0].runs)
            if fewer := [cell.info.name for cell in group if len(cell.runs) < most]:
                report["warnings"].append(
                    f"{variant} at temperature {temperature}: the numbers over all tasks "
                    f"exclude those with fewer than {most} runs: {some(fewer)}."
                )
            report["cells"].append(_against_itself(alike))
            report["cells"] += [_against_itself([cell], cell.info.name) for cell in group]
            if baseline and variant != reruns.baseline:
                report["against"] += _against_baseline(group, baseline)
        common = set.intersection(*({cell.info.name for cell in group} for group in at.values()))
        for group in at.values() if len(at) > 1 and common else ():
            shared = [cell for cell in group if cell.info.name in common]
            report["curves"].append(_against_itself(_most_repeated(shared)))
        report["sources"] += _variance_sources([cell for cell in own if len(cell.runs) > 1])
    return report


def by_temperature(temperature: Temperature) -> float:
    """The place of a temperature in order; an unknown one comes first."""
    return -1.0 if temperature is None else temperature


def _most_repeated(cells: Sequence[RepeatedAnswers]) -> list[RepeatedAnswers]:
    most = max(len(cell.runs) for cell in cells)
    return [cell for cell in cells if len(cell.runs) == most]


def _against_itself(cells: Sequence[RepeatedAnswers], task: str | None = None) -> Entry:
    right = np.concatenate([cell.right for cell in cells])
    answers = np.concatenate([cell.answers[cell.complete] for cell in cells])
    items, runs = right.shape
    noise, hidden_drop, churn = None, None, None
    wrong, *flip, always = histogram = flips.success_histogram(right).tolist()
    if runs > 1:
        noise = flips.mean_share(flips.item_flip_rates(right))
        hidden_drop = Design(items, noise["value"]).detectable_drop() if 0.0 < noise["value"] < 1.0 else None
        churn = flips.rerun_churn(answers, right) if all(cell.has_answers for cell in cells) else None
    return {
        "variant": cells[0].variant,
        "task": task,
        "temperature": cells[0].temperature,
        "runs": runs,
        "items": items,
        "missing": sum(cell.items.size for cell in cells) - items,
        "accuracy": flips.mean_share(right.mean(axis=1)),
        "stability": {
            "histogram": histogram,
            "always_right": always,
            "always_wrong": wrong,
            "flipping": sum(flip),
            "never_flip_share": 1.0 - sum(flip) / items,
        },
        "flip_rate": noise,
        "hidden_drop": hidden_drop,
        "churn": churn,
    }


def _against_baseline(
    group: Sequence[RepeatedAnswers], baseline: dict[tuple[str, Temperature], RepeatedAnswers]
) -> Iterator[Entry]:
    """All tasks of a variant at a temperature together, then each; nothing where no item is common."""
    pairs = {}
    for cell in group:
        if (other := baseline.get((cell.info.name, cell.temperature))) is not None:
            right, answers = _paired(other, cell)
            if right.size:
                pairs[cell.info.name] = right, answers
    for task, parts in ((None, list(pairs.values())), *((task, [pair]) for task, pair in pairs.items())):
        if not parts:
            return
        right = np.concatenate([part.reshape(2, -1) for part, _ in parts], axis=1)
        flipped = np.concatenate([(part[0] != part[1]).mean(axis=1) for part, _ in parts])
        known = [part.reshape(2, -1) for _, part in parts if part is not None]
        churn = None
        if len(known) == len(parts):
            churn = flips.churn(*np.concatenate(known, axis=1), *right.astype(np.float64))
        yield {
            "variant": group[0].variant,
            "task": task,
            "temperature": group[0].temperature,
            "pairs": max(part.shape[2] for part, _ in parts),
            "flips": flips.flip_table(*right),
            "flip_rate": flips.mean_share(flipped),
            "churn": churn,
        }


def _paired(baseline: RepeatedAnswers, variant: RepeatedAnswers) -> tuple[Bools, Ints | None]:
    """Answers of both to their common items: whether they are right, and which they are, if that is known.

    Returns:
        Arrays of shape (2, items, pairs of runs), the baseline first.
    """
    columns = np.array(run_pairs(baseline, variant), dtype=np.int64).T
    _, *rows = np.intersect1d(baseline.items, variant.items, return_indices=True)
    both = baseline.complete[rows[0]] & variant.complete[rows[1]]
    right, answers = [], []
    for cell, own, chosen in zip((baseline, variant), rows, columns, strict=True):
        picked = np.ix_(own[both], chosen)
        right.append(cell.scores[picked] == (1.0 if cell.info.higher_is_better else 0.0))
        answers.append(cell.answers[picked])
    has_answers = baseline.has_answers and variant.has_answers
    return np.stack(right), np.stack(answers) if has_answers else None


def run_pairs(baseline: RepeatedAnswers, variant: RepeatedAnswers) -> list[tuple[int, int]]:
    """Runs of equal seeds; where the seeds have nothing in common, one after the other."""
    equal = [
        (i, j)
        for i, seed in enumerate(baseline.seeds)
        for j, other in enumerate(variant.seeds)
        if seed is not None and seed == other
    ]
    return equal or list(zip(range(len(baseline.runs)), range(len(variant.runs)), strict=False))


def _variance_sources(cells: Sequence[RepeatedAnswers]) -> Iterator[Entry]:
    """Split the variance of one model: over all tasks that were run at all its temperatures, then each."""
    temperatures = sorted({cell.temperature for cell in cells}, key=by_temperature)
    seeds = min((len(cell.runs) for cell in cells), default=0)
    blocks: dict[str | None, Floats] = {}
    for task in dict.fromkeys(cell.info.name for cell in cells):
        at = {cell.temperature: cell for cell in cells if cell.info.name == task}
        if len(at) == len(temperatures):
            ordered = [at[temperature] for temperature in temperatures]
            common = ordered[0].items[ordered[0].complete]
            for cell in ordered[1:]:
                common = np.intersect1d(common, cell.items[cell.complete])
            scores = [cell.scores[np.searchsorted(cell.items, common), :seeds] for cell in ordered]
            blocks[task] = np.stack(scores, axis=1)  # (items, temperatures, seeds)
    whole = {None: np.concatenate(list(blocks.values()))} if blocks else {}
    for name, block in (whole | blocks).items():
        if block.shape[0] > 2:
            yield {
                "variant": cells[0].variant,
                "task": name,
                "temperatures": temperatures,
                "seeds": seeds,
                "variance": flips.variance_split(block),
            }


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
    choices = [(c, flips.flipping_items(c.right)) for c in repeated if c.temperature == temperature]
    if not choices:
        where = f"only at {some(temperatures)}" if temperatures else "at no temperature"
        at = "" if asked is None else f" at temperature {asked:g}"
        raise UserError(
            f"Choosing items needs several runs of the baseline {baseline}{at}, which has several {where}: "
            "run it with more seeds."
        )
    if not any(flipping.any() for _, flipping in choices):
        raise UserError(f"No answer of {baseline} flips between its runs: there is nothing to choose.")
    return choices


def flips_kept(cells: Sequence[RepeatedAnswers], choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """What the choice keeps of every variant's flips, at every temperature of the chosen tasks.

    That is measured on runs that did not choose: at another temperature as it is, at the same one by leaving
    out a run of the baseline in turn, choosing by the others and comparing the variants with the one left
    out. Measured on the choosing runs themselves it would look better than it is.

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
            changed, share = worse + better, float(chosen / items)
            before, after = ((worse - better) / np.sqrt(np.maximum(changed, 1) * most)).tolist()
            is_signal = abs(before) * np.sqrt(most) > SIGNAL and share > 0.0
            entries.append(
                {
                    "variant": variant,
                    "temperature": temperature,
                    "pairs": most,
                    "worse": tuple(worse.tolist()),
                    "better": tuple(better.tolist()),
                    "share": share,
                    "share_kept": changed[1] / changed[0] if changed[0] else None,
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
    flipping = flips.flipping_items(chooser.scores[complete][:, others] == 1.0)
    items, rows, of_variant = np.intersect1d(baseline.items, variant.items, return_indices=True)
    scores = np.stack([baseline.scores[rows, i], variant.scores[of_variant, j]])
    known = ~np.isnan(scores).any(axis=0)
    right = scores[:, known] == (1.0 if baseline.info.higher_is_better else 0.0)
    inside = np.isin(items[known], chooser.items[complete][flipping])
    masks = (right[0] & ~right[1], ~right[0] & right[1], np.ones_like(inside))
    return np.array([[mask.sum(), (mask & inside).sum()] for mask in masks], dtype=np.int64)
