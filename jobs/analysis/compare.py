"""Pairs a baseline with every variant and hands the pairs to the statistics.

One comparison per (variant, temperature), each against the baseline at the same temperature, and one
adjustment over all comparisons of an invocation, so that more comparisons do not mean more false alarms.
Items that cannot be paired are reported, counted and bounded; if nothing can be paired, the result is an
error, not a verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jobs.analysis.pair_up import pair_up
from jobs.analysis.pairing import Pair, Pairing
from jobs.formats.notices import Notice, NoticeCode, joined, once, some
from jobs.formats.samples import PairBy, Temperature, temperatures_text
from jobs.scores.score_set import ScoreSet
from orchestrator.errors import UserError
from stats.arrays import EvidenceError
from stats.comparison import adjustment_for, compare_variants
from stats.results import Comparison, Settings
from stats.scores import MissingAnswers
from stats.sequential.monitor import Course
from stats.sequential.plan import SequentialPlan

FEW_ITEMS = 30
LEAST_COMMON = 0.5
INCOMPLETE = {
    NoticeCode.CUT_SHORT,
    NoticeCode.UNREADABLE_FILES,
    NoticeCode.MISSING_VARIANT,
    NoticeCode.LEFT_OUT,
}
"""Warnings about the input that keep a gate from passing: something that was evaluated was not compared."""
STRICTLY_REFUSED = {NoticeCode.MIXED_PROMPTS, NoticeCode.MIXED_SOFTWARE, NoticeCode.MIXED_HARDWARE}
"""Warnings about a pairing for which --strict refuses it: more than the models differs."""


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
        gaps: what is missing or failed, by task, those without a pair included.
        withheld: of the failed answers, those that the provider withheld, (baseline, variant).
        course: the looks that decided, in a run that stops early.
        looks_planned: how many looks such a run has.
    """

    variant: str
    temperature: Temperature
    comparison: Comparison
    pairs: tuple[Pair, ...] = field(repr=False)
    gaps: tuple[MissingAnswers, ...] = field(default=(), repr=False)
    withheld: tuple[int, int] = (0, 0)
    course: Course | None = field(default=None, repr=False)
    looks_planned: int | None = None


@dataclass(frozen=True)
class Analysis:
    """What an invocation found.

    Attributes:
        baseline: name of the baseline.
        settings: level, margin, tests, and the adjustment that was made.
        warnings: what a reader of the verdicts must know.
        results: one per variant and temperature.
        incomplete: whether samples that were asked for are not there, or a variant could not be compared.
        gaps: whether anything is missing or failed that one of two models should have answered.
        paired_by: what tells that the items of two models are the same.
        plan: of the looks, in a run that stops early.
        finished: whether such a run asked for the samples that its decisions had left out, too.
        samples_digest: of the scores it was found from.
    """

    baseline: str
    settings: Settings
    warnings: tuple[Notice, ...]
    results: tuple[VariantResult, ...]
    incomplete: bool
    gaps: bool = False
    paired_by: PairBy = "id"
    plan: SequentialPlan | None = field(default=None, repr=False)
    finished: bool = False
    samples_digest: str | None = None


def analyze_scores(book: ScoreSet, request: Request) -> Analysis:
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
    usable = usable_pairings(book, baseline, pairings, request)
    results, settings = _compare(usable, request.settings)
    missing = missing_temperatures(book, baseline, request.temperature)
    return Analysis(
        baseline,
        settings,
        _warnings(book, pairings, missing),
        results,
        incomplete=any(pairing.owed or not pairing.pairs for pairing in pairings),
        paired_by=book.paired_by or "id",
        gaps=bool(missing) or cut_short(book) or any(pairing.has_gaps for pairing in pairings),
    )


def usable_pairings(
    book: ScoreSet, baseline: str, pairings: Sequence[Pairing], request: Request
) -> list[Pairing]:
    """The pairings with something to compare.

    Raises:
        UserError: if nothing pairs, too little does, or a strict request finds what it refuses.
    """
    usable = [pairing for pairing in pairings if pairing.pairs]
    _refuse_no_evidence(book, baseline, pairings, usable)
    for pairing in usable:
        _refuse_thin_or_mixed(pairing, request)
    return usable


