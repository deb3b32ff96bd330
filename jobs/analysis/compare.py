"""Pairs a baseline with every variant and hands the pairs to the statistics.

One comparison per (variant, temperature), each against the baseline at the same temperature, and one
adjustment over all comparisons of an invocation: whoever looks at more of them must not find more false
alarms. What cannot be paired is said, counted and bounded, and where nothing can be paired there is no
verdict but an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from jobs.analysis.pairing import Pair, Pairing, pair_up
from jobs.inputs.score_set import ScoreBook, TaskTable, Temperature, some
from orchestrator.errors import UserError
from stats.arrays import EvidenceError
from stats.comparison import Settings, TaskScores, adjustment_for, compare_variants
from stats.results import Comparison

FEW_ITEMS = 30
LEAST_COMMON = 0.5
UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class Request:
    """What to compare and how.

    Attributes:
        settings: level, margin, tests and adjustment.
        baseline: name of the baseline; None for the one the input names, else the first model.
        temperature: compare at this one only; None for all.
        cluster: "none" for independent items, "task" for whole tasks, None for the input's clusters.
        strict: refuse what would otherwise be a warning about the pairing.
        least_common: smallest share of common items that is still compared.
    """

    settings: Settings
    baseline: str | None = None
    temperature: Temperature = None
    cluster: str | None = None
    strict: bool = False
    least_common: float = LEAST_COMMON


@dataclass(frozen=True)
class VariantResult:
    """The verdict on one variant at one temperature.

    Attributes:
        variant: its name.
        temperature: sampling temperature, None if unknown.
        comparison: all numbers, per task and in total.
        pairs: the scores behind them, one per task.
    """

    variant: str
    temperature: Temperature
    comparison: Comparison
    pairs: tuple[Pair, ...] = field(repr=False)


@dataclass(frozen=True)
class Analysis:
    """What an invocation found.

    Attributes:
        baseline: name of the baseline.
        settings: level, margin, tests, and the adjustment that was made.
        warnings: sentences that a reader of the verdicts must know.
        results: one per variant and temperature.
        incomplete: whether samples that were asked for are not there, or a variant could not be compared.
    """

    baseline: str
    settings: Settings
    warnings: tuple[str, ...]
    results: tuple[VariantResult, ...]
    incomplete: bool


def analyze_scores(book: ScoreBook, request: Request) -> Analysis:
    """Compare every variant of a score book with the baseline.

    Args:
        book: the scores.
        request: what to compare and how.

    Raises:
        UserError: if the baseline is unknown, nothing pairs, or too little pairs.
    """
    baseline = choose_baseline(book, request.baseline)
    pairings = [
        pair_up(book, baseline, variant, temperature, request.cluster)
        for variant in book.models
        if variant != baseline
        for temperature in _temperatures(book, variant, request.temperature)
    ]
    usable = [pairing for pairing in pairings if pairing.pairs]
    _refuse_no_evidence(baseline, pairings, usable)
    for pairing in usable:
        _refuse_thin_or_mixed(pairing, request)
    tasks = {str(i): [pair.scores for pair in pairing.pairs] for i, pairing in enumerate(usable)}
    found = _compare(tasks, request.settings)
    results = tuple(_result(pairing, comparison) for pairing, comparison in zip(usable, found, strict=True))
    incomplete = any(pairing.owed or not pairing.pairs for pairing in pairings)
    settings = replace(request.settings, adjust=adjustment_for(tasks, request.settings.adjust))
    return Analysis(baseline, settings, _warnings(book, pairings), results, incomplete)


def choose_baseline(book: ScoreBook, asked: str | None) -> str:
    """The baseline: the one asked for, else the one the input names, else the first model.

    Raises:
        UserError: if there is no such model, the input names several, or there is nothing to compare with.
    """
    if asked is None and len(book.baselines) > 1:
        raise UserError(
            f"The runs name different baselines ({some(book.baselines)}): choose with --baseline."
        )
    name = asked or (*book.baselines, *book.models)[0]
    if name not in book.models:
        raise UserError(f"There is no model {name!r} to be the baseline; there are {some(book.models, 20)}.")
    if len(book.models) < 2:
        raise UserError(f"There is only one model, {name}: a comparison needs a baseline and a variant.")
    return name


def _warnings(book: ScoreBook, pairings: Sequence[Pairing]) -> tuple[str, ...]:
    """What a reader must know, each thing once."""
    scales = [sentence for table in book.tasks for sentence in _scale_warning(table)]
    paired = [text for pairing in pairings for text in pairing.warnings]
    return tuple(dict.fromkeys((*book.warnings, *scales, *paired, *_few_items(pairings))))


def _few_items(pairings: Sequence[Pairing]) -> list[str]:
    """One sentence per number of items, for whatever variants have so few."""
    few: dict[int, list[str]] = {}
    for pairing in pairings:
        if 0 < pairing.common < FEW_ITEMS:
            few.setdefault(pairing.common, []).append(pairing.label)
    return [
        f"{some(labels)}: only {common} items pair; only a drastic drop could show."
        for common, labels in few.items()
    ]


def _scale_warning(table: TaskTable) -> list[str]:
    name = f"Scores of {table.info.name} ({table.info.metric})"
    if table.bounds is None:
        return [f"{name} have no range we know: drop and margin are in their own unit, not in shares."]
    low, high = table.bounds
    return [] if table.bounds == UNIT else [f"{name} are taken to range from {low:g} to {high:g}."]


def _temperatures(book: ScoreBook, variant: str, asked: Temperature) -> Sequence[Temperature]:
    found = book.temperatures(variant)
    return found if asked is None else [t for t in found if t == asked]


def _refuse_no_evidence(baseline: str, pairings: Sequence[Pairing], usable: Sequence[Pairing]) -> None:
    if not pairings:
        raise UserError("No variant has answers at that temperature, so there is no verdict.")
    if not usable:
        said = " ".join(dict.fromkeys(text for pairing in pairings for text in pairing.warnings))
        raise UserError(
            f"No item was answered by both {baseline} and a variant, so there is no verdict. {said}".strip()
        )


def _refuse_thin_or_mixed(pairing: Pairing, request: Request) -> None:
    if pairing.common_share < request.least_common:
        raise UserError(
            f"{pairing.label} shares only {pairing.common_share:.0%} of its items with the baseline, under "
            f"{request.least_common:.0%}: complete it, or accept that with --min-common."
        )
    if request.strict and pairing.mixed_prompts:
        raise UserError(f"{pairing.mixed_prompts[0]} --strict refuses to compare them.")


def _compare(tasks: Mapping[str, Sequence[TaskScores]], settings: Settings) -> list[Comparison]:
    try:
        return list(compare_variants(tasks, settings).values())
    except EvidenceError as error:
        raise UserError(str(error)) from error


def _result(pairing: Pairing, comparison: Comparison) -> VariantResult:
    parts = zip(comparison.tasks, pairing.pairs, strict=True)
    tasks = tuple(_with_missing(task, pair.missing, [pair]) for task, pair in parts)
    total = replace(_with_missing(comparison, pairing.missing, pairing.pairs), tasks=tasks)
    return VariantResult(pairing.variant, pairing.temperature, total, tuple(pairing.pairs))


def _with_missing(comparison: Comparison, missing: int, pairs: Sequence[Pair]) -> Comparison:
    """State the missing items, and bound the drop by each of them being the variant's loss, or its gain."""
    if not missing or any(pair.scores.bounds is None for pair in pairs):
        return replace(comparison, missing=missing)
    share = missing / (comparison.items + missing)
    low, high = (comparison.drop * (1 - share) + sign * share for sign in (-1, 1))
    bound = (
        f"{missing:,} items are missing; whatever their answers, the drop on all items would lie between "
        f"{100 * low:.2f} and {100 * high:.2f} points."
    )
    return replace(comparison, missing=missing, reasons=(*comparison.reasons, bound))
