"""The runs of a folder in order of their dates, each read by itself."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jobs.formats.run_files import runs_in
from jobs.scores.read import read_unlinked
from jobs.scores.score_set import Reading, ScoreSet
from orchestrator.errors import UserError
from orchestrator.rundir.heartbeat import EVENTS
from orchestrator.rundir.store import RunStore

DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:[T_ -]?(\d{2})[:.-]?(\d{2}))?(?!\d)")


@dataclass(frozen=True)
class DatedRun:
    """One run of a history.

    Attributes:
        date: when it was made.
        location: path or URL.
        scores: what it holds.
    """

    date: datetime
    location: str
    scores: ScoreSet


def dated_runs(folder: str, reading: Reading) -> list[DatedRun]:
    """All runs directly inside of a folder, oldest first.

    Args:
        folder: path or URL.
        reading: metrics and clusters.

    Raises:
        UserError: if there are fewer than two runs, one has no date, or one cannot be read.
    """
    found = runs_in(folder)
    if len(found) < 2:
        raise UserError(
            f"{folder} holds {len(found) or 'no'} run{'s' * (len(found) != 1)}: a history needs a folder "
            "with at least two run directories."
        )
    dates = {location: run_date(location) for location in found}
    ordered = sorted(found, key=lambda location: (dates[location], location))
    return [DatedRun(dates[location], location, read_unlinked([location], reading)) for location in ordered]


def run_date(location: str) -> datetime:
    """When a run was made: the date in the name of its folder, else the time of its first event, in UTC.

    Raises:
        UserError: if neither is there.
    """
    name = location.rstrip("/").rpartition("/")[2]
    moment = _named(name) or _first_event(location)
    if moment is None:
        raise UserError(
            f"{location} has no date: put one into the name of the folder, for example 2026-11-26 or "
            "daily-2026-11-26T0300."
        )
    return moment


def _named(name: str) -> datetime | None:
    for found in DATE.finditer(name):
        try:
            return datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
        except ValueError:  # 2026-13-45, for example: digits, and no date
            continue
    return None


def _first_event(location: str) -> datetime | None:
    try:
        line = RunStore(location).read_log(EVENTS).partition(b"\n")[0]
        return datetime.fromtimestamp(float(json.loads(line)["time"]), tz=UTC)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None  # no log, or none of ours


def date_text(moments: Sequence[datetime]) -> list[str]:
    """Dates for people: without the time of day where every day has one run."""
    days = [f"{moment:%Y-%m-%d}" for moment in moments]
    if len(set(days)) == len(days):
        return days
    return [f"{moment:%Y-%m-%d %H:%M}" for moment in moments]
