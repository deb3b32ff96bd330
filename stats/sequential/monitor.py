"""From scores that come in to decisions that stay: the front door of sequential comparisons.

A `SequentialMonitor` receives the scores so far and returns what is decided. Decisions are a pure function
of the plan and of the scores: it does not matter in what order comparisons report, in how many portions, or
whether a new monitor receives everything at once. So a sweep that is stopped by one monitor is judged in the
same way by another, which reads nothing but the samples.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from stats.arrays import EvidenceError, Floats
from stats.drop import MANY_FLIPS, MOST_TAIL, Interval, block_evidence
from stats.scores import BALANCING, SLACK
from stats.sequential.boundaries import CertificateLevels, bias_adjusted, strip
from stats.sequential.looks import DamageTest, LookTest, SignFlipWalk, SignVectors
from stats.sequential.plan import SequentialPlan, cell_sums
from stats.verdict import Verdict

LEAST_TAIL = 1e-9  # a level below this leaves the limit where scores end


@dataclass(frozen=True)
class Look:
    """One look of a comparison. Statistics are on the normal scale; those at a boundary or beyond decide."""

    look: int  # its number, from 1 on
    share: float  # of the planned items that have come in
    items: int  # items with both scores whose block is complete; they are what the look counts
    missing: int  # items of complete blocks without both scores
    worse: int  # items on which the variant scores lower
    better: int  # items on which it scores higher
    drop: float  # mean difference over `items`; NaN without any
    level: float  # in force in this round, α/(comparisons left)
    statistic: float  # evidence of a drop
    boundary: float  # of the statistic, infinite where nothing could cross
    spent: float  # probability, were the variant not worse, to have crossed by now
    certified_statistic: float  # evidence that the drop is below the margin
    certified_boundary: float  # of that; infinite where no certificate is tested at this look
    certified_spent: float  # level spent on the certificate by now


@dataclass(frozen=True)
class Crossings:
    """What the looks of one comparison say."""

    taken: int  # how many looks were taken
    # look at which each level, from the lowest on, is first crossed; 0 where not yet
    degraded: tuple[int, ...]
    certified: int  # look at which the boundary of the certificate is first crossed; 0 where not yet


@dataclass(frozen=True)
class HolmDecision:
    """The end of one comparison."""

    verdict: Verdict  # degraded, certified, or inconclusive after the last look
    look: int  # round in which it was decided
    place: int  # number of the level that was then in force, 0 for the lowest


class _ComparisonPath:
    """The scores of one comparison as far as they have come in, and what its looks found, at every level."""

    def __init__(self, plan: SequentialPlan, certificate: CertificateLevels) -> None:
        self._plan, self._certificate = plan, certificate
        self._starts = np.cumsum([0] + [task.items for task in plan.tasks]).tolist()
        self._values, self._worst = np.full((2, plan.items), np.nan)
        self._counts = [0] * len(plan.tasks)
        self._tests: list[LookTest] = []
        self._acceptable: list[tuple[float, float, bool]] = []  # p-value, its level, whether it certifies
        # sums and sizes of the blocks of every look: of items with both scores, and in the worst case
        self._paired: list[tuple[Floats, Floats]] = []
        self._losses: list[tuple[Floats, Floats]] = []
        self._max_abs_difference = 1.0 if all(task.bounded for task in plan.tasks) else np.inf
        # of a certificate by bets: the planned blocks and the largest of them
        self._planned: tuple[int, float] | None = None
        if plan.stopping.certificate == "proven":
            sizes = np.concatenate([np.bincount(cells // len(plan.tasks)) for _, cells in plan.layout])
            self._planned = sizes.size, float(sizes.max())
        sizes = np.concatenate([np.bincount(cells) for _, cells in plan.layout])
        self._damage = DamageTest(
            [
                SignFlipWalk(plan.levels, plan.stopping.degraded) if plan.pooled else SignVectors(plan)
                for _ in range(2 if plan.balanced and sizes[sizes > 0].min() < sizes.max() else 1)
            ]
        )

    @property
    def taken(self) -> int:
        """How many looks were taken."""
        return len(self._tests)

    def crossings(self) -> Crossings:
        """First crossing of every boundary."""
        places = range(self._plan.levels.size)
        degraded = tuple(_first(test.crossed[place] for test in self._tests) for place in places)
        return Crossings(self.taken, degraded, _first(certifies for _, _, certifies in self._acceptable))

    def extend(self, differences: Sequence[Floats], worst: Sequence[Floats] | None) -> None:
        """Take in what has come in so far, as `SequentialMonitor.observe`, and take all looks it allows."""
        if len(differences) != len(self._plan.tasks):
            raise EvidenceError(f"Got {len(differences)} tasks, but {len(self._plan.tasks)} are planned.")
        for number, values in enumerate(differences):
            lost = np.where(np.isnan(values), self._max_abs_difference, values)
            losses = lost if worst is None else worst[number]
            task, start = self._plan.tasks[number], self._starts[number]
            if values.ndim != 1 or values.size > task.items or losses.shape != values.shape:
                said = f"has {task.items} items, but got an array of shape {values.shape}"
                raise EvidenceError(f"Task {task.task!r} {said}.")
            if np.isinf(values).any() or (task.bounded and (np.abs(values) > 1.0 + SLACK).any()):
                said = "are not shares of its metric's range"
                raise EvidenceError(f"Differences of task {task.task!r} {said}.")
            used = min(task.seen_at(self.taken, self._plan.stopping.looks), values.size)
            seen = slice(start, start + used)
            before, now = (self._values[seen], self._worst[seen]), (values[:used], losses[:used])
            if not np.array_equal(before, now, equal_nan=True):
                said = "that an earlier look used have changed since"
                raise EvidenceError(f"Scores of task {task.task!r} {said}.")
            here = slice(start, start + values.size)
            self._values[here], self._worst[here] = values, losses
            self._counts[number] = max(self._counts[number], values.size)
        for look in range(self.taken + 1, self._plan.looks_in(self._counts) + 1):
            self._take(look)

    def _take(self, look: int) -> None:
        plan, (items, cells), tasks = self._plan, self._plan.layout[look - 1], len(self._plan.tasks)
        for row, blocks in ((self._values, self._paired), (self._worst, self._losses)):
            sizes = cell_sums(np.where(np.isnan(row[items]), 0.0, 1.0), cells, tasks).sum(axis=1)
            sums = cell_sums(row[items], cells, tasks).sum(axis=1)
            if self._planned:  # bets are made on all tasks in turn
                order = np.random.default_rng([plan.seed, look]).permutation(sums.size)
                sums, sizes = sums[order], sizes[order]
            blocks.append((sums, sizes))
        new, sizes = (cell_sums(v, cells, tasks) for v in (self._values[items], np.ones(items.size)))
        values = new, new / np.maximum(sizes, 1.0) ** BALANCING
        test = self._damage.look(
            plan.stopping.fractions[look - 1], [v.sum(axis=1) if plan.pooled else v for v in values]
        )
        losses, sizes = _joined(self._losses)
        p, level = 1.0, self._certificate.level(look, few_flips=_few_flips(losses))
        if losses.size and np.isfinite(losses).all():  # a loss without a size bounds nothing
            evidence = block_evidence(losses, sizes, self._max_abs_difference, self._planned)
            p = evidence.p_noninferior(plan.margin)
        held_back = test.statistic > self._certificate.largest_evidence(look)  # damage may still be found
        held_back |= sum(float(sizes.sum()) for _, sizes in self._paired) < plan.min_items
        self._tests.append(test)
        self._acceptable.append((p, level, p <= level and not held_back))

    def _look(self, number: int, place: int) -> Look:
        """One look taken, counted from 1, at the level in force, of which 0 is the lowest."""
        test, (p, level, _) = self._tests[number - 1], self._acceptable[number - 1]
        values = np.concatenate([self._values[items] for items, _ in self._plan.layout[:number]])
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
            statistic=test.statistic,
            boundary=float(test.boundary[place]),
            spent=float(test.spent[place]),
            certified_statistic=-float(ndtri(p)),
            certified_boundary=-float(ndtri(level)),
            certified_spent=float(self._certificate.spent[number]),
        )

    def course(
        self, decision: HolmDecision | None, places: list[int], *, tested: bool, finished: bool
    ) -> "Course":
        """From the first look to the end; `places` are those of the levels in force after every round."""
        plan, last = self._plan, min(decision.look, self.taken) if decision else self.taken
        in_force = places[:last]
        if decision and last:
            in_force[-1] = decision.place
        place = in_force[-1] if last else 0
        is_stopped = decision is not None and last < plan.stopping.looks
        described = self.taken if finished and self.taken == plan.stopping.looks else last
        p = p_adjusted = p_noninferior = None
        if tested and decision:
            crossed = _first(test.crossed[place] for test in self._tests[:last]) or last
            p = float(self._tests[crossed - 1].p_stagewise[place])
            p_adjusted = min(1.0, p * plan.alpha / float(plan.levels[place]))
            few, at_last = _few_flips(_joined(self._losses[:last])[0]), self._acceptable[last - 1][0]
            p_noninferior = self._certificate.stagewise_p(last, at_last, few_flips=few)
        return Course(
            verdict=decision.verdict if decision else None,
            looks=tuple(self._look(number, at) for number, at in enumerate(in_force, 1)),
            share_used=plan.share(last),
            stopped=is_stopped,
            p=p,
            p_adjusted=p_adjusted,
            p_noninferior=p_noninferior,
            interval=self._interval(described, place) if tested and last else None,
            drop_adjusted=self._adjusted(last, place) if tested and is_stopped else None,
        )

    def _adjusted(self, number: int, place: int) -> float:
        """The drop found at a stop, without the bias that stopping gives it.

        The sum of the differences is taken for a Brownian motion between the boundaries of both tests.
        """
        plan, (sums, sizes) = self._plan, _joined(self._paired[:number])
        items = float(sizes.sum())
        drop = float(sums.sum()) / items
        spread, root = np.sqrt(((sums - drop * sizes) ** 2).sum() / items), np.sqrt(plan.items)
        if spread == 0.0:
            return drop
        levels, mean_square = (plan.alpha, float(plan.levels[place])), float(sums @ sums) / items
        bounds = strip(plan.stopping, levels, plan.margin, plan.items, mean_square) / spread
        if not np.isfinite(self._max_abs_difference):
            bounds[0] = -np.inf
        found = bias_adjusted(plan.stopping.fractions, bounds, drop * root / spread)
        return float(found * spread / root)

    def _interval(self, number: int, place: int) -> Interval:
        """Repeated confidence interval of the drop at a look, over the items that have both scores.

        The fixed interval with its levels replaced by those of the boundaries at the look (Jennison &
        Turnbull 1989; 2000, ch. 9), which hold at all looks together, for any reason to stop: its upper limit
        lies below the margin where the look certifies, and for right or wrong its lower limit above 0 where
        the pooled test finds damage.
        """
        most, (sums, sizes) = self._max_abs_difference, _joined(self._paired[:number])
        if not sums.size:
            return -most, most
        evidence, proven = (block_evidence(sums, sizes, most, by) for by in (None, self._planned))
        tails = self._tests[number - 1].nominal(place), self._acceptable[number - 1][1]
        lower, upper = (min(tail, MOST_TAIL) for tail in tails)
        low = evidence.limits(lower)[0] if lower > LEAST_TAIL else -most
        return low, proven.limits(upper)[1] if upper > LEAST_TAIL else most


def _joined(looks: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Sums and sizes of the blocks of several looks that hold any item."""
    sums, sizes = (np.concatenate(parts) for parts in zip(*looks, strict=True))
    return sums[sizes > 0.0], sizes[sizes > 0.0]


