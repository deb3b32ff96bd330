"""A history from a folder of runs: for the command and for Python."""

from dataclasses import dataclass
from typing import Any

from jobs.commands.history.dated_runs import dated_runs
from jobs.commands.history.outputs import history_entry, write_history
from jobs.commands.history.series import Series, series_of
from jobs.formats.notices import NoticeCode
from jobs.formats.samples import Temperature
from jobs.scores.read import read_unlinked
from jobs.scores.score_set import Reading

ALARM, UNMEASURED = 1, 3


@dataclass(frozen=True)
class History:
    """Models over dates.

    Attributes:
        alpha: probability of any false alarm, ever.
        series: one per model and temperature: `model`, `temperature`, `points`, `alarm`, `since`.
        newest: path or URL of the newest run.
        measured: whether the newest run could be compared.
        warnings: which files of the runs could not be read.
    """

    alpha: float
    series: tuple[Series, ...]
    newest: str
    measured: bool
    warnings: tuple[str, ...] = ()

    @property
    def alarms(self) -> tuple[Series, ...]:
        """The series with an alarm."""
        return tuple(one for one in self.series if one.alarm is not None)

    @property
    def entry(self) -> dict[str, Any]:
        """The content of history.json, as JSON values."""
        return history_entry(self.series, self.alpha, self.warnings)

    @property
    def exit_status(self) -> int:
        """That of `lldeg history`: 0, 1 with an alarm, 3 if the newest run could not be compared."""
        return ALARM if self.alarms else 0 if self.measured else UNMEASURED

    def write(self, folder: str) -> None:
        """Write history.json and history.svg.

        Args:
            folder: path or URL; made if it is not there.

        Raises:
            UserError: the folder cannot be written to.
        """
        write_history(self.entry, self.series, folder)


def follow(
    folder: str,
    reading: Reading,
    *,
    reference: str | None,
    alpha: float,
    temperature: Temperature,
) -> History:
    """Follow the models of a folder of runs.

    Args:
        folder: path or URL with a run directory for each date.
        reading: metrics and clusters.
        reference: run whose baseline is the reference on every date; None for the baseline of each run, or
            the first date where runs hold a single model.
        alpha: probability of any false alarm, ever.
        temperature: only this one; None for all.

    Raises:
        UserError: a run cannot be read or has no date, or nothing can be compared.
    """
    runs = dated_runs(folder, reading)
    old = None if reference is None else read_unlinked([reference], reading)
    series = series_of(runs, old, alpha=alpha, temperature=temperature, cluster=reading.cluster)
    measured = any(one.points[-1].run is runs[-1] for one in series)
    read = [run.scores for run in runs] + ([] if old is None else [old])
    notices = [notice for scores in read for notice in scores.warnings]
    damaged = tuple(notice.text for notice in notices if notice.code is NoticeCode.UNREADABLE_FILES)
    return History(alpha, tuple(series), runs[-1].location, measured, damaged)
