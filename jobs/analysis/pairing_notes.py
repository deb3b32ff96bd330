"""Pairings with their warnings: sentences about what does not pair, one per fact however many tasks."""

from collections.abc import Iterable, Iterator, Sequence

from jobs.analysis.pairing import PairedTask, Pairing, pair_tasks
from jobs.formats.across_tools import repeats_a_prompt
from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.samples import PairBy, Temperature, temperatures_text
from jobs.formats.writers import mixed_writers
from jobs.scores.score_set import ScoreSet

FULL_SHARE = 0.95
"""Least share of items that pair if two tools have asked the same questions, but for failed answers."""

LEAST_SHARE = 0.01
"""Share of a model's answers that makes a warning if the limit of tokens ended them, or they are empty: fewer
change the score by less than one point, the default margin."""


def pair_up(
    scores: ScoreSet, baseline: str, variant: str, temperature: Temperature, cluster: str | None
) -> Pairing:
    """Pair a variant with the baseline, and say what does not pair.

    Args:
        scores: all scores.
        baseline: name of the baseline.
        variant: name of the variant.
        temperature: at which both are compared.
        cluster: "none", "task", or anything else for the clusters of the input.
    """
    tasks = list(pair_tasks(scores, baseline, variant, temperature, cluster))
    pairing = Pairing(baseline, variant, temperature, tasks)
    said = f"{pairing.label}: not compared, because no item was answered by both models."
    notes = _of_tasks(pairing, scores) if pairing.pairs else [Notice(NoticeCode.NOT_COMPARED, said)]
    pairing.warnings = [*notes, *_of_sides(pairing), *_of_gaps(pairing)]
    pairing.warnings += mixed_writers(scores.runs, baseline, variant)
    if scores.paired_by is not None and pairing.pairs:
        pairing.warnings += _of_share(pairing, scores.paired_by)
    return pairing


def _of_tasks(pairing: Pairing, scores: ScoreSet) -> Iterator[Notice]:
    """What tasks have no common item, other prompts, other temperatures, or answers more than once."""
    for task in pairing.tasks:
        name = task.info.name
        if task.pair is None:
            said = f"{pairing.label}: task {name} has no item that both models answered."
            yield Notice(NoticeCode.NO_COMMON_ITEM, said)
        elif task.other_prompts:
            yield Notice(
                NoticeCode.MIXED_PROMPTS,
                f"{pairing.label}: {task.other_prompts} of {task.pair.scores.baseline.size} items of {name} "
                "had a different prompt than in the baseline, so the comparison does not isolate the models.",
            )
    asked = {task.info.name for task in pairing.tasks}
    if elsewhere := [table for table in scores.tasks if table.info.name not in asked]:
        where = temperatures_text({t for table in elsewhere for _, t in table.columns})
        now = "" if pairing.temperature is None else f" at {pairing.temperature:g}"
        have, are = ("has", "it is") if len(elsewhere) == 1 else ("have", "they are")
        names = some([table.info.name for table in elsewhere])
        said = f"{names} {have} answers only at {where}, so {are} not compared{now}."
        yield Notice(NoticeCode.OTHER_TEMPERATURE, said)
    for side, who in enumerate(("the baseline", pairing.label)):
        if repeated := _listed((task, task.sides[side].repeated) for task in pairing.tasks):
            said = f"{who} has duplicate samples ({repeated}); only the first of each counts."
            yield Notice(NoticeCode.REPEATED_ANSWERS, said)


def _of_sides(pairing: Pairing) -> Iterator[Notice]:
    """Which answers of either model failed, were withheld, or are not what they should be."""
    tasks = pairing.tasks
    for side, who in enumerate(("the baseline", pairing.label)):
        if failed := _listed((task, task.lacking.failed[side]) for task in tasks if task.lacking is not None):
            said = f"{who} failed on samples that were not retried ({failed}); they count as missing."
            yield Notice(NoticeCode.FAILED_ANSWERS, said)
        if withheld := _listed((task, task.sides[side].withheld) for task in tasks):
            said = (
                f"of {who}, the provider withheld answers ({withheld}); they count as failed, not as wrong."
            )
            yield Notice(NoticeCode.WITHHELD_ANSWERS, said)
        if cut := _shares(tasks, NoticeCode.CUT_ANSWERS, side):
            yield Notice(
                NoticeCode.CUT_ANSWERS,
                f"{who} reached the token limit in answers ({cut}), which are scored as far as they go: "
                "raise max_gen_toks if they need more room.",
            )
        if silent := [task.info.name for task in tasks if task.is_silent(side)]:
            yield Notice(
                NoticeCode.EMPTY_ANSWERS,
                f"{who} gave only empty answers to {some(silent, 3)}; they count as failed, not as wrong. "
                "The text may be elsewhere (in reasoning_content), or a stop string may have cut all of it.",
            )
        if empty := _shares(tasks, NoticeCode.EMPTY_ANSWERS, side):
            said = f"{who} gave empty answers ({empty}), which are scored as they are."
            yield Notice(NoticeCode.EMPTY_ANSWERS, said)
        same = [
            task.info.name
            for task in tasks
            if task.marked(NoticeCode.EQUAL_ANSWERS, side) > 1
            and not task.marked(NoticeCode.EQUAL_ANSWERS, 1 - side)
            and task.scored(1 - side)
            and not task.is_silent(side)
        ]
        if same:
            said = f"{who} gave one and the same answer to all items of {some(same, 3)}"
            yield Notice(NoticeCode.EQUAL_ANSWERS, f"{said}; the other model did not.")
        if cut := _listed((task, task.marked(NoticeCode.CUT_PROMPTS, side)) for task in tasks):
            yield Notice(
                NoticeCode.CUT_PROMPTS,
                f"prompts of {who} were too long and lost their beginning ({cut}), maybe even the question: "
                "raise max_model_len or max_length, or lower max_gen_toks or num_fewshot.",
            )


