"""Flips with their texts as the JSON that the page's browser reads: embedded in a file, or served.

Prompts recur in every variant and a baseline's answer in every comparison, so each text is stored once, in a
table of strings, and flips refer to it by number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np

from jobs.report.flips import Flips, spread
from jobs.report.texts import Asked, Said, Texts
from jobs.report.visible import shown

Entry: TypeAlias = dict[str, Any]

MOST_FLIPS, MOST_ANSWERS = 2_000, 20_000
MOST_CHARACTERS = 5_000_000
"""Limits of one report.html: what opens at once on a phone."""

CLIP_EMBEDDED = 3_000
CLIP_SERVED = 50_000
"""Longest text shown, in characters."""


@dataclass
class Strings:
    """Texts, each once, in the order in which they came.

    Attributes:
        limit: longest text kept whole.
    """

    limit: int
    texts: list[str] = field(default_factory=list)
    size: int = 0
    _known: dict[str, int] = field(default_factory=dict)

    def number(self, text: str | None) -> int | None:
        """The number of a text, made safe to look at; None for None."""
        safe = shown(text, self.limit)
        if safe is None:
            return None
        if safe not in self._known:
            self._known[safe] = len(self.texts)
            self.texts.append(safe)
            self.size += len(safe)
        return self._known[safe]


def embedded(index: Sequence[Flips], texts: Texts, answers: int) -> dict[str, Any]:
    """What goes into a file: as many flips as the limits allow, and how many there are.

    Args:
        index: all flips.
        texts: what was asked and said.
        answers: to each item, of both models together.
    """
    strings = Strings(CLIP_EMBEDDED)
    cells = spread(index, min(MOST_FLIPS, max(1, MOST_ANSWERS // answers)))
    kept: dict[int, list[Entry]] = {}
    for number, entries in _by_cell(cells, texts, strings):
        kept[number] = []
        room = strings.size + (MOST_CHARACTERS - strings.size) // (len(cells) - len(kept) + 1)
        for entry in entries:
            kept[number].append(entry)
            if strings.size > room:
                break
    flips = [entry for number in range(len(cells)) for entry in kept[number]]
    return {"strings": strings.texts, "flips": flips, "total": sum(len(cell) for cell in index)}


def served(cells: Sequence[Flips], texts: Texts, total: int) -> dict[str, Any]:
    """One page of an answer with `total` flips."""
    strings = Strings(CLIP_SERVED)
    found = {number: list(entries) for number, entries in _by_cell(cells, texts, strings)}
    flips = [entry for number in range(len(cells)) for entry in found[number]]
    return {"strings": strings.texts, "flips": flips, "total": total}


def _by_cell(cells: Sequence[Flips], texts: Texts, strings: Strings) -> Iterator[tuple[int, Iterator[Entry]]]:
    """The entries of every cell with its number, task by task: what its cells share is read once."""
    alike: dict[object, dict[int, Flips]] = {}
    for number, flips in enumerate(cells):
        alike.setdefault((flips.cell.task, flips.cell.temperature), {})[number] = flips
    for together in alike.values():
        cell = next(iter(together.values())).cell
        items = np.unique(np.concatenate([flips.items for flips in together.values()]))
        asked, said = texts.asked(cell.task, items), texts.said(cell, cell.baseline, items)
        for number, flips in together.items():
            yield number, _entries(flips, asked, said, texts, strings)


def _entries(
    flips: Flips,
    asked: Mapping[int, Asked],
    said: Mapping[int, Sequence[Said]],
    texts: Texts,
    strings: Strings,
) -> Iterator[Entry]:
    cell = flips.cell
    of_variant = texts.said(cell, cell.variant, flips.items)
    arrays = (flips.items.tolist(), flips.baseline.tolist(), flips.variant.tolist(), flips.drop.tolist())
    for item, baseline, variant, drop in zip(*arrays, strict=True):
        question = asked.get(item, Asked(None, None))
        yield {
            "baseline": cell.baseline,
            "variant": cell.variant,
            "temperature": cell.temperature,
            "task": cell.task,
            "item": str(item),
            "metric": cell.metric,
            "scores": [baseline, variant],
            "drop": drop,
            "prompt": strings.number(question.prompt),
            "target": strings.number(question.target),
            "answers": _side_by_side(said.get(item, []), of_variant.get(item, []), strings),
        }


def _side_by_side(first: Sequence[Said], second: Sequence[Said], strings: Strings) -> list[list[Any]]:
    """A row per rerun: the baseline's answer and the variant's, as [seed, score, text, extracted] or None."""
    return [[_answer(a, strings), _answer(b, strings)] for a, b in zip_longest(first, second)]


def _answer(said: Said | None, strings: Strings) -> list[Any] | None:
    if said is None:
        return None
    return [said.seed, said.score, strings.number(said.text), strings.number(said.extracted)]
