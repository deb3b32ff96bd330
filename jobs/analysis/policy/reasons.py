"""Why a release policy decides as it does: codes for programs. They are part of decision.json and stable."""

from enum import StrEnum
from typing import NamedTuple

from orchestrator.errors import UserError


class Code(StrEnum):
    """What a reason says."""

    CERTIFIED = "certified"
    """The drop is below the margin, as the policy requires."""

    NOT_DEGRADED = "not-degraded"
    """No significant drop was found, and enough was measured."""

    WATCHED = "watched"
    """The policy only watches this task."""

    DEGRADED = "degraded"
    """Significantly worse, adjusted for everything that can block."""

    NOT_CERTIFIED = "not-certified"
    """The policy requires a certificate, and the drop was not shown to be below the margin."""

    NO_MARGIN = "no-margin"
    """The metric has no range, and the policy gives no margin in its own unit."""

    TOO_FEW_ITEMS = "too-few-items"
    """Fewer items pair than the policy requires."""

    TOO_MANY_MISSING = "too-many-missing"
    """A larger share of the samples is missing or failed than the policy allows."""

    MISSING_IN_BASELINE = "missing-in-baseline"
    """The baseline has no answers to a task."""

    MISSING_IN_VARIANT = "missing-in-variant"
    """The variant has no answers to a task."""

    NO_COMMON_ITEM = "no-common-item"
    """Both models answered, but no item in common."""

    INCOMPLETE_RUN = "incomplete-run"
    """Samples that the sweep asked for have not been run."""


class Reason(NamedTuple):
    """One sentence with its code."""

    code: str
    text: str


class Mistake(StrEnum):
    """What is wrong with a policy."""

    INVALID = "invalid-policy"
    """Not a policy: unknown or missing keys, or values out of range."""

    UNKNOWN_TASK = "unknown-task"
    UNKNOWN_VARIANT = "unknown-variant"
    NOTHING_REQUIRED = "nothing-required"
    """No task can block."""

    NO_EFFECT = "setting-without-effect"
    """A limit on a task that is only watched."""

    AMBIGUOUS = "ambiguous-rules"
    """Two patterns with different rules match a task."""

    ALPHA_TOO_LARGE = "alpha-too-large"
    """A rule asks for a level above that of the whole policy."""

    STOPS_EARLY = "stops-early"
    """The run stops variants early: its looks are tests of their own."""

    WRONG_MARGIN = "wrong-margin"
    """A margin in a unit that the metric does not have."""


class PolicyError(UserError):
    """A policy that cannot be applied.

    Attributes:
        codes: of its mistakes, each once.
    """

    def __init__(self, source: str, mistakes: list[tuple[Mistake, str]]) -> None:
        self.codes = tuple(dict.fromkeys(code for code, _ in mistakes))
        texts = [text for _, text in mistakes]
        listed = "".join(f"\n  - {text}" for text in texts)
        said = f": {texts[0]}." if len(texts) == 1 else f" has {len(texts)} mistakes:{listed}"
        super().__init__(f"{source}{said}")
