"""From scores that come in to decisions that stay: the front door of sequential comparisons.

A `SequentialMonitor` receives the scores so far and returns what is decided. Decisions are a pure function
of the plan and of the scores: it does not matter in what order comparisons report, in how many portions, or
whether a new monitor receives everything at once. So a sweep that is stopped by one monitor is judged in the
same way by another, which reads nothing but the samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from stats.intervals import Interval
from stats.sequential_holm import Decision, holm_rounds
from stats.sequential_noninferiority import Certificate
from stats.sequential_path import ComparisonPath, Look
from stats.sequential_plan import PlannedTask, SequentialPlan, Stopping, asking_order, item_order
from stats.verdict import Verdict

__all__ = [
    "Course",
    "Look",
    "Outline",
    "PlannedTask",
    "SequentialMonitor",
    "SequentialPlan",
    "Stopping",
    "asking_order",
    "item_order",
    "replay",
]


@dataclass(frozen=True)
class Outline:
    """One comparison from its first look to its end, or as far as it has come.

    Attributes:
        verdict: degraded, certified or, after the last look, inconclusive; None as long as it continues.
        settled: whether the look is final, too; False while comparisons that lag behind could still move it
            forward. The verdict is final in any case.
        looks: those taken until the decision.
        share_used: of the planned items, at the decision or so far.
        stopped: whether it was decided before the last look.
    """

    verdict: Verdict | None
    settled: bool
    looks: tuple[Look, ...]
    share_used: float
    stopped: bool


@dataclass(frozen=True)
class Course(Outline):
    """An outline with p-values and an interval.

    Attributes:
        p: stagewise p-value of "not worse" (Jennison & Turnbull 2000, ch. 8.4), None while it continues.
        p_adjusted: the same for the number of comparisons left, at most α where degraded.
        p_noninferior: stagewise p-value of "the drop is at least the margin"; None while it continues.
        interval: repeated confidence interval of the drop; None before the first look.
    """

    p: float | None
    p_adjusted: float | None
    p_noninferior: float | None
    interval: Interval | None


class SequentialMonitor:
    """Takes looks as scores come in.

    Args:
        plan: what was fixed beforehand.
    """

    def __init__(self, plan: SequentialPlan) -> None:
        self.plan = plan
        certificate = Certificate(plan.stopping, plan.alpha)
        self._paths = {name: ComparisonPath(plan.of(name), certificate) for name in plan.comparisons}

    def observe(
        self,
        comparison: str,
        differences: Sequence[ArrayLike],
        worst: Sequence[ArrayLike] | None = None,
    ) -> int:
        """Take the looks that have become possible.

        Args:
            comparison: one of those planned.
            differences: per task of the comparison how much worse the variant is on the first items, in the
                planned order, in shares of the range, shape (items so far,); means over equally many reruns
                of both models. NaN where a score is missing and will not come.
            worst: the same as the certificate takes them, with the least favourable score for every missing
                answer (`stats.missing`), infinite where that has no size, NaN where an item is left out. By
                default an item without both scores is a loss.

        Returns:
            How many looks were taken of it in all.

        Raises:
            KeyError: if the comparison was not planned.
            EvidenceError: if there are too many, or they are out of range, or some that a look has used have
                changed.
        """
        path = self._paths[comparison]
        parts = [np.asarray(values, dtype=np.float64) for values in differences]
        losses = None if worst is None else [np.asarray(values, dtype=np.float64) for values in worst]
        path.extend(parts, losses)
        return path.taken

    def decisions(self, *, closed: bool = False) -> dict[str, Decision]:
        """The comparisons that are decided, and how.

        Args:
            closed: whether nothing more will come in.
        """
        return self._rounds(closed=closed)[0]

    def _rounds(self, *, closed: bool) -> tuple[dict[str, Decision], list[int]]:
        tests = {name: path.crossings for name, path in self._paths.items()}
        return holm_rounds(tests, self.plan.stopping.looks, closed=closed)

    def outlines(self, *, closed: bool = False) -> dict[str, Outline]:
        """All comparisons without p-values and intervals, which take far longer than everything else.

        Args:
            closed: whether nothing more will come in.
        """
        decisions, places = self._rounds(closed=closed)
        return {name: self._outline(name, decisions.get(name), places)[0] for name in self._paths}

    def courses(self, *, closed: bool = False) -> dict[str, Course]:
        """All comparisons from their first look to their end, or as far as they have come.

        Args:
            closed: whether nothing more will come in.
        """
        decisions, places = self._rounds(closed=closed)
        return {name: self._course(name, decisions.get(name), places) for name in self._paths}

    def _outline(self, comparison: str, decision: Decision | None, places: list[int]) -> tuple[Outline, int]:
        """A comparison, and the place of the level in force at its last look."""
        path, plan = self._paths[comparison], self.plan.of(comparison)
        last = min(decision.look, path.taken) if decision else path.taken
        in_force = places[:last]
        if decision and last:
            in_force[-1] = decision.place
        outline = Outline(
            verdict=decision.verdict if decision else None,
            settled=decision.settled if decision else False,
            looks=tuple(path.look(number, in_force[number - 1]) for number in range(1, last + 1)),
            share_used=plan.share(last),
            stopped=decision is not None and last < plan.stopping.looks,
        )
        return outline, in_force[-1] if last else 0

    def _course(self, comparison: str, decision: Decision | None, places: list[int]) -> Course:
        outline, place = self._outline(comparison, decision, places)
        path, plan, last = self._paths[comparison], self.plan.of(comparison), len(outline.looks)
        found = {field.name: getattr(outline, field.name) for field in fields(outline)}
        interval = path.interval(last, place) if last else None
        if decision is None:
            return Course(**found, p=None, p_adjusted=None, p_noninferior=None, interval=interval)
        p = path.p_value(last, place)
        return Course(
            **found,
            p=p,
            p_adjusted=min(1.0, p * plan.alpha / float(plan.levels[place])),
            p_noninferior=path.p_noninferior(last),
            interval=interval,
        )


def replay(
    plan: SequentialPlan,
    differences: Mapping[str, Sequence[ArrayLike]],
    worst: Mapping[str, Sequence[ArrayLike]] | None = None,
) -> dict[str, Course]:
    """Decide a sweep from all that came in.

    Args:
        plan: what was fixed beforehand.
        differences: by comparison and task, as `SequentialMonitor.observe` takes them; comparisons of which
            nothing came in may be left out.
        worst: the same in the worst case.
    """
    monitor = SequentialMonitor(plan)
    for comparison, values in differences.items():
        monitor.observe(comparison, values, worst[comparison] if worst else None)
    return monitor.courses(closed=True)
