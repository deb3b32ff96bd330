"""The stopping policy of a sweep: it takes the looks as blocks come in, and stops what is decided."""

from collections.abc import Callable, Mapping
from contextlib import suppress

from jobs.analysis.sequential.ledger import LOST, Ledger, labels, looks_of, looks_on_record, looks_text
from jobs.analysis.sequential.monitor import Place, RunMonitor, monitor_of
from jobs.formats.run_files import RunFiles
from orchestrator.rundir.progress import Standing
from orchestrator.workers.stopping import Next, ReportedScores, StoppingPolicy
from stats.arrays import EvidenceError
from stats.sequential.monitor import Course


class SequentialPolicy(StoppingPolicy):
    """Stops a variant at a temperature once its comparison is decided, and the baseline once all have ended.

    Its decisions depend on the plan and the scores alone, never on the order or the portions in which they
    come in. If scores turn out to be outside of their metric's range, no look can be taken: it then stops
    nothing any more, and says so.

    Args:
        monitor: the answers that earlier submits have written.
        save: records the looks that were taken.
        warn: gets a sentence if looks can no longer be taken.
        finish: whether every sample is asked for all the same; the looks are still taken.
    """

    def __init__(
        self,
        monitor: RunMonitor,
        save: Callable[[Mapping[Place, Course]], None],
        warn: Callable[[str], None],
        *,
        finish: bool,
    ) -> None:
        self._monitor, self._save, self._warn, self._finish = monitor, save, warn, finish
        self._plan = monitor.plan
        self._compared = set(self._plan.places)
        self._ended: set[str] = set()
        self._failed = False
        self._advance()
        self._note_looks()

    @property
    def deciding_metrics(self) -> Mapping[str, str]:
        """Those of the plan."""
        return {task.info.name: task.info.metric for task in self._plan.tasks}

    def report(self, variant: str, task: str, scores: ReportedScores) -> None:
        """Take note of scores, and take the looks that they make possible."""
        if self._failed:
            return
        self._monitor.add(variant, task, scores)
        if self._advance():
            self._note_looks()

    def _advance(self) -> bool:
        """Take all looks that have become possible; whether there were any."""
        try:
            return self._monitor.advance()
        except EvidenceError as error:
            self._failed = True
            self._warn(f"early stopping is now off, because further looks cannot be taken: {error}")
            return False

    def ended(self, variant: str) -> None:
        """Nobody waits for a baseline that has ended; a variant that has ended needs no more of it."""
        self._ended.add(variant)
        if not self._failed:
            self._note_stops()

    def next_for(self, variant: str, temperature: float) -> Next:
        """STOP where it is decided; WAIT where the baseline is to come in first with its next look."""
        if self._finish:
            return Next.CONTINUE
        if (variant, temperature) in self._stopped:
            return Next.STOP
        waits_for_nothing = self._failed or self._plan.baseline in self._ended
        if waits_for_nothing or (variant, temperature) not in self._compared:
            return Next.CONTINUE
        lead = self._monitor.looks_of(self._plan.baseline, temperature)
        is_ahead = self._monitor.looks_of(variant, temperature) >= lead
        return Next.WAIT if is_ahead and lead < self._plan.plan.stopping.looks else Next.CONTINUE

    def standing(self) -> Mapping[str, tuple[Standing, ...]]:
        """The last look of every comparison that had one."""
        return self._standing

    def _note_looks(self) -> None:
        courses = self._monitor.courses(tested=False)
        self._decided = {place for place, course in courses.items() if course.verdict is not None}
        self._note_stops()
        self._standing: dict[str, tuple[Standing, ...]] = {}
        for (variant, temperature), course in courses.items():
            if course.looks:
                standing = _standing(temperature, course, self._plan.plan.stopping.looks)
                self._standing[variant] = (*self._standing.get(variant, ()), standing)
        self._save(courses)

    def _note_stops(self) -> None:
        baseline, looks = self._plan.baseline, self._monitor.looks_of
        open_at = {  # where a comparison that is not decided can have a look that the baseline lacks
            t
            for variant, t in self._compared - self._decided
            if variant not in self._ended or looks(variant, t) > looks(baseline, t)
        }
        self._stopped = self._decided | {(baseline, t) for _, t in self._compared if t not in open_at}


def _standing(temperature: float, course: Course, looks: int) -> Standing:
    last = course.looks[-1]
    return Standing(
        temperature=temperature,
        look=last.look,
        looks=looks,
        statistic=last.statistic,
        boundary=last.boundary,
        certified_statistic=last.certified_statistic,
        certified_boundary=last.certified_boundary,
        verdict=course.verdict.value if course.verdict else None,
    )


def stopping_policy(
    location: str, warn: Callable[[str], None], *, finish: bool = False, record: bool = True
) -> SequentialPolicy:
    """The policy of a run that stops early, with all that is known from the samples in it.

    Args:
        location: the run directory; its manifest and items have been written.
        warn: gets a sentence if looks can no longer be taken.
        finish: whether every sample is asked for, also those that decisions have left out.
        record: whether to write looks.json and the ledger.

    Raises:
        UserError: something in the run is damaged.
    """
    run = RunFiles.open(location)
    monitor, ledger = monitor_of(run), Ledger(run.store)

    def save(courses: Mapping[Place, Course]) -> None:
        if record:
            with suppress(OSError):  # the samples decide; all of it is written again at the next look
                ledger.add(looks_of(courses, monitor.digests))
                run.store.write_looks(looks_text(courses))

    if record:
        with suppress(EvidenceError):  # the policy comes upon it, too
            monitor.advance()
        _note_lost(run, monitor, ledger, warn)
    return SequentialPolicy(monitor, save, warn, finish=finish)


def _note_lost(run: RunFiles, monitor: RunMonitor, ledger: Ledger, warn: Callable[[str], None]) -> None:
    """Record which looks have used answers that the samples no longer hold, before these are asked anew."""
    known = looks_on_record(run)
    unknown = [key for key in known or () if key not in ledger.looks]
    lost = ledger.contradicted(monitor.digests)
    lost += [key for key in unknown if key[2] > len(monitor.digests.get(key[:2], ()))]
    is_late = monitor.has_answers() and (known is None or (not ledger and bool(run.manifest.get("ledger"))))
    if not ledger or (is_late and not ledger.begins_late):
        ledger.begin(late=is_late)
    if lost:
        ledger.add(dict.fromkeys(lost, LOST))
        warn(
            f"answers that looks have used ({labels(lost)}) are lost and asked anew: `lldeg analyze` will "
            "say so (looks-redrawn), and no gate will let the run pass"
        )
