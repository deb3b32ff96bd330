"""What a policy demands, and what it decided: for every variant, temperature and task, and the release."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from jobs.analysis.policy.schema import Requirement
from jobs.formats.samples import Temperature
from stats.results import Comparison


@dataclass(frozen=True)
class Demand:
    """What must hold on one task, or over all of them, with every default filled in.

    Attributes:
        task: its name; None for all tasks together that are not only watched.
        rule: the name of the rule in the policy; None where no rule names the task.
        require: what must hold.
        alpha: level of its damage test and of its certificate.
        margin: as a share of the metric's range.
        margin_own_unit: in the metric's own unit, for metrics without a range; None if not given.
        min_items: fewest items that must pair.
        max_missing: largest share of missing or failed samples of either model.
    """

    task: str | None
    rule: str | None
    require: Requirement
    alpha: float
    margin: float
    margin_own_unit: float | None
    min_items: int
    max_missing: float

    @property
    def blocks(self) -> bool:
        """Whether damage here can block the release."""
        return self.require != "watched"

    def asks_the_same(self, other: "Demand") -> bool:
        """Whether two demands differ in what they are called only."""
        return replace(self, task=other.task, rule=other.rule) == other


class Ruling(StrEnum):
    """What a case, or the release, came to."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    BLOCKED = "blocked"
    """Damage was found."""

    INSUFFICIENT = "insufficient"
    """Not enough was measured or shown: the release does not pass, and no damage is proven."""

    WATCHED = "watched"


EXIT_STATUS = {Ruling.PASS: 0, Ruling.BLOCKED: 1, Ruling.INSUFFICIENT: 3}


class Reason(NamedTuple):
    """One sentence with its code, which is part of decision.json and stable (docs/release.md)."""

    code: str
    text: str


@dataclass(frozen=True)
class Case:
    """One variant at one temperature on one task, or over all tasks that are not only watched.

    Attributes:
        variant: its name.
        temperature: sampling temperature, None if unknown.
        demand: what must hold.
        status: what it came to.
        reasons: why, the deciding one first.
        comparison: the numbers, adjusted for everything that can block; None where nothing pairs.
        missing_share: share of missing or failed samples, (baseline, variant).
    """

    variant: str
    temperature: Temperature
    demand: Demand
    status: Ruling
    reasons: tuple[Reason, ...]
    comparison: Comparison | None = field(repr=False)
    missing_share: tuple[float, float]

    @property
    def task(self) -> str | None:
        """Name of the task; None for all together."""
        return self.demand.task


@dataclass(frozen=True)
class Decision:
    """Whether a release passes its policy.

    Attributes:
        status: pass, blocked or insufficient.
        alpha: level over everything that can block.
        family: number of hypotheses that can block.
        baseline: name of the baseline.
        cases: everything that was judged.
        reasons: what concerns no single case.
    """

    status: Ruling
    alpha: float
    family: int
    baseline: str
    cases: tuple[Case, ...]
    reasons: tuple[Reason, ...]

    @property
    def exit_status(self) -> int:
        """0 pass, 1 blocked, 3 not enough evidence."""
        return EXIT_STATUS[self.status]
