"""The answers that changed: an index that a browser of flips pages through, and its texts as JSON.

The index is taken from the scores that were tested, so it counts exactly the flips of the verdicts, and it is
small (a few arrays), so texts are read for the few flips that somebody looks at. Prompts recur in
every variant and a baseline's answer in every comparison, so each text is stored once, in a table of strings,
and flips refer to it by number.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.analysis.compare import Analysis
from jobs.formats.samples import Temperature
from jobs.report.texts import Answer, Texts, shown
from stats.arrays import Floats, Ints
from stats.verdict import Verdict

GRAVEST_FIRST = (Verdict.DEGRADED, Verdict.INCONCLUSIVE, Verdict.CERTIFIED)
MOST_FLIPS, MOST_ANSWERS = 2_000, 20_000
MOST_CHARACTERS = 5_000_000  # limits of one report.html: what opens at once on a phone
CLIP_EMBEDDED, CLIP_SERVED = 3_000, 50_000  # longest text shown, in characters


@dataclass(frozen=True)
class Flips:
    """Items whose score changed, comparison by comparison, task by task; arrays have shape (flips,)."""

    baseline: str
    # variant, temperature, task, and the metric that was tested, of each task of each comparison
    places: tuple[tuple[str, Temperature, str, str], ...]
    part: Ints  # number of the place, ascending
    items: NDArray[Any]  # identifiers, in the order of the task's items
    scores: tuple[Floats, Floats]  # mean scores over reruns, of the baseline and of the variant
    drop: Floats  # how much worse the variant is, in shares of the metric's range; never 0

    def __len__(self) -> int:
        return len(self.items)

    def where(self, keep: NDArray[np.bool_] | slice) -> "Flips":
        """Some of them."""
        scores = self.scores[0][keep], self.scores[1][keep]
        part, items, drop = self.part[keep], self.items[keep], self.drop[keep]
        return replace(self, part=part, items=items, scores=scores, drop=drop)


def flips_of(analysis: Analysis) -> Flips:
    """All flips, those of the gravest comparison first."""
    places: list[tuple[str, Temperature, str, str]] = []
    columns: list[tuple[NDArray[Any], ...]] = []
    for result in sorted(analysis.results, key=lambda r: GRAVEST_FIRST.index(r.comparison.verdict)):
        for info, paired in result.pairs:
            rows = np.flatnonzero(paired.differences)
            items = rows if paired.items is None else paired.items[rows]
            scores = paired.baseline[rows], paired.variant[rows]
            columns.append((np.full(rows.size, len(places)), items, *scores, paired.differences[rows]))
            places.append((result.variant, result.temperature, info.name, info.metric))
    part, items, before, after, drop = map(np.concatenate, zip(*columns, strict=True))
    return Flips(analysis.baseline, tuple(places), part, items, (before, after), drop)


def select_flips(
    flips: Flips,
    *,
    variant: str | None = None,
    temperature: Temperature = None,
    task: str | None = None,
    direction: str | None = None,
    item: str | None = None,
) -> Flips:
    """The flips a reader asked for; None means all. A direction is "worse" or "better"."""
    asked = variant, temperature, task
    named = [all(a in {None, own} for a, own in zip(asked, place, strict=False)) for place in flips.places]
    keep = np.array(named)[flips.part]
    if direction is not None:
        keep &= (flips.drop > 0) == (direction == "worse")
    if item is not None:
        keep &= flips.items.astype(str) == item
    return flips.where(keep)


def search_flips(flips: Flips, texts: Texts, needle: str) -> Flips:
    """The flips whose prompt, target or answers contain a text, ignoring case.

    Each model's answers to a task are read once, however many comparisons ask for them.
    """
    keep = np.zeros(len(flips), dtype=np.bool_)
    parts = {number: flips.places[number] for number in np.unique(flips.part).tolist()}
    for task in {place[2] for place in parts.values()}:
        variants = {number: place for number, place in parts.items() if place[2] == task}
        items = np.unique(flips.items[np.isin(flips.part, list(variants))])
        in_prompts = texts.items_that_mention(task, items, needle)
        models = {flips.baseline, *(variant for variant, *_ in variants.values())}
        in_answers = {model: texts.answers_that_mention(model, task, items, needle) for model in models}
        for number, (variant, temperature, *_) in variants.items():
            rows = flips.part == number
            said = [in_answers[model].get(temperature, items[:0]) for model in (flips.baseline, variant)]
            keep[rows] = np.isin(flips.items[rows], np.concatenate([in_prompts, *said]))
    return flips.where(keep)


def spread_flips(flips: Flips, limit: int) -> Flips:
    """At most `limit` flips, as many from every task as it has, so none crowds out another."""
    counts = np.bincount(flips.part, minlength=len(flips.places))
    share, left = np.zeros_like(counts), limit
    while left > 0 and (hungry := np.flatnonzero(share < counts)).size:
        each = max(1, left // hungry.size)
        for part in hungry[:left]:
            more = min(each, counts[part] - share[part])
            share[part], left = share[part] + more, left - more
    rank = np.arange(len(flips)) - (np.cumsum(counts) - counts)[flips.part]
    return flips.where(rank < share[flips.part])


class Strings:
    """Texts made safe to look at, each once, by their number; longer ones than the limit are clipped."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self.numbers: dict[str, int] = {}

    def number(self, text: str | None) -> int | None:
        """The number of a text; None for None."""
        safe = shown(text, self.limit)
        if safe is None:
            return None
        if safe not in self.numbers:
            self.size += len(safe)
        return self.numbers.setdefault(safe, len(self.numbers))


