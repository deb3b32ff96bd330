"""What a policy decided: for every variant, temperature and task, and for the release."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jobs.analysis.policy.reasons import Reason
from jobs.analysis.policy.resolve import Demand
from jobs.formats.samples import Temperature
from stats.results import Comparison

FIELDS = (
    "items", "baseline_score", "variant_score", "drop", "drop_interval_decision", "worse", "better",
    "p_pooled", "p_joint", "p_adjusted", "p_noninferior", "margin", "margin_unit",
)  # fmt: skip
"""Of a comparison, in decision.json."""


class Status(StrEnum):
    """What a case, or the release, came to."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    BLOCKED = "blocked"
    """Damage was found."""

    INSUFFICIENT = "insufficient"
    """Not enough was measured or shown: the release does not pass, and no damage is proven."""

    WATCHED = "watched"


EXIT_STATUS = {Status.PASS: 0, Status.BLOCKED: 1, Status.INSUFFICIENT: 3}


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
    status: Status
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

    status: Status
    alpha: float
    family: int
    baseline: str
    cases: tuple[Case, ...]
    reasons: tuple[Reason, ...]

    @property
    def exit_status(self) -> int:
        """0 pass, 1 blocked, 3 not enough evidence."""
        return EXIT_STATUS[self.status]


def decision_entry(decision: Decision) -> dict[str, Any]:
    """The content of decision.json."""
    return {
        "decision": decision.status.value,
        "exit_status": decision.exit_status,
        "alpha": decision.alpha,
        "family": decision.family,
        "baseline": decision.baseline,
        "reasons": [reason._asdict() for reason in decision.reasons],
        "cases": [_case_entry(case) for case in decision.cases],
    }


def _case_entry(case: Case) -> dict[str, Any]:
    demand = case.demand
    found = case.comparison
    return {
        "variant": case.variant,
        "temperature": case.temperature,
        "task": demand.task,
        "status": case.status.value,
        "reasons": [reason._asdict() for reason in case.reasons],
        "rule": demand.rule,
        "require": demand.require,
        "alpha": demand.alpha,
        "min_items": demand.min_items,
        "max_missing": demand.max_missing,
        "missing_share": list(case.missing_share),
        **{name: None if found is None else _plain(getattr(found, name)) for name in FIELDS},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
