"""From scores that come in to decisions that stay: the front door of sequential comparisons.

A `SequentialMonitor` receives the scores so far and returns what is decided. Decisions are a pure function
of the plan and of the scores: it does not matter in what order comparisons report, in how many portions, or
whether a new monitor receives everything at once. So a sweep that is stopped by one monitor is judged in the
same way by another, which reads nothing but the samples.

The path of one comparison: what its looks found, at every level that it may be tested at.

Intervals of the drop that hold at all looks together, for any reason to stop.

A repeated confidence interval is the fixed interval with its levels replaced by those of the boundaries at
the look (Jennison & Turnbull 1989; 2000, ch. 9): its upper limit lies below the margin where the look
certifies, and for right or wrong its lower limit above 0 where the pooled test finds damage.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from stats.arrays import EvidenceError, Floats
from stats.drop.evidence import DropEvidence
from stats.drop.intervals import Interval
from stats.scores import SLACK
from stats.sequential.certificate import Acceptability, CertificateLevels
from stats.sequential.holm import Crossings, HolmDecision, holm_rounds
from stats.sequential.plan import LookItems, PlannedTask, SequentialPlan, Stopping, asking_order, item_order
from stats.sequential.sign_vectors import SignVectors
from stats.sequential.walk import LookTest, SignFlipWalk
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
class Look:
    """One look of one comparison. Statistics are on the normal scale; those at a boundary or beyond decide.

    Attributes:
        look: its number, from 1 on.
        share: of the planned items that have come in.
        items: items with both scores whose block is complete; they are what the look counts.
        missing: items of complete blocks without both scores.
        worse: items on which the variant scores lower.
        better: items on which it scores higher.
        drop: mean difference over `items`; NaN without any.
        level: in force in this round, α/(comparisons left).
        statistic: evidence of a drop.
        boundary: of the statistic, infinite where nothing could cross.
        spent: probability, were the variant not worse, to have crossed by now.
        certified_statistic: evidence that the drop is below the margin.
        certified_boundary: of that; infinite where no certificate is tested at this look.
        certified_spent: level spent on the certificate by now.
    """

    look: int
    share: float
    items: int
    missing: int
    worse: int
    better: int
    drop: float
    level: float
    statistic: float
    boundary: float
    spent: float
    certified_statistic: float
    certified_boundary: float
    certified_spent: float


@dataclass(frozen=True)
class _Blocks:
    """Sums per block: differences of the items with both scores, and how many; the same in the worst case."""

    paired: Floats
    present: Floats
    worst: Floats
    sizes: Floats


@dataclass(frozen=True)
class _Taken:
    """A look: its new blocks, its items, the test at every level, and the certificate."""

    blocks: _Blocks
    values: Floats
    law: LookTest
    acceptable_p: float
    acceptable_level: float
    certified: bool


class ComparisonPath:
    """The scores of one comparison as far as they have come in, and the looks taken of them.

    Args:
        plan: what was fixed beforehand.
        certificate: its levels, common to all comparisons.
    """

    def __init__(self, plan: SequentialPlan, certificate: CertificateLevels) -> None:
        self._plan, self._certificate = plan, certificate
        self._starts = np.cumsum([0] + [task.items for task in plan.tasks]).tolist()
        self._values, self._worst = np.full((2, plan.items), np.nan)
        self._counts = [0] * len(plan.tasks)
        self._taken: list[_Taken] = []
        self._walk = _start(plan)
        self._reach = 1.0 if all(task.bounded for task in plan.tasks) else np.inf

    @property
    def taken(self) -> int:
        """How many looks were taken."""
        return len(self._taken)

    @property
    def crossings(self) -> Crossings:
        """First crossing of every boundary."""
        places = range(self._plan.levels.size)
        degraded = (_first(taken.law.crossed[place] for taken in self._taken) for place in places)
        certified = _first(taken.certified for taken in self._taken)
        return Crossings(self.taken, tuple(degraded), certified)

    def extend(self, differences: Sequence[Floats], worst: Sequence[Floats] | None = None) -> None:
        """Take in what has come in so far, and take all looks that it allows.

        Args:
            differences: the first items of every task, NaN where a score is missing.
            worst: the same as the certificate takes them; by default missing scores as losses.

        Raises:
            EvidenceError: if there are too many, or they are out of range, or some that a look has used have
                changed.
        """
        if len(differences) != len(self._plan.tasks):
            raise EvidenceError(f"Got {len(differences)} tasks, but {len(self._plan.tasks)} are planned.")
        for number, values in enumerate(differences):
            losses = np.where(np.isnan(values), self._reach, values) if worst is None else worst[number]
            self._check(number, values, losses)
            here = slice(self._starts[number], self._starts[number] + values.size)
            self._values[here], self._worst[here] = values, losses
            self._counts[number] = max(self._counts[number], values.size)
        for look in range(self.taken + 1, self._plan.looks_in(self._counts) + 1):
            self._take(look)

    def _check(self, number: int, values: Floats, losses: Floats) -> None:
        task = self._plan.tasks[number]
        if values.ndim != 1 or values.size > task.items or losses.shape != values.shape:
            raise EvidenceError(
                f"Task {task.task!r} has {task.items} items, but got an array of shape {values.shape}."
            )
        if np.isinf(values).any() or (task.bounded and (np.abs(values) > 1.0 + SLACK).any()):
            raise EvidenceError(f"Differences of task {task.task!r} are not shares of its metric's range.")
        used = min(task.seen_at(self.taken, self._plan.stopping.looks), values.size)
        here = slice(self._starts[number], self._starts[number] + used)
        before, now = (self._values[here], self._worst[here]), (values[:used], losses[:used])
        if not np.array_equal(before, now, equal_nan=True):
            raise EvidenceError(f"Scores of task {task.task!r} that an earlier look used have changed since.")

    def _take(self, look: int) -> None:
        fraction, new = self._plan.stopping.fractions[look - 1], self._plan.layout[look - 1]
        values = self._values[new.items]
        blocks = _block_sums(new, values, self._worst[new.items])
        one_sum = isinstance(self._walk, SignFlipWalk)
        law = self._walk.look(fraction, blocks.paired.sum(axis=1) if one_sum else blocks.paired)
        seen = self._seen([*(taken.blocks for taken in self._taken), blocks], worst=True)
        level = self._certificate.level(look, few_flips=seen.few_flips)
        p = seen.p_value(self._plan.margin)
        certified = p <= level and not self._certificate.held_back(look, law.statistic)
        self._taken.append(_Taken(blocks, values, law, p, level, certified))

    def _seen(self, blocks: Sequence[_Blocks], *, worst: bool) -> Acceptability:
        """All blocks of the looks; missing scores in the worst case, or left out."""
        if worst:
            sums, sizes = [part.worst for part in blocks], [part.sizes for part in blocks]
        else:
            sums, sizes = [part.paired.sum(axis=1) for part in blocks], [part.present for part in blocks]
        counts = np.concatenate(sizes)
        return Acceptability(np.concatenate(sums)[counts > 0.0], counts[counts > 0.0], self._reach)

    def look(self, number: int, place: int) -> Look:
        """One look taken, at the level in force.

        Args:
            number: of the look, from 1 on.
            place: of the level, 0 for the lowest.
        """
        taken = self._taken[number - 1]
        values = np.concatenate([earlier.values for earlier in self._taken[:number]])
        present = values[~np.isnan(values)]
        return Look(
            look=number,
            share=self._plan.share(number),
            items=present.size,
            missing=values.size - present.size,
            worse=int((present > SLACK).sum()),
            better=int((present < -SLACK).sum()),
            drop=float(present.mean()) if present.size else float("nan"),
            level=float(self._plan.levels[place]),
            statistic=taken.law.statistic,
            boundary=float(taken.law.boundary[place]),
            spent=float(taken.law.spent[place]),
            certified_statistic=-float(ndtri(taken.acceptable_p)),
            certified_boundary=-float(ndtri(taken.acceptable_level)),
            certified_spent=self._certificate.spent(number),
        )

    def p_value(self, number: int, place: int) -> float:
        """Stagewise p-value of "not worse" under the boundaries of a level, by the look that crosses first.

        Args:
            number: of the look at which the comparison ended, taken where none crosses.
            place: of the level.
        """
        crossed = _first(taken.law.crossed[place] for taken in self._taken[:number])
        return float(self._taken[(crossed or number) - 1].law.p_stagewise[place])

    def p_noninferior(self, number: int) -> float:
        """Stagewise p-value of "the drop is at least the margin", stopped at a look."""
        seen = self._seen([taken.blocks for taken in self._taken[:number]], worst=True)
        p = self._taken[number - 1].acceptable_p
        return self._certificate.stagewise_p(number, p, few_flips=seen.few_flips)

    def interval(self, number: int, place: int) -> Interval:
        """Repeated confidence interval of the drop at a look, over the items that have both scores."""
        taken = self._taken[number - 1]
        seen = self._seen([earlier.blocks for earlier in self._taken[:number]], worst=False)
        if not seen.sums.size:
            return Interval(-self._reach, self._reach)
        return repeated_interval(seen.evidence, taken.law.nominal(place), taken.acceptable_level, self._reach)


def _start(plan: SequentialPlan) -> SignFlipWalk | SignVectors:
    """The exact walk where one sum decides, else sign vectors."""
    if plan.pooled:
        return SignFlipWalk(plan.levels, plan.stopping.degraded)
    return SignVectors(
        plan.levels,
        plan.stopping.degraded,
        tasks=len(plan.tasks),
        combine=plan.combine,
        vectors=plan.sign_vectors,
        seed=plan.seed,
    )


def _block_sums(new: LookItems, values: Floats, worst: Floats) -> _Blocks:
    """Sums of the blocks that a look adds."""
    missing, left_out = np.isnan(values), np.isnan(worst)
    return _Blocks(
        paired=new.block_sums(np.where(missing, 0.0, values)),
        present=new.block_sums((~missing).astype(np.float64)).sum(axis=1),
        worst=new.block_sums(np.where(left_out, 0.0, worst)).sum(axis=1),
        sizes=new.block_sums((~left_out).astype(np.float64)).sum(axis=1),
    )


def _first(crossed: Iterable[bool]) -> int:
    return next((look for look, found in enumerate(crossed, 1) if found), 0)


LEAST_TAIL = 1e-9
"""A level below this leaves the limit where scores end."""


def repeated_interval(evidence: DropEvidence, lower_tail: float, upper_tail: float, reach: float) -> Interval:
    """Lower and upper limit of the drop at one look.

    Args:
        evidence: what has been seen.
        lower_tail: nominal one-sided level of the look for damage.
        upper_tail: nominal one-sided level of the look for a certificate.
        reach: largest possible |difference| of one item.

    Returns:
        Limits that hold at all looks with probability 1 − (level of damage + level of the certificate).
    """
    low = evidence.limits(lower_tail).low if lower_tail > LEAST_TAIL else -reach
    high = evidence.limits(upper_tail).high if upper_tail > LEAST_TAIL else reach
    return Interval(low, high)


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
        certificate = CertificateLevels(plan.stopping, plan.alpha)
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
                answer (`stats.scores`), infinite where that has no size, NaN where an item is left out. By
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

    def decisions(self, *, closed: bool = False) -> dict[str, HolmDecision]:
        """The comparisons that are decided, and how.

        Args:
            closed: whether nothing more will come in.
        """
        return self._rounds(closed=closed)[0]

    def _rounds(self, *, closed: bool) -> tuple[dict[str, HolmDecision], list[int]]:
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

    def _outline(
        self, comparison: str, decision: HolmDecision | None, places: list[int]
    ) -> tuple[Outline, int]:
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

    def _course(self, comparison: str, decision: HolmDecision | None, places: list[int]) -> Course:
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
