"""The answers that changed: an index that a browser of flips pages through, and its texts as JSON.

The index is taken from the scores that were tested, so it counts exactly the flips of the verdicts, and it is
small (a few arrays per task), so texts are read for the few flips that somebody looks at. Prompts recur in
every variant and a baseline's answer in every comparison, so each text is stored once, in a table of strings,
and flips refer to it by number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.analysis.compare import Analysis
from jobs.formats.samples import Temperature
from jobs.report.texts import Answer, Texts, shown
from stats.arrays import Floats
from stats.verdict import Verdict

GRAVEST_FIRST = (Verdict.DEGRADED, Verdict.INCONCLUSIVE, Verdict.CERTIFIED)
MOST_FLIPS, MOST_ANSWERS = 2_000, 20_000
MOST_CHARACTERS = 5_000_000
"""Limits of one report.html: what opens at once on a phone."""
CLIP_EMBEDDED, CLIP_SERVED = 3_000, 50_000
"""Longest text shown, in characters."""


@dataclass(frozen=True)
class FlippedItems:
    """The items of one task of one comparison whose score changed, in item order; arrays have shape (flips,).

    Attributes:
        models: baseline and variant.
        metric: key of the metric that was tested.
        scores: mean scores over reruns, of the baseline and of the variant.
        drop: how much worse the variant is, in shares of the metric's range; never 0.
    """

    models: tuple[str, str]
    temperature: Temperature
    task: str
    metric: str
    items: NDArray[np.generic]
    scores: tuple[Floats, Floats]
    drop: Floats

    def __len__(self) -> int:
        return len(self.items)

    def where(self, keep: NDArray[np.generic]) -> "FlippedItems":
        """Some of them, by mask or indices."""
        baseline, variant = self.scores
        scores = baseline[keep], variant[keep]
        return replace(self, items=self.items[keep], scores=scores, drop=self.drop[keep])


def flips_of(analysis: Analysis) -> list[FlippedItems]:
    """All flips, comparison by comparison with the gravest first, task by task."""
    index = []
    for result in sorted(analysis.results, key=lambda r: GRAVEST_FIRST.index(r.comparison.verdict)):
        models = analysis.baseline, result.variant
        for info, paired in result.pairs:
            items = np.arange(paired.baseline.size) if paired.items is None else paired.items
            place = (models, result.temperature, info.name, info.metric)
            scores = paired.baseline, paired.variant
            everything = FlippedItems(*place, items, scores, paired.differences)
            index.append(everything.where(np.flatnonzero(paired.differences)))
    return index


def select_flips(
    index: Sequence[FlippedItems],
    *,
    variant: str | None = None,
    temperature: Temperature = None,
    task: str | None = None,
    direction: str | None = None,
    item: str | None = None,
) -> list[FlippedItems]:
    """The flips a reader asked for; None means all. A direction is "worse" or "better"."""
    selected = []
    for flips in index:
        named = ((variant, flips.models[1]), (temperature, flips.temperature), (task, flips.task))
        if all(wanted in {None, own} for wanted, own in named):
            keep = np.ones(len(flips), dtype=np.bool_)
            if direction is not None:
                keep &= (flips.drop > 0) == (direction == "worse")
            if item is not None:
                keep &= flips.items.astype(str) == item
            selected.append(flips.where(keep))
    return [flips for flips in selected if len(flips)]


def search_flips(index: Sequence[FlippedItems], texts: Texts, needle: str) -> list[FlippedItems]:
    """The flips whose prompt, target or answers contain a text, ignoring case.

    Each model's answers to a task are read once, however many comparisons ask for them.
    """
    hits = list(index)
    for task in {flips.task for flips in index}:
        numbers = [number for number, flips in enumerate(index) if flips.task == task]
        items = np.unique(np.concatenate([index[number].items for number in numbers]))
        models = {model for number in numbers for model in index[number].models}
        in_prompts = texts.items_that_mention(task, items, needle)
        in_answers = {model: texts.answers_that_mention(model, task, items, needle) for model in models}
        for number in numbers:
            flips = index[number]
            places = [in_answers[model].get(flips.temperature, items[:0]) for model in flips.models]
            hits[number] = flips.where(np.isin(flips.items, np.concatenate([in_prompts, *places])))
    return [flips for flips in hits if len(flips)]


def flips_on_page(index: Sequence[FlippedItems], start: int, count: int) -> Iterator[FlippedItems]:
    """The index, cut down to `count` flips from `start` on."""
    stop = start + count
    for flips in index:
        if start < len(flips) and stop > 0:
            yield flips.where(np.arange(max(start, 0), min(stop, len(flips))))
        start, stop = start - len(flips), stop - len(flips)


def spread_flips(index: Sequence[FlippedItems], limit: int) -> list[FlippedItems]:
    """At most `limit` flips, as many from every task as it has, so none crowds out another."""
    share, left = dict.fromkeys(range(len(index)), 0), limit
    hungry = [i for i in share if len(index[i])]
    while hungry and left > 0:
        each = max(1, left // len(hungry))
        for i in hungry:
            more = min(each, len(index[i]) - share[i], left)
            share[i], left = share[i] + more, left - more
        hungry = [i for i in hungry if share[i] < len(index[i])]
    return [index[i].where(np.arange(count)) for i, count in share.items() if count]


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


def embedded(index: Sequence[FlippedItems], texts: Texts, answers: int) -> dict[str, Any]:
    """What goes into a file: as many flips as the limits allow, and how many there are.

    Args:
        index: all flips.
        texts: prompts and answers.
        answers: to each item, of both models together.
    """
    chosen = spread_flips(index, min(MOST_FLIPS, max(1, MOST_ANSWERS // answers)))
    return flips_json(chosen, texts, sum(map(len, index)), clip=CLIP_EMBEDDED, most=MOST_CHARACTERS)


def flips_json(
    index: Sequence[FlippedItems], texts: Texts, total: int, *, clip: int = CLIP_SERVED, most: float = inf
) -> dict[str, Any]:
    """Flips with their texts; what parts of the index have in common is read once.

    Args:
        index: which flips.
        texts: prompts and answers.
        total: how many flips there are.
        clip: longest text kept whole.
        most: characters of all texts; each part of the index gets an equal share of what is left.
    """
    strings = Strings(clip)
    entries: dict[int, list[dict[str, Any]]] = {}
    alike: dict[object, list[int]] = {}
    for number, flips in enumerate(index):
        alike.setdefault((flips.task, flips.temperature), []).append(number)
    for numbers in alike.values():
        first = index[numbers[0]]
        items = np.unique(np.concatenate([index[number].items for number in numbers]))
        questions = texts.questions(first.task, items)
        of_baseline = texts.answers(first.models[0], first.task, first.temperature, first.metric, items)
        for number in numbers:
            flips = index[number]
            own = texts.answers(flips.models[1], flips.task, flips.temperature, flips.metric, flips.items)
            room = strings.size + (most - strings.size) / (len(index) - len(entries))
            entries[number] = list(_entries(flips, strings, room, questions, (of_baseline, own)))
    flat = [entry for number in sorted(entries) for entry in entries[number]]
    return {"strings": list(strings.numbers), "flips": flat, "total": total}


def _entries(
    flips: FlippedItems,
    strings: Strings,
    room: float,
    questions: Mapping[int, tuple[str | None, str | None]],
    answers: tuple[Mapping[int, list[Answer]], ...],
) -> Iterator[dict[str, Any]]:
    """Flips, until their texts fill the room; for each rerun [seed, score, text, extracted] of each model."""

    def numbered(answer: Answer | None) -> list[Any] | None:
        return answer and [*answer[:2], *map(strings.number, answer[2:])]

    arrays = (flips.items.tolist(), *(scores.tolist() for scores in flips.scores), flips.drop.tolist())
    for item, *scores, drop in zip(*arrays, strict=True):
        prompt, target = questions.get(item, (None, None))
        side_by_side = zip_longest(*(by_item.get(item, []) for by_item in answers))
        yield {
            "baseline": flips.models[0],
            "variant": flips.models[1],
            "temperature": flips.temperature,
            "task": flips.task,
            "item": str(item),
            "metric": flips.metric,
            "scores": scores,
            "drop": drop,
            "prompt": strings.number(prompt),
            "target": strings.number(target),
            "answers": [[numbered(first), numbered(second)] for first, second in side_by_side],
        }
        if strings.size > room:
            return