def embedded(flips: Flips, texts: Texts, answers: int) -> dict[str, Any]:
    """What goes into a file: as many flips as the limits allow, by the answers to an item of both models."""
    chosen = spread_flips(flips, min(MOST_FLIPS, max(1, MOST_ANSWERS // answers)))
    return flips_json(chosen, texts, len(flips), clip=CLIP_EMBEDDED, most=MOST_CHARACTERS)


def flips_json(
    flips: Flips, texts: Texts, total: int, *, clip: int = CLIP_SERVED, most: float = inf
) -> dict[str, Any]:
    """Some of the flips with their texts; what several comparisons share is read once.

    Of `most` characters in all texts, none of them longer than `clip`, each task of each comparison gets an
    equal share of what is left.
    """
    strings, parts = Strings(clip), np.unique(flips.part).tolist()
    entries: dict[int, list[dict[str, Any]]] = {}
    alike: dict[tuple[str, Temperature], list[int]] = {}
    for number in parts:
        _, temperature, task, _ = flips.places[number]
        alike.setdefault((task, temperature), []).append(number)
    for (task, temperature), numbers in alike.items():
        items = np.unique(flips.items[np.isin(flips.part, numbers)])
        questions, metric = texts.questions(task, items), flips.places[numbers[0]][3]
        of_baseline = texts.answers(flips.baseline, task, temperature, metric, items)
        for number in numbers:
            part, variant = flips.where(flips.part == number), flips.places[number][0]
            own = texts.answers(variant, task, temperature, metric, part.items)
            room = strings.size + (most - strings.size) / (len(parts) - len(entries))
            entries[number] = list(_entries(part, strings, room, questions, (of_baseline, own)))
    flat = [entry for number in parts for entry in entries[number]]
    return {"strings": list(strings.numbers), "flips": flat, "total": total}


def _entries(
    flips: Flips,
    strings: Strings,
    room: float,
    questions: Mapping[int, tuple[str | None, str | None]],
    answers: tuple[Mapping[int, list[Answer]], ...],
) -> Iterator[dict[str, Any]]:
    """Flips of one task until texts fill the room; per rerun [seed, score, text, extracted] of each model."""

    def numbered(answer: Answer | None) -> list[Any] | None:
        return answer and [*answer[:2], *map(strings.number, answer[2:])]

    variant, temperature, task, metric = flips.places[flips.part[0]]
    arrays = (flips.items.tolist(), *(scores.tolist() for scores in flips.scores), flips.drop.tolist())
    for item, *scores, drop in zip(*arrays, strict=True):
        prompt, target = questions.get(item, (None, None))
        side_by_side = zip_longest(*(by_item.get(item, []) for by_item in answers))
        yield {
            "baseline": flips.baseline,
            "variant": variant,
            "temperature": temperature,
            "task": task,
            "item": str(item),
            "metric": metric,
            "scores": scores,
            "drop": drop,
            "prompt": strings.number(prompt),
            "target": strings.number(target),
            "answers": [[numbered(first), numbered(second)] for first, second in side_by_side],
        }
        if strings.size > room:
            return
