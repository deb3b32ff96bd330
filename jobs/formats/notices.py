"""What a reader of a verdict must know about its input: a sentence for people, a code for programs.

Codes are part of verdicts.json (`warning_codes`, parallel to `warnings`); sentences may be reworded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class NoticeCode(StrEnum):
    """What a warning is about."""

    CONTROL_DIFFERS = "control-differs"  # the control is not as good as the baseline, or not the same
    NO_TESTABLE_METRIC = "no-testable-metric"  # no metric of a task has a number per sample: it is not tested
    OTHER_ITEMS = "other-items"  # the metric is no score of some items, which are left out
    CORPUS_SCORES = "corpus-scores"  # lm-eval's scores over all items, where they are not means
    UNREADABLE_FILES = "unreadable-files"  # sample files could not be read and were left out
    MISSING_VARIANT = "missing-variant"  # the sweep names a variant that the run knows nothing of
    LEFT_OUT = "left-out"  # an optional variant could not run on the machine of the sweep
    MIXED_SOFTWARE = "mixed-software"  # answers of a model come from different versions of the software
    MIXED_HARDWARE = "mixed-hardware"  # answers come from different GPUs or CPUs, or number formats
    SETTINGS_DISAGREE = "settings-disagree"  # runs ask for different levels or margins: none was taken
    MIXED_RERUN_PROMPTS = "mixed-rerun-prompts"  # reruns of one item were asked with different prompts
    OTHER_FILTERS = "other-filters"  # the metric under test exists under further filters
    OTHER_METRICS = "other-metrics"  # nothing says which metric of a task matters: the first is tested
    OTHER_NAMES = "other-names"  # tools name a task or its metric differently; they were taken to be the same
    OLDER_RESULTS = "older-results"  # of several results of one model and task only the newest counts
    PAIRED = "paired"  # how many items pair where inputs are of several tools, or pair by prompt
    LOW_PAIRED_SHARE = "low-paired-share"  # the same, where it is only a part of them
    REPEATED_PROMPTS = "repeated-prompts"  # items pair by prompt, several with the same one in their order
    CUT_SHORT = "cut-short"  # a file holds fewer documents than were evaluated
    UNEQUAL_RERUNS = "unequal-reruns"  # items of a model have unequal numbers of reruns
    FEWER_RERUNS = "fewer-reruns"  # one model has fewer reruns than the other
    DIRECTION_UNKNOWN = "direction-unknown"  # higher is only assumed to be better, so nothing is certified
    DIRECTION_BY_NAME = "direction-by-name"  # lower scores count as better because of the metric's name alone
    LOG_LIKELIHOODS = "log-likelihoods"  # samples of a perplexity hold log-likelihoods: higher is better
    OTHER_RANGE = "other-range"  # scores range over something other than 0 to 1
    NO_RANGE = "no-range"  # scores have no range: drop and margin are in the metric's own unit
    NOT_COMPARED = "not-compared"  # a variant has no item in common with the baseline, or no answers at all
    NO_COMMON_ITEM = "no-common-item"  # a task has no item that both models answered
    MISSING_TEMPERATURE = "missing-temperature"  # one model has answers at it, the other has none
    OTHER_TEMPERATURE = "other-temperature"  # tasks have answers only at other temperatures
    MIXED_PROMPTS = "mixed-prompts"  # baseline and variant were asked with different prompts
    PROMPT_TOKENS_DIFFER = (
        "prompt-tokens-differ"  # equal prompts have other numbers of tokens in the two models
    )
    FAILED_ANSWERS = "failed-answers"  # requests failed and were not asked again successfully
    WITHHELD_ANSWERS = "withheld-answers"  # a provider withheld answers (by a content filter): failed ones
    CUT_ANSWERS = "cut-answers"  # the limit of tokens ended answers; they were scored as far as they went
    EMPTY_ANSWERS = "empty-answers"  # answers are empty; where all of a task are, they count as failed
    EQUAL_ANSWERS = "equal-answers"  # all answers of one model to a task are equal, the other's not
    CUT_PROMPTS = "cut-prompts"  # prompts did not fit into the context of the model and lost their beginning
    REPEATED_ANSWERS = "repeated-answers"  # answers occur more than once; the first of each counts
    UNPAIRED_ITEMS = "unpaired-items"  # items have no answer of one of the models
    MISSING_ANSWERS = "missing-answers"  # every item pairs, but reruns of some are missing
    OWED_ANSWERS = "owed-answers"  # the run is incomplete
    LOOKS_MISSING = "looks-missing"  # a run that stops early has no readable record of its looks
    LOOKS_BEHIND = "looks-behind"  # the record of the looks ends before those that the samples give
    LOOKS_DIFFER = "looks-differ"  # the record of the looks is not what the samples give
    LOOKS_REDRAWN = "looks-redrawn"  # answers that a look had used were lost and generated again
    LAXER_RULE = "laxer-rule"  # a smaller alpha of a rule of the policy lets more damage pass
    TRUNCATION_DIFFERS = "truncation-differs"  # the limit of tokens ended more answers of one of the models
    TRIGGERS = "triggers"  # how far tools are called in the same conversations as by the baseline
    FEW_ITEMS = "few-items"  # so few items pair that only a drastic drop could be significant


@dataclass(frozen=True)
class Notice:
    """One warning."""

    code: NoticeCode  # what it is about
    text: str  # one or two sentences
    task: str | None = None  # the one that it is about, where programs need to know


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
