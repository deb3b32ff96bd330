"""From what was measured on one variant to what it means: verdict and reasons at adjusted levels.

A comparison whose adjusted p-values are not known yet is a `Measured`, never a `Comparison` without a
verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stats.certificate import Certificate, certificate_of
from stats.drop.evidence import clustered
from stats.planning import detectable_drop, items_to_decide
from stats.results import Comparison, Settings
from stats.scores import MissingAnswers, TaskScores
from stats.sharing import merged_blocks
from stats.tasks.combinations import COMBINATIONS, Combine, parts_of
from stats.tasks.combine import Combined, combine_scores
from stats.verdict import Decider, Evidence, Reason, Verdict, decide, explain


@dataclass(frozen=True)
class Measured:
    """Everything that does not depend on other comparisons.

    Attributes:
        tasks: the pairs.
        absent: planned tasks on which nothing pairs.
        combined: p-values of "not worse".
        certificate: size of the drop.
        blocks: items or clusters whose signs are flipped.
        squares: sum of their squared differences.
    """

    tasks: Sequence[TaskScores]
    absent: Sequence[MissingAnswers]
    combined: Combined
    certificate: Certificate
    blocks: int
    squares: float

    def p(self, combine: Combine) -> float:
        """The unadjusted p-value that the named combination decides by."""
        return self.combined.p[combine]

    @property
    def items(self) -> int:
        """Pairs."""
        return sum(task.differences.size for task in self.tasks)

    @property
    def clustered(self) -> bool:
        """Whether the blocks are clusters."""
        return clustered(self.tasks)


@dataclass(frozen=True)
class Levels:
    """What adjustment made of a comparison's p-values.

    Attributes:
        p: of "not worse".
        p_noninferior: of "worse by the margin".
        share: part of α that the pooled test has in any case, independent of the other tests.
    """

    p: float
    p_noninferior: float
    share: float


def measure(tasks: Sequence[TaskScores], absent: Sequence[MissingAnswers], settings: Settings) -> Measured:
    """All numbers of one variant over the given tasks together."""
    combined = combine_scores(tasks, settings.draws, settings.seed)
    certificate = certificate_of(tasks, absent, settings, combined.pooled.p)
    sums = merged_blocks(tasks)[0]
    return Measured(tasks, absent, combined, certificate, sums.size, float(sums @ sums))


def conclude(
    found: Measured,
    levels: Levels,
    settings: Settings,
    *,
    parts: tuple[Comparison, ...] = (),
    notes: Sequence[Reason] = (),
    task: str | None = None,
) -> Comparison:
    """Add verdict and reasons.

    Args:
        found: the numbers.
        levels: the adjusted p-values.
        settings: level, margin and choice of tests.
        parts: the concluded comparisons of the tasks.
        notes: further reasons, last.
        task: name, if this is the comparison on one task.
    """
    verdict = decide(levels.p, levels.p_noninferior, settings.alpha)
    decided_by, deciding_task = _decider(verdict, found, parts, settings)
    mde = detectable_drop(
        found.items, found.blocks, found.squares / found.items, settings.alpha * levels.share, settings.power
    )
    needed = _items_needed(found, levels, settings) if verdict is Verdict.INCONCLUSIVE else None
    evidence = _evidence(found, levels, settings, task=deciding_task, mde=mde, needed=needed)
    reasons = (*explain(evidence, settings.alpha), *notes)
    return Comparison(
        **sizes(found),
        **p_values(found),
        p_adjusted=levels.p,
        p_noninferior_adjusted=levels.p_noninferior,
        mde=mde,
        items_needed=needed,
        verdict=verdict,
        decided_by=decided_by,
        deciding_task=deciding_task,
        reasons=tuple(reason.text for reason in reasons),
        reason_codes=tuple(reason.code.value for reason in reasons),
        task=task,
        tasks=parts,
    )


def sizes(found: Measured) -> dict[str, Any]:
    """The fields of a comparison that count and measure."""
    tasks, items, certificate = found.tasks, found.items, found.certificate
    worse, better = sum(part.worse for part in tasks), sum(part.better for part in tasks)
    return {
        "items": items,
        "missing": sum(part.missing for part in tasks) + sum(lacking.items for lacking in found.absent),
        "missing_answers": _totals([lacking.missing for lacking in certificate.lacking]),
        "failed_answers": _totals([lacking.failed for lacking in certificate.lacking]),
        "clusters": found.blocks if found.clustered else None,
        "reruns": (min(part.reruns[0] for part in tasks), min(part.reruns[1] for part in tasks)),
        "baseline_score": sum(float(part.share(part.baseline).sum()) for part in tasks) / items,
        "variant_score": sum(float(part.share(part.variant).sum()) for part in tasks) / items,
        "drop": _drop(tasks),
        "drop_macro": float(np.mean([part.differences.mean() for part in tasks])),
        "drop_interval": (certificate.interval.low, certificate.interval.high),
        "drop_interval_decision": (certificate.decision.low, certificate.decision.high),
        "drop_bounds": certificate.drop_bounds,
        "margin": certificate.margin,
        "margin_unit": certificate.unit,
        "worse": worse,
        "better": better,
        "flip_rate": (worse + better) / items,
    }


def p_values(found: Measured) -> dict[str, Any]:
    """The unadjusted p-values, and how they were found."""
    combined, certificate = found.combined, found.certificate
    return {
        **{combination.field: combined.p[combination.name] for combination in COMBINATIONS},
        "p_pooled_bounds": certificate.p_pooled_bounds,
        "log_p_pooled": combined.pooled.log_p,
        "p_fisher_chi2": combined.p_fisher_chi2,
        "method": combined.method,
        "standard_error": combined.pooled.standard_error,
        "smallest_p": combined.pooled.smallest_p,
        "p_noninferior": certificate.p,
        "p_noninferior_paired": certificate.p_paired,
    }


def _drop(tasks: Sequence[TaskScores]) -> float:
    return sum(float(task.differences.sum()) for task in tasks) / sum(task.differences.size for task in tasks)


def _totals(counts: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(pair[0] for pair in counts), sum(pair[1] for pair in counts)


def _decider(
    verdict: Verdict, found: Measured, parts: Sequence[Comparison], settings: Settings
) -> tuple[Decider | None, str | None]:
    """The statistic behind the verdict, and the task where one task's drop made the difference."""
    if verdict is not Verdict.DEGRADED:
        return ("noninferiority" if verdict is Verdict.CERTIFIED else None), None
    p = found.combined.p
    if p["pooled"] <= settings.alpha:
        return "pooled", None
    by = min(parts_of(settings.combine), key=p.__getitem__)
    worst = min(parts, key=lambda part: part.log_p_pooled).task if by == "max-drop" and parts else None
    return by, worst