def _few_flips(sums: Floats) -> bool:
    """Whether so few blocks differ that limits for many are not trusted."""
    return int(np.count_nonzero(sums)) < MANY_FLIPS


def _first(crossed: Iterable[bool]) -> int:
    return next((look for look, is_crossed in enumerate(crossed, 1) if is_crossed), 0)


@dataclass(frozen=True)
class Course:
    """One comparison from its first look to its end, or as far as it has come."""

    # degraded, certified or, after the last look, inconclusive; None as long as it continues
    verdict: Verdict | None
    looks: tuple[Look, ...]  # those taken until the decision
    share_used: float  # of the planned items, at the decision or so far
    stopped: bool  # whether it was decided before the last look
    # stagewise p-value of "not worse" (Jennison & Turnbull 2000, ch. 8.4), None while it continues.
    p: float | None = None
    p_adjusted: float | None = None  # the same for the number of comparisons left, at most α where degraded
    # stagewise p-value of "the drop is at least the margin"; None while it continues
    p_noninferior: float | None = None
    interval: Interval | None = None  # repeated confidence interval of the drop; None before the first look
    drop_adjusted: float | None = None  # without the bias of an early stop (Whitehead 1986); None without one


class SequentialMonitor:
    """Takes looks as scores come in."""

    def __init__(self, plan: SequentialPlan) -> None:
        self.plan = plan
        self._paths = dict[Any, _ComparisonPath]()
        for name in plan.comparisons:
            own = plan.of(name)
            damage = float(own.levels[0]) if name in plan.duties else None
            self._paths[name] = _ComparisonPath(own, CertificateLevels(plan.stopping, own.alpha, damage))
        self._releases = {name: duty.release for name, duty in plan.duties.items()}

    def observe(
        self, comparison: Hashable, differences: Sequence[ArrayLike], worst: Sequence[ArrayLike] | None = None
    ) -> int:
        """Take the looks that have become possible of a comparison; returns how many were taken in all.

        Args:
            comparison: one of those planned.
            differences: per task of the comparison how much worse the variant is on the first items, in the
                planned order, in shares of the range, shape (items so far,); means over equally many reruns
                of both models. NaN where a score is missing and will not come.
            worst: the same as the certificate takes them, with the least favourable score for every missing
                answer (`stats.scores`), infinite where that has no size, NaN where an item is left out. By
                default an item without both scores is a loss.

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

    def decisions(self, *, closed: bool = False) -> dict[Any, HolmDecision]:
        """The comparisons that are decided, and how; `closed` where nothing more will come in."""
        return self._rounds(closed=closed)[0]

    def courses(
        self, *, closed: bool = False, tested: bool = True, finished: bool = False
    ) -> dict[Any, Course]:
        """All comparisons from their first look to their end, or as far as they have come.

        They are `closed` where nothing more will come in, and `tested` if p-values and intervals are worked
        out, which take far longer than everything else. If `finished`, the interval of a comparison all of
        whose items have come in is that of the last look: it holds at all looks together.
        """
        decisions, places = self._rounds(closed=closed)
        return {
            name: path.course(decisions.get(name), places[name], tested=tested, finished=finished)
            for name, path in self._paths.items()
        }

    def _rounds(self, *, closed: bool) -> tuple[dict[Any, HolmDecision], dict[Any, list[int]]]:
        """The decisions, and by comparison the places of the levels in force in its family."""
        families = dict[int, dict[Any, Crossings]]()
        for name, path in self._paths.items():
            families.setdefault(self.plan.families.get(name, 0), {})[name] = path.crossings()
        decided, places = dict[Any, HolmDecision](), dict[Any, list[int]]()
        for tests in families.values():
            found, at = holm_rounds(tests, self.plan.stopping.looks, self._releases, closed=closed)
            decided |= found
            places |= dict.fromkeys(tests, at)
        return decided, places


def holm_rounds(
    tests: Mapping[Any, Crossings],
    looks: int,
    releases: Mapping[Any, Hashable] = MappingProxyType({}),
    *,
    closed: bool = False,
) -> tuple[dict[Any, HolmDecision], list[int]]:
    """Decide all comparisons as far as their looks allow, by group-sequential Holm.

    m comparisons start at α/m each; after r rejections those left are tested at α/(m − r), at the looks taken
    and at those to come. Since what crosses at a level also crosses at every higher one, this is the closed
    test of Bonferroni tests (Maurer & Bretz 2013), and the probability of any false rejection is at most α
    under any dependence.

    Comparisons advance at their own pace, and decisions must not depend on it. So they are made in rounds:
    round k knows what the first k looks of every comparison say, and what was passed on by then. As long as a
    comparison lags behind, its rejection is neither assumed nor excluded: a decision is given once it holds
    either way.

    Args:
        tests: by comparison, all that are planned.
        looks: K.
        releases: of comparisons that decide about a release together, its name: with the first of them that
            finds damage all end, as not rejected unless certified at that look. They report together.
        closed: whether no further looks will be taken; those that lag behind then count as not rejected.

    Returns:
        The decisions made, and the place of the level that is in force after every round, shape (K,).
    """
    rejected, possible, waiting = set[Any](), set[Any](), set[Any]()  # certainly, and as far as known
    decided, places = dict[Any, HolmDecision](), list[int]()
    top = min(len(test.degraded) for test in tests.values()) - 1
    for look in range(1, looks + 1):
        undecided = [name for name in tests if name not in decided and name not in waiting]
        reached = [name for name in undecided if closed or tests[name].taken >= look]
        found = _reject(tests, reached, rejected, look, top)
        possible |= rejected | (set(undecided) - set(reached))
        _reject(tests, reached, possible, look, top)
        for name, place in found.items():
            decided[name] = HolmDecision(Verdict.DEGRADED, look, place)
        places.append(min(len(rejected), top))
        blocked = {releases[name] for name in found if name in releases}
        for name in reached:
            is_certified = 0 < tests[name].certified <= look
            if name not in found and (is_certified or releases.get(name) in blocked):
                if name in possible:
                    waiting.add(name)
                else:
                    verdict = Verdict.CERTIFIED if is_certified else Verdict.INCONCLUSIVE
                    decided[name] = HolmDecision(verdict, look, places[-1])
    for name, test in tests.items():
        if name not in decided and name not in possible and test.taken >= looks:
            decided[name] = HolmDecision(Verdict.INCONCLUSIVE, looks, places[-1])
    return decided, places


def _reject(
    tests: Mapping[Any, Crossings], names: Collection[Any], rejected: set[Any], look: int, top: int
) -> dict[Any, int]:
    """Add to the rejected those that cross at the level in force, until it rises no more; their places."""
    found: dict[Any, int] = {}
    while True:
        place = min(len(rejected), top)
        crossing = [n for n in names if n not in rejected and 0 < tests[n].degraded[place] <= look]
        if not crossing:
            return found
        rejected.update(crossing)
        found.update(dict.fromkeys(crossing, place))
