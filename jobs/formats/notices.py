"""What a reader of a verdict must know about its input: a sentence for people, a code for programs.

Codes are part of verdicts.json (`warning_codes`, parallel to `warnings`); sentences may be reworded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class NoticeCode(StrEnum):
    """What a warning is about."""

    NO_TESTABLE_METRIC = "no-testable-metric"
    """A task has no metric with a number per sample and is not tested."""
    OTHER_ITEMS = "other-items"
    """The metric is no score of some items (of another length, for example), which are left out."""
    CORPUS_SCORES = "corpus-scores"
    """What lm-eval computes over all items of a task, where that is not the mean of their scores."""
    UNREADABLE_FILES = "unreadable-files"
    """Sample files could not be read and were left out."""
    MISSING_VARIANT = "missing-variant"
    """The sweep names a variant that the run knows nothing of."""
    LEFT_OUT = "left-out"
    """A variant that the sweep allows to leave out could not run on the machine of the sweep."""
    MIXED_SOFTWARE = "mixed-software"
    """Answers of a baseline or a variant come from different versions of the software."""
    MIXED_HARDWARE = "mixed-hardware"
    """Answers of a baseline or a variant come from different GPUs or CPUs, or one's from several formats."""
    SETTINGS_DISAGREE = "settings-disagree"
    """Runs ask for different levels or margins; none of them was taken."""
    MIXED_RERUN_PROMPTS = "mixed-rerun-prompts"
    """Reruns of one item were asked with different prompts."""
    OTHER_FILTERS = "other-filters"
    """The metric under test exists under further filters."""
    OTHER_METRICS = "other-metrics"
    """A task has several metrics, and nothing says which of them matters: the first is tested."""
    OTHER_NAMES = "other-names"
    """Tools name a task or its metric differently; they were taken to be the same."""
    OLDER_RESULTS = "older-results"
    """A folder has several results of one model and task; only the newest counts."""
    PAIRED = "paired"
    """How many items pair where inputs are of several tools, or pair by prompt."""
    LOW_PAIRED_SHARE = "low-paired-share"
    """The same, where it is only a part of them."""
    REPEATED_PROMPTS = "repeated-prompts"
    """Items pair by prompt, and several have the same one: these pair in their order."""
    CUT_SHORT = "cut-short"
    """A file holds fewer documents than were evaluated."""
    UNEQUAL_RERUNS = "unequal-reruns"
    """Items of a model have unequal numbers of reruns."""
    FEWER_RERUNS = "fewer-reruns"
    """One model has fewer reruns than the other."""
    DIRECTION_BY_NAME = "direction-by-name"
    """Lower scores count as better because of the metric's name alone."""
    LOG_LIKELIHOODS = "log-likelihoods"
    """Samples of a perplexity hold log-likelihoods: higher is better."""
    OTHER_RANGE = "other-range"
    """Scores range over something other than 0 to 1."""
    NO_RANGE = "no-range"
    """Scores have no range: drop and margin are in the metric's own unit."""
    NOT_COMPARED = "not-compared"
    """A variant has no item in common with the baseline, or no answers at all."""
    NO_COMMON_ITEM = "no-common-item"
    """A task has no item that both models answered."""
    MISSING_TEMPERATURE = "missing-temperature"
    """One model has answers at a temperature at which the other has none."""
    OTHER_TEMPERATURE = "other-temperature"
    """Tasks have answers only at other temperatures."""
    MIXED_PROMPTS = "mixed-prompts"
    """Baseline and variant were asked with different prompts."""
    FAILED_ANSWERS = "failed-answers"
    """Requests failed and were not asked again successfully."""
    WITHHELD_ANSWERS = "withheld-answers"
    """A provider withheld answers (a content filter, for example); they count as failed."""
    CUT_ANSWERS = "cut-answers"
    """The limit of tokens ended answers; they were scored as far as they went."""
    EMPTY_ANSWERS = "empty-answers"
    """Answers are empty; where all of a model to a task are, they count as failed."""
    EQUAL_ANSWERS = "equal-answers"
    """All answers of one model to a task are the same, and those of the other are not."""
    CUT_PROMPTS = "cut-prompts"
    """Prompts did not fit into the context of the model and lost their beginning."""
    REPEATED_ANSWERS = "repeated-answers"
    """Answers occur more than once; the first of each counts."""
    UNPAIRED_ITEMS = "unpaired-items"
    """Items have no answer of one of the models."""
    MISSING_ANSWERS = "missing-answers"
    """Every item pairs, but reruns of some are missing."""
    OWED_ANSWERS = "owed-answers"
    """The run is incomplete."""
    LOOKS_MISSING = "looks-missing"
    """A run that stops early has no readable record of its looks."""
    LOOKS_BEHIND = "looks-behind"
    """The record of the looks ends before those that the samples give."""
    LOOKS_DIFFER = "looks-differ"
    """The record of the looks is not what the samples give."""
    LOOKS_REDRAWN = "looks-redrawn"
    """Answers that a look had used were lost and generated again, or may have been."""
    FEW_ITEMS = "few-items"
    """So few items pair that only a drastic drop could be significant."""


@dataclass(frozen=True)
class Notice:
    """One warning.

    Attributes:
        code: what it is about.
        text: one or two sentences.
        task: the one that it is about, where programs need to know.
    """

    code: NoticeCode
    text: str
    task: str | None = None


def once(notices: Iterable[Notice]) -> tuple[Notice, ...]:
    """Each notice once, in order of first appearance."""
    return tuple(dict.fromkeys(notices))


def joined(notices: Iterable[Notice]) -> str:
    """All sentences as one text."""
    return " ".join(notice.text for notice in notices)


def some(names: Sequence[object], limit: int = 5) -> str:
    """A few names for a sentence: all of them if they are few, else the first ones and how many follow."""
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
