"""Pairs a baseline with every variant and hands the pairs to the statistics.

One comparison per (variant, temperature), each against the baseline at the same temperature, and one
adjustment over all comparisons of an invocation, so that more comparisons do not mean more false alarms.
Items that cannot be paired are reported, counted and bounded; if nothing can be paired, the result is an
error, not a verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from jobs.analysis.pairing import Pairing, pair_up
from jobs.analysis.policy import Decision
from jobs.analysis.request import AnalyzeRequest
from jobs.formats.notices import Notice, NoticeCode, joined, once, some
from jobs.formats.samples import Temperature, temperatures_text
from jobs.scores.score_set import ScoreSet
from orchestrator.errors import UserError, counted
from stats.arrays import EvidenceError
from stats.change import Change, ChangeVerdict
from stats.comparison import adjustment_for, compare_variants
from stats.results import Comparison, Settings
from stats.sequential.monitor import Course
from stats.sequential.plan import SequentialPlan
from stats.verdict import Verdict

GateName: TypeAlias = Literal["degraded", "certified", "changed"]
"""What passes a gate: what is not degraded, what is certified, or what is neither degraded nor changed."""

Judged: TypeAlias = tuple[str, Temperature, str | None]
"""Variant, temperature and task of what a policy judges; None for all judged tasks together."""

DEGRADED, UNDECIDED = 1, 3  # exit statuses

FEW_ITEMS = 30
# Warnings about the input that keep a gate from passing: something that was evaluated was not compared
INCOMPLETE = {
    NoticeCode.CUT_SHORT,
    NoticeCode.UNREADABLE_FILES,
    NoticeCode.MISSING_VARIANT,
    NoticeCode.LEFT_OUT,
}
# Warnings about a pairing for which --strict refuses it: more than the models differs
STRICTLY_REFUSED = {
    NoticeCode.MIXED_PROMPTS,
    NoticeCode.PROMPT_TOKENS_DIFFER,
    NoticeCode.MIXED_SOFTWARE,
    NoticeCode.MIXED_HARDWARE,
}
# Warnings that the looks of a run may not be those of its plan, so that their levels may not hold
UNSOUND = {NoticeCode.LOOKS_REDRAWN, NoticeCode.LOOKS_DIFFER, NoticeCode.LOOKS_MISSING}


@dataclass(frozen=True, kw_only=True)
class VariantResult(Pairing):
    """A pairing with the verdict on its variant."""

    comparison: Comparison  # all numbers, per task and in total
    course: Course | None = field(
        default=None, repr=False
    )  # the looks that decided, in a run that stops early
    looks_planned: int | None = None  # how many looks such a run has
    changes: tuple[Change, ...] = field(default=(), repr=False)  # of measurements; no part of the verdict
    calls: dict[str, Any] | None = field(default=None, repr=False)  # of tools: see `compare_calls`
    speed_note: str | None = None  # why its speed is not among them


@dataclass(frozen=True)
class Analysis:
    """What an invocation found."""

    baseline: str
    settings: Settings  # level, margin, tests, and the adjustment that was made
    warnings: tuple[Notice, ...]  # what a reader of the verdicts must know
    results: tuple[VariantResult, ...]  # one per variant and temperature
    scores: ScoreSet = field(
        repr=False
    )  # what it was found from; of a run that stops early, those that count
    incomplete: bool  # samples that were asked for are not there, or a variant could not be compared
    gaps: bool = False  # anything is missing or failed that one of two models should have answered
    plan: SequentialPlan | None = field(default=None, repr=False)  # of the looks, in a run that stops early
    # What the policy of such a run is judged by: pairs that count, and what the looks found, if any pair
    duties: Mapping[Judged, tuple[Pairing, Comparison | None]] = field(default_factory=dict, repr=False)
    finished: bool = False  # such a run asked for the samples that its decisions had left out, too
    samples_digest: str | None = None
    decision: Decision | None = None  # of the policy, if there is one

    def level_of(self, result: Pairing) -> float:
        """The level of a verdict; where looks decide by a policy, that of its rule about all tasks."""
        place = result.variant, result.temperature, None
        return self.settings.alpha if self.plan is None else self.plan.of(place).alpha

    def unsound(self, gate: GateName) -> Notice | None:
        """What forbids to rely on the looks of a run, or, for more than an alarm, on its prompts."""
        codes = UNSOUND if gate == "degraded" else UNSOUND | {NoticeCode.PROMPT_TOKENS_DIFFER}
        return next((notice for notice in self.warnings if notice.code in codes), None)

    @property
    def lacks_answers(self) -> bool:
        """Whether answers are missing or failed, unless the user has said to go by what is there."""
        return self.gaps and self.settings.missing == "worst"

    @property
    def changed(self) -> list[tuple[VariantResult, Change]]:
        """The measurements that changed."""
        pairs = [(result, change) for result in self.results for change in result.changes]
        return [pair for pair in pairs if pair[1].verdict is ChangeVerdict.CHANGED]

    @property
    def unmeasured(self) -> list[str]:
        """The comparisons of which nothing beside the scores was tested."""
        return [one.label for one in self.results if all(math.isnan(change.p) for change in one.changes)]

    def exit_status(self, gate: GateName) -> int:
        """The policy's, else that of proven damage or change, else of anything that prevents an all-clear."""
        if self.decision is not None:
            return self.decision.exit_status
        verdicts = {result.comparison.verdict for result in self.results}
        if Verdict.DEGRADED in verdicts or (gate == "changed" and self.changed):
            return DEGRADED
        if self.incomplete or self.unsound(gate) or (gate == "changed" and self.unmeasured):
            return UNDECIDED
        if gate == "certified" and (verdicts != {Verdict.CERTIFIED} or self.lacks_answers):
            return UNDECIDED
        return 0

    def explain_status(self, gate: GateName) -> str | None:
        """Why verdicts without damage do not exit with 0; None if they do, or say it themselves."""
        verdicts = {result.comparison.verdict for result in self.results}
        if self.decision is not None or Verdict.DEGRADED in verdicts or self.exit_status(gate) == 0:
            return None
        why = None
        if gate == "changed" and self.changed:
            named = some([f"{change.measurement} of {result.label}" for result, change in self.changed])
            why = f"Exit status 1: nothing is degraded, but something changed ({named})."
        elif (notice := self.unsound(gate)) is not None:
            why = f"Exit status 3, whatever the verdicts: {notice.text}"
        elif gate == "changed" and self.unmeasured:
            why = f"Exit status 3: nothing beside the scores was tested of {some(self.unmeasured)}."
        if why is not None or gate != "certified" or verdicts != {Verdict.CERTIFIED}:
            return why
        if any(notice.code == NoticeCode.NOT_COMPARED for notice in self.warnings):
            return "Exit status 3: not every variant could be compared (see the warnings)."
        said = "Exit status 3 although every variant is certified:"
        if self.incomplete:
            return f"{said} the run is incomplete. Submit it again to finish it."
        then = ". Submit the sweep again, or use only the available answers with --missing drop."
        if self.plan is not None:
            then = ", and a run that stops early does not run them again."
        return f"{said} answers are missing or failed (see the warnings){then}"


