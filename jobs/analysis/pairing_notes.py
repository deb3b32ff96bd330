"""Sentences about what does not pair, one per fact however many tasks it concerns."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.analysis.pairing import Pairing
from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.samples import PairBy, temperatures_text
from jobs.scores.across_tools.pair_keys import repeats_a_prompt
from jobs.scores.score_set import Column, ScoreSet

FULL_SHARE = 0.95
"""Least share of items that pair if two tools have asked the same questions, but for failed answers."""

Counts = Sequence[tuple[str, int]]
"""Numbers by task."""

LEAST_SHARE = 0.01
"""Share of a model's answers that makes a warning if the limit of tokens ended them, or they are empty: fewer
change the score by less than one point, the default margin."""


def note_prompts(
    pairing: Pairing, task: str, sides: tuple[Column, Column], common: NDArray[np.bool_]
) -> None:
    """Say how many common items of a task were asked with different prompts."""
    first, second = sides
    known = common & (first.prompts != -1) & (second.prompts != -1)
    different = int((first.prompts != second.prompts)[known].sum())
    if different:
        sentence = (
            f"{pairing.label}: {different} of {int(common.sum())} items of {task} had a different prompt "
            "than in the baseline, so the comparison does not isolate the models."
        )
        pairing.warn(NoticeCode.MIXED_PROMPTS, sentence)


def note_repeats(pairing: Pairing, repeated: Mapping[str, Counts]) -> None:
    """Say which model has answers more than once.

    Args:
        pairing: what it concerns.
        repeated: surplus answers by task, by model.
    """
    for who, counts in repeated.items():
        if said := _listed(counts):
            pairing.warn(
                NoticeCode.REPEATED_ANSWERS,
                f"{who} has duplicate samples ({said}); only the first of each counts.",
            )


def note_other_temperature(pairing: Pairing, tasks: Sequence[str], book: ScoreSet) -> None:
    """Say which tasks have answers at other temperatures only."""
    found = {t for table in book.tasks if table.info.name in tasks for (_, t) in table.columns}
    where = temperatures_text(found)
    now = "" if pairing.temperature is None else f" at {pairing.temperature:g}"
    have, are = ("has", "it is") if len(tasks) == 1 else ("have", "they are")
    pairing.warn(
        NoticeCode.OTHER_TEMPERATURE,
        f"{some(tasks)} {have} answers only at {where}, so {are} not compared{now}.",
    )


def note_gaps(pairing: Pairing) -> None:
    """Say what failed, what is missing, and what is still owed."""
    if not pairing.pairs:
        said = f"{pairing.label}: not compared, because no item was answered by both models."
        pairing.warnings = [Notice(NoticeCode.NOT_COMPARED, said)]
    for who, side in (("the baseline", 0), (pairing.label, 1)):
        if failed := _listed([(gap.task, gap.failed[side]) for gap in pairing.gaps]):
            said = f"{who} failed on samples that were not retried ({failed}); they count as missing."
            pairing.warn(NoticeCode.FAILED_ANSWERS, said)
        if withheld := _listed([(task, counts[side]) for task, counts in pairing.withheld]):
            said = (
                f"of {who}, the provider withheld answers ({withheld}); they count as failed, not as wrong."
            )
            pairing.warn(NoticeCode.WITHHELD_ANSWERS, said)
        _note_shares(pairing, who, side)
        if cut := _listed(_marked(pairing, NoticeCode.CUT_PROMPTS, side)):
            said = (
                f"prompts of {who} were too long and lost their beginning ({cut}), maybe even the question: "
                "raise max_model_len or max_length, or lower max_gen_toks or num_fewshot."
            )
            pairing.warn(NoticeCode.CUT_PROMPTS, said)
    lacking = _lacking(pairing)
    if pairing.pairs and pairing.missing:
        said = f"{pairing.label}: {pairing.missing:,} items cannot be paired with the baseline"
        pairing.warn(NoticeCode.UNPAIRED_ITEMS, f"{said} ({lacking})." if lacking else f"{said}.")
    elif pairing.pairs and lacking:
        pairing.warn(NoticeCode.MISSING_ANSWERS, f"{pairing.label}: reruns are missing ({lacking}).")
    if pairing.fewer_reruns:
        found = some(pairing.fewer_reruns, 3)
        said = f"{pairing.label}: baseline and variant have unequal numbers of reruns ({found})."
        pairing.warn(NoticeCode.FEWER_RERUNS, said)
    if pairing.owed:
        owed = f"{pairing.owed} samples of this variant and the baseline have not been run yet"
        pairing.warn(NoticeCode.OWED_ANSWERS, f"{pairing.label}: {owed}; the run is incomplete.")


def _marked(pairing: Pairing, code: NoticeCode, side: int) -> Counts:
    """Of how many answers of one model a notice holds."""
    return [(task, counts[side]) for task, counts in pairing.marked.get(code, {}).items() if counts[side]]


def _note_shares(pairing: Pairing, who: str, side: int) -> None:
    """Say which tasks have many answers of one model that were cut, that are empty or that are all equal."""
    answers = {task: counts[side] for task, counts in pairing.scored.items()}
    if cut := _shares(_marked(pairing, NoticeCode.CUT_ANSWERS, side), answers):
        pairing.warn(
            NoticeCode.CUT_ANSWERS,
            f"{who} reached the token limit in answers ({cut}), which are scored as far as they go: raise "
            "max_gen_toks if they need more room.",
        )
    empty = _marked(pairing, NoticeCode.EMPTY_ANSWERS, side)
    if silent := [task for task, count in empty if count == answers[task]]:
        pairing.warn(
            NoticeCode.EMPTY_ANSWERS,
            f"{who} gave only empty answers to {some(silent, 3)}; they count as failed, not as wrong. The "
            "text may be elsewhere (in reasoning_content), or a stop string may have cut all of it.",
        )
    if some_empty := _shares([pair for pair in empty if pair[0] not in silent], answers):
        said = f"{who} gave empty answers ({some_empty}), which are scored as they are."
        pairing.warn(NoticeCode.EMPTY_ANSWERS, said)
    equal, others = (dict(_marked(pairing, NoticeCode.EQUAL_ANSWERS, which)) for which in (side, 1 - side))
    compared = [task for task, counts in pairing.scored.items() if counts[1 - side] and task not in others]
    if same := [task for task in compared if equal.get(task, 0) > 1 and task not in silent]:
        said = f"{who} gave one and the same answer to all items of {some(same, 3)}; the other model did not."
        pairing.warn(NoticeCode.EQUAL_ANSWERS, said)


def _shares(found: Counts, answers: Mapping[str, int]) -> str:
    """Shares of the answers by task, for a sentence; empty if they are few in all."""
    if not found or sum(count for _, count in found) < LEAST_SHARE * sum(answers.values()):
        return ""
    shares = sorted(((count / answers[task], task) for task, count in found), reverse=True)
    return some([f"{share:.0%} of {task}" for share, task in shares], 3)


def note_share(pairing: Pairing, paired_by: PairBy) -> None:
    """Say how many items pair, where that is not a matter of course, and how many of them by their order."""
    if not pairing.pairs:
        return
    if paired_by == "prompt":
        _note_repeated_prompts(pairing)
    items = pairing.common + pairing.missing
    what = "the text of the prompt" if paired_by == "prompt" else "identifier"
    said = f"{pairing.label}: {pairing.common:,} of {items:,} items pair with the baseline by {what}"
    if pairing.common < FULL_SHARE * items:
        hint = " (--pair-by prompt pairs by the text of the prompt)" if paired_by == "id" else ""
        pairing.warn(NoticeCode.LOW_PAIRED_SHARE, f"{said}, so the verdict is about these only{hint}.")
    else:
        pairing.warn(NoticeCode.PAIRED, f"{said}.")


def _note_repeated_prompts(pairing: Pairing) -> None:
    named = [pair.scores.items for pair in pairing.pairs if pair.scores.items is not None]
    if repeated := sum(repeats_a_prompt(item) for items in named for item in items):
        said = (
            f"{pairing.label}: {repeated:,} of {pairing.common:,} items repeat the prompt of another item, "
            "so they pair in the order of their rows, which must be the same for both models."
        )
        pairing.warn(NoticeCode.REPEATED_PROMPTS, said)


def _lacking(pairing: Pairing) -> str:
    """Which model lacks how many answers to which tasks; empty where none is known to be missing."""
    counts = {
        who: _listed([(gap.task, gap.missing[side]) for gap in pairing.gaps])
        for who, side in (("the baseline", 0), (pairing.variant, 1))
    }
    return "; ".join(f"{who} lacks {listed}" for who, listed in counts.items() if listed)


def _listed(counts: Counts, limit: int = 3) -> str:
    """Numbers for a sentence: "10 of a, 3 of b and 2 more tasks", the largest first; empty if all are 0."""
    known = sorted(((task, count) for task, count in counts if count), key=lambda pair: -pair[1])
    shown = ", ".join(f"{count:,} of {task}" for task, count in known[:limit])
    more = len(known) - limit
    return shown if more <= 0 else f"{shown} and {more} more task{'s' if more > 1 else ''}"