def _items_needed(found: Measured, levels: Levels, settings: Settings) -> int | None:
    """By the rules that decide, each at the level that adjustment leaves it."""
    p, certificate = found.p(settings.combine), found.certificate
    alphas = (
        settings.alpha * min(1.0, p / levels.p),
        settings.alpha * min(1.0, certificate.p / levels.p_noninferior),
    )
    return items_to_decide(
        found.items, p, certificate.evidence, certificate.margin, levels=alphas, power=settings.power
    )


def _evidence(
    found: Measured, levels: Levels, settings: Settings, *, task: str | None, mde: float, needed: int | None
) -> Evidence:
    certificate = found.certificate
    return Evidence(
        drop=_drop(found.tasks),
        p=levels.p,
        p_unadjusted=found.p(settings.combine),
        p_noninferior=certificate.p,
        p_noninferior_paired=certificate.p_paired,
        p_noninferior_adjusted=levels.p_noninferior,
        margin=certificate.margin,
        shares=certificate.unit == "share",
        gaps=sum(sum(lacking.missing) + sum(lacking.failed) for lacking in certificate.lacking),
        gaps_dropped=settings.missing == "drop",
        drop_bounds=certificate.drop_bounds,
        p_best=certificate.p_pooled_bounds[0],
        deciding_task=task,
        smallest_p=found.combined.pooled.smallest_p,
        blocks=found.blocks,
        clustered=found.clustered,
        items=found.items,
        mde=mde,
        items_needed=needed,
    )
