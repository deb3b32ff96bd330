"""The stopping policy of a sweep: it takes the looks as blocks come in, and stops what is decided."""

from collections.abc import Callable, Mapping
from contextlib import suppress

from jobs.analysis.sequential import ledger as records
from jobs.analysis.sequential.run_monitor import RunMonitor
from jobs.formats.run_files import RunFiles
from orchestrator.rundir.progress import Standing
from orchestrator.rundir.store import LOOKS
from orchestrator.workers.stopping import Next, ReportedScores, StoppingPolicy
from stats.arrays import EvidenceError


class EarlyStopping(StoppingPolicy):
    """Stops a variant at a temperature once its comparison is decided, and the baseline once all have ended.

    Its decisions depend on the plan and the scores alone, never on the order or the portions in which they
    come in. If scores turn out to be outside of their metric's range, no look can be taken: it then stops
    nothing any more, and says so. It begins with all that is known from the samples of the run.

    Args:
        location: the run directory; its manifest and items have been written.
        warn: gets a sentence if looks can no longer be taken, or were taken on answers that are lost.
        finish: whether every sample is asked for all the same; the looks are still taken.
        record: whether to write looks.json and the ledger.

    Raises:
        UserError: something in the run is damaged.
    """

    def __init__(
        self, location: str, warn: Callable[[str], None], *, finish: bool = False, record: bool = True
    ) -> None:
        self._run = RunFiles.open(location)
        self._warn, self._finish, self._record = warn, finish, record
        self._ledger = records.Ledger(self._run.store)
        self._monitor = RunMonitor(self._run)
        self._monitor.read_samples()
        self._compared = set(self._monitor.places)
        self._ended: set[str] = set()
        self._failed = False
        self._advance()
        if record:
            self._note_lost()
        self._note_looks()

    @property
    def deciding_metrics(self) -> Mapping[str, str]:
        """Those of the plan."""
        return {table.info.name: table.info.metric for table in self._monitor.tasks}

    def take_scores(self, variant: str, task: str, scores: ReportedScores) -> None:
        """Take note of scores, and take the looks that they make possible."""
        if not self._failed:
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
        waits_for_nothing = self._failed or self._monitor.baseline in self._ended
        if waits_for_nothing or (variant, temperature) not in self._compared:
            return Next.CONTINUE
        lead = self._monitor.looks_of(self._monitor.baseline, temperature)
        is_ahead = self._monitor.looks_of(variant, temperature) >= lead
        return Next.WAIT if is_ahead and lead < self._monitor.plan.stopping.looks else Next.CONTINUE

    def last_looks(self) -> Mapping[str, tuple[Standing, ...]]:
        """The last look of every comparison that had one."""
        return self._last_looks

    def _note_looks(self) -> None:
        """Which comparisons are decided and where each stands, in memory and on record."""
        courses = self._monitor.courses(tested=False)
        used = self._monitor.looks_used(courses)
        self._decided = {place for place, (_, ended) in used.items() if ended}
        self._note_stops()
        self._last_looks: dict[str, tuple[Standing, ...]] = {}
        for variant, temperature in self._monitor.places:
            course = courses.get((variant, temperature, None))
            if course is not None and course.looks:
                last = course.looks[-1]
                standing = Standing(
                    temperature=temperature,
                    look=last.look,
                    looks=self._monitor.plan.stopping.looks,
                    statistic=last.statistic,
                    boundary=last.boundary,
                    certified_statistic=last.certified_statistic,
                    certified_boundary=last.certified_boundary,
                    verdict=course.verdict.value if course.verdict else None,
                )
                self._last_looks[variant] = (*self._last_looks.get(variant, ()), standing)
        if self._record:
            with suppress(OSError):  # the samples decide; all of it is written again at the next look
                self._ledger.add(records.looks_of(courses, self._monitor.digests))
                self._run.store.write(LOOKS, records.looks_text(courses).encode())

    def _note_stops(self) -> None:
        baseline, looks = self._monitor.baseline, self._monitor.looks_of
        open_at = {  # where a comparison that is not decided can have a look that the baseline lacks
            t
            for variant, t in self._compared - self._decided
            if variant not in self._ended or looks(variant, t) > looks(baseline, t)
        }
        self._stopped = self._decided | {(baseline, t) for _, t in self._compared if t not in open_at}

    def _note_lost(self) -> None:
        """Record which looks have used answers that the samples no longer hold and that are asked again."""
        ledger, digests = self._ledger, self._monitor.digests
        known, lost = records.read_record(self._run), ledger.contradicted(digests)
        unknown = (key for key in records.keys_of(known or {}) if key not in ledger.looks)
        lost += [key for key in unknown if key[3] > len(digests.get(key[:2], ()))]
        is_lost = known is None or (not ledger and bool(self._run.manifest.get("ledger")))
        is_late = is_lost and self._monitor.has_answers()
        if not ledger or (is_late and not ledger.begins_late):
            ledger.write([{"begins_late": is_late}])
        if lost:
            ledger.add({key: {"scores": None, "verdict": None} for key in lost})
            self._warn(
                f"answers that looks have used ({records.labels(lost)}) are lost and generated again: "
                "`lldeg analyze` will say so (looks-redrawn), and no gate will let the run pass"
            )
