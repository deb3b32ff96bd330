"""A release policy as people write it: every key it may have, what it means, and every mistake at once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orchestrator.config.yaml_file import mistake_sentence, own_mistakes, read_mapping, unusable_values
from orchestrator.errors import UserError

Requirement: TypeAlias = Literal["certified", "not-degraded", "watched"]
Share = Annotated[float, Field(gt=0, lt=1)]

MistakeCode = Literal[
    "invalid-policy", "unknown-task", "unknown-variant", "nothing-required", "setting-without-effect",
    "ambiguous-rules", "alpha-too-large", "wrong-margin", "stops-early",
]  # fmt: skip
"""What is wrong with a policy, for programs (docs/release.md)."""

Mistake: TypeAlias = tuple[MistakeCode, str]
"""A code, and a sentence."""

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

    @property
    def places(self) -> dict[str, Rule]:
        """All rules by where they stand."""
        return {f"tasks.{name}": rule for name, rule in self.tasks.items()} | {"overall": self.overall}


class PolicyError(UserError):
    """A policy that cannot be applied.

    Attributes:
        codes: of its mistakes, each once.
    """

    def __init__(self, source: str, mistakes: list[Mistake]) -> None:
        self.codes = tuple(dict.fromkeys(code for code, _ in mistakes))
        texts = [text for _, text in mistakes]
        listed = "".join(f"\n  - {text}" for text in texts)
        said = f": {texts[0]}." if len(texts) == 1 else f" has {len(texts)} mistakes:{listed}"
        super().__init__(f"{source}{said}")


def load_policy(source: str | Path | Mapping[str, Any]) -> Policy:
    """Read and check a policy as far as that is possible without knowing the tasks.

    Args:
        source: path of a YAML file, or its content.

    Raises:
        UserError: no such file, or not a YAML mapping.
        PolicyError: it names all mistakes.
    """
    raw, repeated, where = {}, list[str](), "The policy"
    if isinstance(source, Mapping):
        raw = dict(source)
    else:
        raw, repeated = read_mapping(Path(source), "a policy", "tasks and what they must show")
        where = str(source)
    mistakes: list[Mistake] = [("invalid-policy", text) for text in (*repeated, *unusable_values(raw))]
    if mistakes:
        raise PolicyError(where, mistakes)
    try:
        policy = Policy.model_validate(raw)
    except ValidationError as error:
        invalid = (mistake_sentence(problem, Policy) for problem in own_mistakes(error))
        raise PolicyError(where, [("invalid-policy", text) for text in invalid]) from None
    if contradictions := list(_contradictions(policy)):
        raise PolicyError(where, contradictions)
    return policy


def _contradictions(policy: Policy) -> Iterator[Mistake]:
    for place, rule in policy.places.items():
        if rule.require == "watched" and rule.limits:
            keys = ", ".join(rule.limits)
            said = f"{place} is only watched, so {keys} would have no effect: remove it, or require something"
            yield "setting-without-effect", said
    if all(rule.require == "watched" for rule in policy.tasks.values()):
        said = "every task is only watched, so nothing could block a release; require something of one"
        yield "nothing-required", said
