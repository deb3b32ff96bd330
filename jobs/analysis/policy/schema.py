"""A release policy as people write it: every key it may have, and what it means."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Requirement: TypeAlias = Literal["certified", "not-degraded", "watched"]
Share = Annotated[float, Field(gt=0, lt=1)]

MIN_ITEMS = 30
MAX_MISSING = 0.05


class Rule(BaseModel):
    """What must hold on a task; what it leaves out comes from the top of the policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    require: Requirement
    """certified: a drop below the margin is shown; not-degraded: no significant drop; watched: nothing."""
    alpha: Share | None = None
    """Level at which this task blocks or is certified; at most the policy's."""
    margin: Share | None = None
    """Largest acceptable drop as a share of the metric's range."""
    margin_own_unit: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The same in the metric's own unit, for metrics without a range."""
    min_items: int | None = Field(default=None, ge=1)
    """Fewest items that must pair."""
    max_missing: float | None = Field(default=None, ge=0, lt=1)
    """Largest share of missing or failed samples of either model."""

    @property
    def limits(self) -> dict[str, Any]:
        """What it sets besides the requirement."""
        return self.model_dump(exclude={"require"}, exclude_none=True)


def _from_word(value: object) -> object:
    if isinstance(value, str):
        return {"require": value}
    if not isinstance(value, dict | Rule):
        raise ValueError("should be certified, not-degraded or watched, or a mapping with require")  # noqa: TRY004 - pydantic's way
    return value


RuleOrWord = Annotated[Rule, BeforeValidator(_from_word)]
"""A rule, or only its requirement."""


class Policy(BaseModel):
    """What a release must show."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: Share | None = None
    """Probability that a release without damage is blocked for damage; default: that of the analysis."""
    margin: Share | None = None
    """Default of all rules; default: that of the analysis."""
    min_items: int = Field(default=MIN_ITEMS, ge=1)
    max_missing: float = Field(default=MAX_MISSING, ge=0, lt=1)
    variants: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The variants to release; the others are not judged. Default: all."""
    tasks: dict[str, RuleOrWord] = Field(min_length=1)
    """Rules by task, group or pattern; a task that no rule names is watched."""
    overall: RuleOrWord = Rule(require="not-degraded")
    """The rule for all tasks together that are not only watched."""
