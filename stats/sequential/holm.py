"""Group-sequential Holm: a comparison that is found degraded passes its share of the level on.

m comparisons start at α/m each; after r rejections those left are tested at α/(m − r), at the looks taken and
at those to come. Since what crosses at a level also crosses at every higher one, this is the closed test of
Bonferroni tests (Maurer & Bretz 2013), and the probability of any false rejection is at most α under any
dependence.

Comparisons advance at their own pace, and decisions must not depend on it. So they are made in rounds: round
k knows what the first k looks of every comparison say, and what was passed on by then. As long as a
comparison lags behind, its rejection is neither assumed nor excluded: a decision is given once it holds
either way.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from stats.verdict import Verdict


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
    settled: bool  # False while the looks of comparisons that lag behind could still move the look forward


def holm_rounds(
    tests: Mapping[Any, Crossings], looks: int, *, closed: bool = False
) -> tuple[dict[Any, HolmDecision], list[int]]:
    """Decide all comparisons as far as their looks allow.

    Args:
        tests: by comparison, all that are planned.
        looks: K.
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
        settled = possible == rejected
        for name, place in found.items():
            decided[name] = HolmDecision(Verdict.DEGRADED, look, place, settled)
        places.append(min(len(rejected), top))
        for name in reached:
            if name not in found and 0 < tests[name].certified <= look:
                if name in possible:
                    waiting.add(name)
                else:
                    decided[name] = HolmDecision(Verdict.CERTIFIED, look, places[-1], settled)
    for name, test in tests.items():
        if name not in decided and name not in possible and test.taken >= looks:
            decided[name] = HolmDecision(Verdict.INCONCLUSIVE, looks, places[-1], settled)
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
