"""Flips with their texts as the JSON that the page's browser reads: embedded in a file, or served.

Prompts recur in every variant and a baseline's answer in every comparison, so each text stands once, in a
table of strings, and flips refer to it by number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from jobs.report.flips import Flips, spread
from jobs.report.texts import Asked, Said, Texts
from jobs.report.visible import shown

MOST_FLIPS = 2_000
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


def embedded(index: Sequence[Flips], texts: Texts) -> dict[str, Any]:
    """What goes into a file: as many flips as the limits allow, and how many there are."""
    strings = Strings(CLIP_EMBEDDED)
    flips: list[dict[str, Any]] = []
    cells = spread(index, MOST_FLIPS)
    for number, cell in enumerate(cells):
        room = strings.size + (MOST_CHARACTERS - strings.size) // (len(cells) - number)
        for entry in _entries(cell, texts, strings):
            flips.append(entry)
            if strings.size > room:
                break
    return {"strings": strings.texts, "flips": flips, "total": sum(len(cell) for cell in index)}


def served(cells: Sequence[Flips], texts: Texts, total: int) -> dict[str, Any]:
    """One page of an answer with `total` flips."""
    strings = Strings(CLIP_SERVED)
    flips = [entry for cell in cells for entry in _entries(cell, texts, strings)]
    return {"strings": strings.texts, "flips": flips, "total": total}


def _entries(flips: Flips, texts: Texts, strings: Strings) -> Iterator[dict[str, Any]]:
    cell, items = flips.cell, flips.items
    asked = texts.asked(cell.task, items)
    first, second = (texts.said(cell, model, items) for model in (cell.baseline, cell.variant))
    arrays = (items.tolist(), flips.baseline.tolist(), flips.variant.tolist(), flips.drop.tolist())
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
            "answers": _side_by_side(first.get(item, []), second.get(item, []), strings),
        }


def _side_by_side(first: Sequence[Said], second: Sequence[Said], strings: Strings) -> list[list[Any]]:
    """A row per rerun: the baseline's answer and the variant's, as [seed, score, text, extracted] or None."""
    return [[_answer(a, strings), _answer(b, strings)] for a, b in zip_longest(first, second)]


def _answer(said: Said | None, strings: Strings) -> list[Any] | None:
    if said is None:
        return None
    return [said.seed, said.score, strings.number(said.text), strings.number(said.extracted)]