def _of_gaps(pairing: Pairing) -> Iterator[Notice]:
    """What cannot be paired, and what is still to come."""
    lacking = []  # which model lacks how many answers to which tasks
    for side, who in enumerate(("the baseline", pairing.variant)):
        counts = ((task, task.lacking.missing[side]) for task in pairing.tasks if task.lacking is not None)
        if listed := _listed(counts):
            lacking.append(f"{who} lacks {listed}")
    if pairing.pairs and pairing.missing:
        said = f"{pairing.label}: {pairing.missing:,} items cannot be paired with the baseline"
        said += f" ({'; '.join(lacking)})." if lacking else "."
        yield Notice(NoticeCode.UNPAIRED_ITEMS, said)
    elif pairing.pairs and lacking:
        said = f"{pairing.label}: reruns are missing ({'; '.join(lacking)})."
        yield Notice(NoticeCode.MISSING_ANSWERS, said)
    if uneven := [task for task in pairing.tasks if task.is_uneven]:
        reruns = [f"{t.sides[0].reruns} and {t.sides[1].reruns} on {t.info.name}" for t in uneven]
        said = f"baseline and variant have unequal numbers of reruns ({some(reruns, 3)})."
        yield Notice(NoticeCode.FEWER_RERUNS, f"{pairing.label}: {said}")
    if pairing.owed:
        owed = f"{pairing.owed} samples of this variant and the baseline have not been run yet"
        yield Notice(NoticeCode.OWED_ANSWERS, f"{pairing.label}: {owed}; the run is incomplete.")


def _of_share(pairing: Pairing, paired_by: PairBy) -> Iterator[Notice]:
    """How many items pair, where that is not a matter of course, and how many of them by their order."""
    if paired_by == "prompt":
        named = [pair.scores.items for pair in pairing.pairs if pair.scores.items is not None]
        if repeated := sum(repeats_a_prompt(item) for items in named for item in items):
            yield Notice(
                NoticeCode.REPEATED_PROMPTS,
                f"{pairing.label}: {repeated:,} of {pairing.common:,} items repeat the prompt of another "
                "item, so they pair in the order of their rows, which must be the same for both models.",
            )
    items = pairing.common + pairing.missing
    what = "the text of the prompt" if paired_by == "prompt" else "identifier"
    said = f"{pairing.label}: {pairing.common:,} of {items:,} items pair with the baseline by {what}"
    if pairing.common < FULL_SHARE * items:
        hint = " (--pair-by prompt pairs by the text of the prompt)" if paired_by == "id" else ""
        said = f"{said}, so the verdict is about these only{hint}."
        yield Notice(NoticeCode.LOW_PAIRED_SHARE, said)
    else:
        yield Notice(NoticeCode.PAIRED, f"{said}.")


def _shares(tasks: Sequence[PairedTask], code: NoticeCode, side: int) -> str:
    """Shares of the answers of one model, by task, for a sentence; empty if they are few in all.

    Tasks all of whose answers are empty are spoken of elsewhere.
    """
    is_other = code is not NoticeCode.EMPTY_ANSWERS
    counts = [(t.marked(code, side), t) for t in tasks if is_other or not t.is_silent(side)]
    if not sum(count for count, _ in counts) >= LEAST_SHARE * sum(task.scored(side) for task in tasks) > 0:
        return ""
    shares = sorted(((n / t.scored(side), t.info.name) for n, t in counts if n), reverse=True)
    return some([f"{share:.0%} of {name}" for share, name in shares], 3)


def _listed(counts: Iterable[tuple[PairedTask, int]], limit: int = 3) -> str:
    """Numbers for a sentence: "10 of a, 3 of b and 2 more tasks", the largest first; empty if all are 0."""
    known = sorted(((task.info.name, count) for task, count in counts if count), key=lambda pair: -pair[1])
    shown = ", ".join(f"{count:,} of {name}" for name, count in known[:limit])
    more = len(known) - limit
    return shown if more <= 0 else f"{shown} and {more} more task{'s' if more > 1 else ''}"