def choose_baseline(book: ScoreSet, asked: str | None) -> str:
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
        raise UserError(
            f"There is no model {name!r} to use as the baseline; the models are {some(book.models, 20)}."
        )
    if len(book.models) < 2:
        raise UserError(f"There is only one model, {name}: a comparison needs a baseline and a variant.")
    return name


def _warnings(book: ScoreSet, pairings: Sequence[Pairing], missing: Sequence[Notice]) -> tuple[Notice, ...]:
    """All warnings, each one once."""
    paired = [notice for pairing in pairings for notice in pairing.warnings]
    return once((*book.warnings, *missing, *paired, *_few_items(pairings)))


def missing_temperatures(book: ScoreSet, baseline: str, asked: Temperature) -> list[Notice]:
    """Temperatures at which the baseline has answers and a variant was never asked."""
    wanted = _temperatures(book, baseline, asked)
    found = []
    for variant in (model for model in book.models if model != baseline):
        lacking = [t for t in wanted if t not in book.temperatures(variant)]
        if lacking:
            at = temperatures_text(lacking)
            said = f"{variant} has no answers at {at}, where {baseline} has some."
            found.append(Notice(NoticeCode.MISSING_TEMPERATURE, said))
    return found


def cut_short(book: ScoreSet) -> bool:
    """Whether the input says that something which was evaluated cannot be compared."""
    return any(notice.code in INCOMPLETE for notice in book.warnings)


def _few_items(pairings: Sequence[Pairing]) -> list[Notice]:
    """One sentence per number of items, naming the variants that have so few."""
    few: dict[int, list[str]] = {}
    for pairing in pairings:
        if 0 < pairing.common < FEW_ITEMS:
            few.setdefault(pairing.common, []).append(pairing.label)
    return [
        Notice(
            NoticeCode.FEW_ITEMS,
            f"{some(labels)}: only {common} items can be paired, too few to detect any but a drastic drop.",
        )
        for common, labels in few.items()
    ]


def _temperatures(book: ScoreSet, variant: str, asked: Temperature) -> Sequence[Temperature]:
    found = book.temperatures(variant)
    return found if asked is None else [t for t in found if t == asked]


def _refuse_no_evidence(
    book: ScoreSet, baseline: str, pairings: Sequence[Pairing], usable: Sequence[Pairing]
) -> None:
    if not pairings:
        raise UserError("No variant has answers at that temperature: there is nothing to compare.")
    if not usable:
        said = joined(once(notice for pairing in pairings for notice in pairing.warnings))
        raise UserError(
            f"No item was answered by both {baseline} and a variant, so there is no verdict. {said}"
            f"{_prompt_hint(book)}".strip()
        )


def _prompt_hint(book: ScoreSet) -> str:
    """The option that may help where other tools' items have prompts and do not pair by identifier."""
    has_prompts = any(
        (column.prompts != -1).any() for table in book.tasks for column in table.columns.values()
    )
    if book.runs or book.paired_by == "prompt" or not has_prompts:
        return ""
    return " If the same questions have other identifiers, --pair-by prompt pairs them by their text."


def _refuse_thin_or_mixed(pairing: Pairing, request: Request) -> None:
    if pairing.common_share < request.least_common:
        raise UserError(
            f"{pairing.label} shares only {pairing.common_share:.0%} of its items with the baseline, below "
            f"the required {request.least_common:.0%}: complete it, or lower --min-common."
        )
    for notice in pairing.warnings if request.strict else ():
        if notice.code in STRICTLY_REFUSED:
            raise UserError(f"{notice.text} --strict refuses to compare them.")


def _compare(pairings: Sequence[Pairing], settings: Settings) -> tuple[tuple[VariantResult, ...], Settings]:
    """The comparison of every pairing, and the settings with the adjustment that was made."""
    tasks = {str(i): [pair.scores for pair in pairing.pairs] for i, pairing in enumerate(pairings)}
    absent = {str(i): pairing.absent for i, pairing in enumerate(pairings) if pairing.absent}
    try:
        found = compare_variants(tasks, settings, absent=absent).values()
    except EvidenceError as error:
        raise UserError(str(error)) from error
    results = tuple(
        VariantResult(p.variant, p.temperature, comparison, tuple(p.pairs), tuple(p.gaps), p.all_withheld)
        for p, comparison in zip(pairings, found, strict=True)
    )
    return results, replace(settings, adjust=adjustment_for(tasks, settings.adjust))