def analyze_scores(scores: ScoreSet, request: AnalyzeRequest) -> Analysis:
    """Compare every variant with the baseline.

    Raises UserError if the baseline is unknown, nothing pairs, or too little pairs.
    """
    baseline, settings = choose_baseline(scores, request.baseline), request.settings(scores)
    pairings = [
        pair_up(scores, baseline, variant, temperature, request.cluster)
        for variant in scores.models
        if variant != baseline
        for temperature in _temperatures(scores, variant, request.temperature)
    ]
    usable = usable_pairings(scores, baseline, pairings, request)
    tasks = {str(number): pairing.scores for number, pairing in enumerate(usable)}
    absent = {str(number): pairing.absent for number, pairing in enumerate(usable)}
    try:
        comparisons = compare_variants(tasks, settings, absent=absent).values()
    except EvidenceError as error:
        raise UserError(str(error)) from error
    missing = missing_temperatures(scores, baseline, request.temperature)
    notices = [notice for pairing in pairings for notice in pairing.warnings]
    few: dict[int, list[str]] = {}
    for pairing in pairings:
        if 0 < pairing.common < FEW_ITEMS:
            few.setdefault(pairing.common, []).append(pairing.label)
    for common, labels in few.items():
        said = f"only {counted(common, 'item')} can be paired, too few to detect any but a drastic drop."
        notices.append(Notice(NoticeCode.FEW_ITEMS, f"{some(labels)}: {said}"))
    results = (
        VariantResult(**vars(pairing), comparison=comparison)
        for pairing, comparison in zip(usable, comparisons, strict=True)
    )
    unscored = any(notice.code is NoticeCode.OWED_ANSWERS for notice in scores.warnings)
    return Analysis(
        baseline,
        replace(settings, adjust=adjustment_for(tasks, settings.adjust)),
        once((*scores.warnings, *missing, *notices)),
        tuple(results),
        scores,
        incomplete=unscored or any(pairing.owed or not pairing.pairs for pairing in pairings),
        gaps=has_gaps(scores, pairings, missing),
    )


