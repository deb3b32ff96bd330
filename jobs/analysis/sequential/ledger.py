"""The record of the looks that a sweep took, and where it differs from those that its samples give.

looks.jsonl has a first line, then one for every look that was taken; lines are only ever added. Looks can be
taken again from the samples, but samples that were lost after a look and redrawn would give it another
outcome, for which no test holds its level. So every line has a digest of the scores that its look has used,
and a second line for the same look tells that its answers were lost or have changed. looks.json has every
look with its statistics and boundaries. Neither decides anything: verdicts come from the samples.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jobs.analysis.sequential.run_monitor import Key as Compared
from jobs.analysis.sequential.run_monitor import Place
from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.run_files import RunFiles
from orchestrator.rundir.schema import LARGEST_NUMBER
from orchestrator.rundir.store import LEDGER, LOOKS, RunStore
from stats.sequential.monitor import Course

Key = tuple[str, float, str | None, int]  # variant, temperature, task if a policy judges it, and look
# Of a look: `scores`, a digest of those it has used (None if they are lost), and the `verdict` reached
Facts = Mapping[str, str | None]

FORMAT = 1  # of looks.json
CLOSE = 1e-6  # relative difference up to which numbers are the same: machines add up in different orders


def looks_of(courses: Mapping[Compared, Course], digests: Mapping[Place, Sequence[str]]) -> dict[Key, Facts]:
    """The looks of comparisons until their decisions, with digests of the scores that each has used."""
    return {
        (*key, look.look): {
            "scores": digests[key[:2]][look.look - 1],
            "verdict": course.verdict.value if course.verdict and look is course.looks[-1] else None,
        }
        for key, course in courses.items()
        for look in course.looks
    }


def _task_entry(task: str | None) -> dict[str, str]:
    return {} if task is None else {"task": task}


def looks_text(courses: Mapping[Compared, Course]) -> str:
    """looks.json; what is infinite or unknown is null."""
    comparisons = [
        {
            "variant": variant,
            "temperature": temperature,
            **_task_entry(task),
            "verdict": course.verdict.value if course.verdict else None,
            "stopped": course.stopped,
            "share_used": course.share_used,
            "looks": [
                {name: value if math.isfinite(value) else None for name, value in asdict(look).items()}
                for look in course.looks
            ],
        }
        for (variant, temperature, task), course in courses.items()
    ]
    return json.dumps({"format": FORMAT, "comparisons": comparisons}, indent=1, ensure_ascii=False) + "\n"


def labels(keys: Iterable[Key]) -> str:
    """Looks for a sentence."""
    return some(list(dict.fromkeys(f"look {look} of {v} at temperature {t:g}" for v, t, _, look in keys)))


class Ledger:
    """The looks on record.

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
        """The looks on record that the samples do not give, by digests of the scores that theirs use."""
        return [
            key
            for key, facts in self.looks.items()
            if facts["scores"] is not None
            and facts["scores"] not in digests.get(key[:2], ())[key[3] - 1 : key[3]]
        ]

    def add(self, looks: Mapping[Key, Facts]) -> None:
        """Record the looks that are not on record as they are.

        Raises:
            OSError: the storage fails; the next call tries again.
        """
        new = [(*key, facts) for key, facts in looks.items() if self.looks.get(key) != facts]
        self.write(
            {"variant": v, "temperature": t, **_task_entry(task), "look": look, **facts}
            for v, t, task, look, facts in new
        )

    def write(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add lines, the first of which tells a ledger without looks yet from one that was lost."""
        for entry in entries:
            start = "\n" if self._text and not self._text.endswith("\n") else ""  # after a line cut off
            self._text += f"{start}{json.dumps({'time': time.time(), **entry})}\n"
            self._is_saved = False
            self._enter(entry)
        if not self._is_saved:
            self._store.write(LEDGER, self._text.encode())
            self._is_saved = True

    def _enter(self, entry: Mapping[str, Any]) -> None:
        if "begins_late" in entry:
            self.begins_late |= bool(entry["begins_late"])
            return
        task = str(entry["task"]) if "task" in entry else None
        key = str(entry["variant"]), float(entry["temperature"]), task, int(entry["look"])
        facts = {"scores": entry["scores"], "verdict": entry["verdict"]}
        if facts["scores"] != self.looks.get(key, facts)["scores"]:
            self.redrawn[key] = None
        self.looks[key] = facts


def note_looks(
    run: RunFiles, digests: Mapping[Place, Sequence[str]], courses: Mapping[Compared, Course]
) -> list[Notice]:
    """What is wrong with the record of a run; nothing where it agrees with the looks of its samples."""
    ledger, recorded, notices = Ledger(run.store), read_record(run), []
    if ledger.redrawn:
        said = (
            f"Answers that looks had used ({labels(ledger.redrawn)}) were lost and generated again: the "
            "looks since then rest on a second draw, so their error rate is unknown."
        )
        notices.append(Notice(NoticeCode.LOOKS_REDRAWN, said))
    if ledger.begins_late:
        said = "was lost during the sweep, so answers that looks had used may have been generated again."
        notices.append(Notice(NoticeCode.LOOKS_REDRAWN, f"{LEDGER} {said}"))
    has_ledger = bool(run.manifest.get("ledger"))
    is_lost = ledger.is_damaged or (has_ledger and not ledger and any(digests.values()))
    is_lost |= has_ledger and any(key not in ledger.looks for key in keys_of(recorded or {}))
    for name, is_missing in ((LOOKS, recorded is None), (LEDGER, is_lost)):
        if is_missing:
            said = "missing or unreadable; the verdicts are computed from the samples alone."
            notices.append(Notice(NoticeCode.LOOKS_MISSING, f"{name} is {said}"))
    if recorded is None:
        return notices
    expected = _by_place(looks_text(courses))
    places = [place for place, entry in expected.items() if not _same(recorded.get(place), entry)]
    places += [place for place in recorded if place not in expected]
    places = list(dict.fromkeys([*places, *(key[:3] for key in ledger.contradicted(digests))]))
    differing = some(list(dict.fromkeys(f"{variant} at temperature {t:g}" for variant, t, _ in places)))
    if places and all(_is_behind(recorded.get(place), expected.get(place)) for place in places):
        said = (
            f"{LOOKS} ends before the looks that the samples give ({differing}): the sweep was interrupted, "
            "or is running. The verdicts are computed from the samples."
        )
        notices.append(Notice(NoticeCode.LOOKS_BEHIND, said))
    elif places:
        said = (
            f"{LOOKS} does not record the looks that the samples give ({differing}): either of them was "
            "changed. The verdicts are computed from the samples."
        )
        notices.append(Notice(NoticeCode.LOOKS_DIFFER, said))
    return notices


def keys_of(recorded: Mapping[Any, Any]) -> list[Key]:
    """The looks of those comparisons."""
    looks = {place: entry.get("looks") for place, entry in recorded.items()}
    counts = {place: len(listed) for place, listed in looks.items() if isinstance(listed, list)}
    return [(*place, look) for place, count in counts.items() for look in range(1, count + 1)]


def read_record(run: RunFiles) -> dict[Any, Any] | None:
    """The comparisons in looks.json; None if it is missing or unreadable."""
    try:
        return _by_place(run.store.read_looks())
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _by_place(text: str | bytes) -> dict[Any, Any]:
    entries = json.loads(text)["comparisons"]
    return {(str(e["variant"]), float(e["temperature"]), e.get("task")): e for e in entries}


def _is_behind(recorded: Any, computed: Any) -> bool:
    """Whether a record is that of an earlier moment, when the comparison had not been decided."""
    if recorded is None or computed is None or recorded.get("verdict") is not None:
        return False
    looks = recorded.get("looks")
    return isinstance(looks, list) and _same(looks, computed["looks"][: len(looks)])


def _same(recorded: Any, computed: Any) -> bool:
    """Whether two JSON values are equal, numbers but for rounding."""
    if isinstance(recorded, bool) or isinstance(computed, bool):
        return recorded is computed
    if isinstance(recorded, int | float) and isinstance(computed, int | float):
        return abs(recorded) <= LARGEST_NUMBER and math.isclose(
            recorded, computed, rel_tol=CLOSE, abs_tol=1e-3 * CLOSE
        )
    if isinstance(recorded, dict) and isinstance(computed, dict):
        return recorded.keys() == computed.keys() and all(_same(recorded[k], computed[k]) for k in computed)
    if isinstance(recorded, list) and isinstance(computed, list):
        return len(recorded) == len(computed) and all(map(_same, recorded, computed))
    return bool(recorded == computed)
