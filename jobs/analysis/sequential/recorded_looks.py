"""looks.json and looks.jsonl: the looks that a sweep took, held against those that its samples give.

The records decide nothing. Whoever reads them, a dashboard or a person, must be able to rely on them, so an
analysis says where they differ from the samples, and where answers were asked anew after a look.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from jobs.analysis.sequential.followed import Followed
from jobs.analysis.sequential.ledger import Key, Ledger, labels
from jobs.analysis.sequential.looks_file import looks_text
from jobs.analysis.sequential.run_plan import Place
from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.run_files import RunFiles
from orchestrator.rundir.schema import LARGEST_NUMBER
from orchestrator.rundir.store import LEDGER, LOOKS

CLOSE = 1e-6
"""Relative difference up to which numbers are the same: machines add up in different orders."""

"""JSON has numbers of any size, floats have not."""

Entry = Mapping[str, Any]


def note_looks(run: RunFiles, followed: Followed) -> list[Notice]:
    """What is wrong with the record of a run; nothing where it agrees with the samples.

    Args:
        run: the run.
        followed: what its samples give.
    """
    ledger, recorded = Ledger(run.store), _read(run)
    has_ledger = bool(run.manifest.get("ledger"))
    known = _keys(recorded or {}) if has_ledger else ()
    is_lost = ledger.is_damaged or any(key not in ledger.looks for key in known)
    is_lost |= has_ledger and not ledger and any(followed.digests.values())
    noted = _redrawn(ledger)
    if missing := [name for name, is_ in ((LOOKS, recorded is None), (LEDGER, is_lost)) if is_]:
        said = "missing or unreadable; the verdicts are computed from the samples alone."
        noted += [Notice(NoticeCode.LOOKS_MISSING, f"{name} is {said}") for name in missing]
    if recorded is not None:
        noted += _differing(recorded, ledger, followed)
    return noted


def _redrawn(ledger: Ledger) -> list[Notice]:
    """That answers which a look had used were asked anew, or may have been."""
    said = []
    if ledger.redrawn:
        said.append(
            f"Answers that looks had used ({labels(ledger.redrawn)}) were lost and asked anew: the looks "
            "since then are a second draw, for which no level holds."
        )
    if ledger.begins_late:
        said.append(
            f"{LEDGER} was lost during the sweep, so answers that looks had used may have been asked anew."
        )
    return [Notice(NoticeCode.LOOKS_REDRAWN, text) for text in said]


def _differing(recorded: Mapping[Place, Entry], ledger: Ledger, followed: Followed) -> list[Notice]:
    """Where the records are not what the samples give."""
    expected = _by_place(looks_text(followed.courses))
    differing = [_label(key) for key, entry in expected.items() if not _same(recorded.get(key), entry)]
    differing += [_label(key) for key in recorded if key not in expected]
    differing += [_label(key[:2]) for key in ledger.contradicted(followed.digests)]
    if not differing:
        return []
    differing = list(dict.fromkeys(differing))
    behind = [_label(key) for key, entry in expected.items() if _is_behind(recorded.get(key), entry)]
    if set(differing) <= set(behind):
        said = (
            f"{LOOKS} ends before the looks that the samples give ({some(differing)}): the sweep was "
            "interrupted, or is running. The verdicts are computed from the samples."
        )
        return [Notice(NoticeCode.LOOKS_BEHIND, said)]
    said = (
        f"{LOOKS} does not record the looks that the samples give ({some(differing)}): either of them was "
        "changed. The verdicts are computed from the samples."
    )
    return [Notice(NoticeCode.LOOKS_DIFFER, said)]


def looks_on_record(run: RunFiles) -> list[Key] | None:
    """The looks in looks.json; None if it is missing or unreadable."""
    recorded = _read(run)
    return None if recorded is None else _keys(recorded)


def _keys(recorded: Mapping[Place, Entry]) -> list[Key]:
    looks = {place: entry.get("looks") for place, entry in recorded.items()}
    counts = {place: len(found) for place, found in looks.items() if isinstance(found, list)}
    return [(*place, look) for place, count in counts.items() for look in range(1, count + 1)]


def _read(run: RunFiles) -> dict[Place, Entry] | None:
    try:
        return _by_place(run.store.read_looks())
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _by_place(text: str | bytes) -> dict[Place, Entry]:
    entries = json.loads(text)["comparisons"]
    return {(str(entry["variant"]), float(entry["temperature"])): entry for entry in entries}


def _label(key: Place) -> str:
    return f"{key[0]} at temperature {key[1]:g}"


def _is_behind(recorded: Entry | None, computed: Entry) -> bool:
    """Whether a record is that of an earlier moment, when the comparison had not been decided."""
    if recorded is None or recorded.get("verdict") is not None:
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