def has_gaps(scores: ScoreSet, pairings: Sequence[Pairing], missing: Sequence[Notice]) -> bool:
    """Whether anything is missing or failed, or cannot be compared, that was evaluated."""
    if missing or any(notice.code in INCOMPLETE for notice in scores.warnings):
        return True
    uneven = any(task.is_uneven for pairing in pairings for task in pairing.tasks)
    return uneven or any(pairing.gaps or not pairing.pairs for pairing in pairings)


def usable_pairings(
    scores: ScoreSet, baseline: str, pairings: Sequence[Pairing], request: AnalyzeRequest
) -> list[Pairing]:
    """The pairings with something to compare.

    Raises UserError if nothing pairs, too little does, or a strict request finds what it refuses.
    """
    if not pairings:
        raise UserError("No variant has answers at that temperature: there is nothing to compare.")
    usable = [pairing for pairing in pairings if pairing.pairs]
    if not usable:
        said = joined(once(notice for pairing in pairings for notice in pairing.warnings))
        columns = [column for table in scores.tasks for column in table.columns.values()]
        if not scores.runs and scores.paired_by != "prompt" and any((c.prompts != -1).any() for c in columns):
            said += (
                " If the same questions have other identifiers, --pair-by prompt pairs them by their text."
            )
        raise UserError(
            f"No item was answered by both {baseline} and a variant, so there is no verdict. {said}".strip()
        )
    least = 0.0 if request.policy is not None else request.min_common  # a policy has a limit of its own
    for pairing in usable:
        if pairing.common_share < least:
            raise UserError(
                f"{pairing.label} shares only {pairing.common_share:.0%} of its items with the baseline, "
                f"below the required {least:.0%}: complete it, or lower --min-common."
            )
        for notice in pairing.warnings if request.strict else ():
            if notice.code in STRICTLY_REFUSED:
                raise UserError(f"{notice.text} --strict refuses to compare them.")
    return usable


def choose_baseline(scores: ScoreSet, asked: str | None) -> str:
    """The baseline: the one asked for, else the one the input names, else the first model.

    Raises UserError if there is no such model, the input names several, or there is nothing to compare with.
    """
    if asked is None and len(scores.baselines) > 1:
        raise UserError(
            f"The runs name different baselines ({some(scores.baselines)}): choose with --baseline."
        )
    name = asked or (*scores.baselines, *scores.models)[0]
    if name not in scores.models:
        raise UserError(
            f"There is no model {name!r} to use as the baseline; the models are {some(scores.models, 20)}."
        )
    if len(scores.models) < 2:
        raise UserError(f"There is only one model, {name}: a comparison needs a baseline and a variant.")
    return name


def missing_temperatures(scores: ScoreSet, baseline: str, asked: Temperature) -> list[Notice]:
    """Temperatures at which the baseline has answers and a variant was never asked."""
    wanted, notices = _temperatures(scores, baseline, asked), []
    for variant in (model for model in scores.models if model != baseline):
        lacking = [t for t in wanted if t not in scores.temperatures(variant)]
        if lacking:
            at = temperatures_text(lacking)
            said = f"{variant} has no answers at {at}, where {baseline} has some."
            notices.append(Notice(NoticeCode.MISSING_TEMPERATURE, said))
    return notices


def _temperatures(scores: ScoreSet, variant: str, asked: Temperature) -> Sequence[Temperature]:
    return [t for t in scores.temperatures(variant) if asked in {None, t}]
