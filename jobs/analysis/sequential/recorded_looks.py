"""looks.json: the record of the looks that a sweep took, held against those that its samples give.

The record decides nothing. Whoever reads it, a dashboard or a person, must be able to rely on it, so an
analysis says where it differs from the samples.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from jobs.analysis.sequential.followed import Followed
from jobs.analysis.sequential.looks_file import looks_text
from jobs.analysis.sequential.run_plan import Place
from jobs.inputs.notices import Notice, NoticeCode
from jobs.inputs.run_directory.files import RunFiles
from jobs.inputs.score_set import some
from orchestrator.rundir.store import LOOKS

CLOSE = 1e-6
"""Relative difference up to which numbers are the same: machines add up in different orders."""

LARGEST = 1e300
"""JSON has numbers of any size, floats have not."""

Entry = Mapping[str, Any]


def note_looks(run: RunFiles, followed: Followed) -> list[Notice]:
    """What is wrong with the record of a run; nothing where it agrees with the samples.

    Args:
        run: the run.
        followed: what its samples give.
    """
    recorded = _read(run)
    if recorded is None:
        said = f"{LOOKS} is missing or unreadable; the verdicts are computed from the samples alone."
        return [Notice(NoticeCode.LOOKS_MISSING, said)]
    expected = _by_place(looks_text(followed.courses))
    differing = [_label(key) for key, entry in expected.items() if not _same(recorded.get(key), entry)]
    differing += [_label(key) for key in recorded if key not in expected]
    if not differing:
        return []
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
        return abs(recorded) <= LARGEST and math.isclose(
            recorded, computed, rel_tol=CLOSE, abs_tol=1e-3 * CLOSE
        )
    if isinstance(recorded, dict) and isinstance(computed, dict):
        return recorded.keys() == computed.keys() and all(_same(recorded[k], computed[k]) for k in computed)
    if isinstance(recorded, list) and isinstance(computed, list):
        return len(recorded) == len(computed) and all(map(_same, recorded, computed))
    return bool(recorded == computed)
