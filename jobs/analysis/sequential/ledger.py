"""looks.jsonl: a first line, then one for every look that a sweep has taken; lines are only ever added.

Looks can be taken again from the samples, but samples that were lost after a look, and asked anew, would give
it another outcome: a second draw, for which no test holds its level. So every line has a digest of the scores
that its look has used, and a second line for the same look tells that its answers were lost or have changed.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobs.analysis.sequential.run_plan import Place
from jobs.formats.notices import some
from orchestrator.rundir.store import LEDGER, RunStore
from stats.sequential.monitor import Course

Key = tuple[str, float, int]
"""Variant, temperature and number of a look."""

Facts = Mapping[str, str | None]
"""Of a look: `scores`, a digest of those it has used (None if they are lost), and the `verdict` reached."""

LOST: Facts = {"scores": None, "verdict": None}


def looks_of(outlines: Mapping[Place, Course], digests: Mapping[Place, Sequence[str]]) -> dict[Key, Facts]:
    """The looks of comparisons until their decisions.

    Args:
        outlines: by variant and temperature.
        digests: of the scores that each look has used.
    """
    return {
        (*place, look.look): {
            "scores": digests[place][look.look - 1],
            "verdict": outline.verdict.value if outline.verdict and look is outline.looks[-1] else None,
        }
        for place, outline in outlines.items()
        for look in outline.looks
    }


def labels(keys: Iterable[Key]) -> str:
    """Looks for a sentence."""
    return some([f"look {look} of {variant} at temperature {t:g}" for variant, t, look in keys])


class Ledger:
    """The looks on record.

    Args:
        store: the run.

    Attributes:
        looks: each as it was recorded last.
        redrawn: those whose answers were lost or have changed after they were taken.
        begins_late: whether there were answers before the first line, so that looks may be missing.
        is_damaged: whether a line cannot be read.

    Raises:
        OSError: the storage fails.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._text = store.read_looks(LEDGER).decode(errors="replace")
        self._is_saved = True
        self.looks: dict[Key, Facts] = {}
        self.redrawn: dict[Key, None] = {}
        self.begins_late = self.is_damaged = False
        for line in self._text.splitlines():
            try:
                self._enter(json.loads(line))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                self.is_damaged = True

    def __bool__(self) -> bool:
        return bool(self._text)

    def contradicted(self, digests: Mapping[Place, Sequence[str]]) -> list[Key]:
        """The looks on record that the samples do not give.

        Args:
            digests: of the scores that the looks of the samples use.
        """
        return [
            key
            for key, facts in self.looks.items()
            if facts["scores"] is not None
            and facts["scores"] not in digests.get(key[:2], ())[key[2] - 1 : key[2]]
        ]

    def begin(self, *, late: bool) -> None:
        """Write the first line, which tells a ledger without looks yet from one that was lost.

        Args:
            late: whether there were answers before.
        """
        self._append([{"begins_late": late}])

    def add(self, looks: Mapping[Key, Facts]) -> None:
        """Record the looks that are not on record as they are.

        Raises:
            OSError: the storage fails; the next call tries again.
        """
        new = ((key, facts) for key, facts in looks.items() if self.looks.get(key) != facts)
        self._append(
            {"variant": key[0], "temperature": key[1], "look": key[2], **facts} for key, facts in new
        )

    def _append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        for entry in entries:
            start = "\n" if self._text and not self._text.endswith("\n") else ""  # after a line cut off
            self._text += f"{start}{json.dumps({'time': time.time(), **entry})}\n"
            self._is_saved = False
            self._enter(entry)
        if not self._is_saved:
            self._store.write_looks(self._text, LEDGER)
            self._is_saved = True

    def _enter(self, entry: Mapping[str, Any]) -> None:
        if "begins_late" in entry:
            self.begins_late |= bool(entry["begins_late"])
            return
        key = str(entry["variant"]), float(entry["temperature"]), int(entry["look"])
        facts = {"scores": entry["scores"], "verdict": entry["verdict"]}
        if facts["scores"] != self.looks.get(key, facts)["scores"]:
            self.redrawn[key] = None
        self.looks[key] = facts
