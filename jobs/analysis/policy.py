"""A release policy as people write it, with every mistake at once; what it demands, and what it decided."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from jobs.formats.metrics import unused_requests
from jobs.formats.notices import some
from jobs.formats.samples import Temperature
from jobs.scores.score_set import TaskInfo
from orchestrator.config import yaml_file
from orchestrator.errors import UserError, suggestion
from orchestrator.rundir.measurements import BY_NAME, CALLED, MEASUREMENTS
from stats.change import Change
from stats.results import Comparison, Settings

Requirement: TypeAlias = Literal["certified", "not-degraded", "watched"]
"""A drop below the margin is shown; there is no significant drop; nothing."""

Share = Annotated[float, Field(gt=0, lt=1)]

MistakeCode = Literal[
    "invalid-policy", "unknown-task", "unknown-variant", "nothing-required", "setting-without-effect",
    "ambiguous-rules", "alpha-too-large", "wrong-margin", "stops-early", "unknown-measurement",
]  # fmt: skip
"""What is wrong with a policy, for programs (docs/release.md)."""

Mistake: TypeAlias = tuple[MistakeCode, str]  # a code, and a sentence
TESTED = [one.name for one in MEASUREMENTS if one.tested]
ALL = "*"
MIN_ITEMS = 30
MAX_MISSING = 0.05


class Rule(BaseModel):
    """What must hold on a task; what it leaves out comes from the top of the policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    require: Requirement
    alpha: Share | None = None  # at which this task blocks or is certified; at most the policy's
    margin: Share | None = None  # largest acceptable drop as a share of the metric's range
    margin_own_unit: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # where there is no range
    min_items: int | None = Field(default=None, ge=1)  # fewest items that must pair
    max_missing: float | None = Field(default=None, ge=0, lt=1)  # largest share of missing or failed samples

    @property
    def limits(self) -> dict[str, Any]:
        """What it sets besides the requirement."""
        return self.model_dump(exclude={"require"}, exclude_none=True)


class MeasurementRule(BaseModel):
    """What must hold of a measurement."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    within: float = Field(gt=0, allow_inf_nan=False)  # the largest change, as for `stats.change.Change`
    f1: Share | None = None  # of `called`: the least F1 score of calls beside the baseline's


def _from_word(value: object) -> object:
    if isinstance(value, str):
        return {"require": value}
    if not isinstance(value, dict | Rule):
        raise ValueError("should be certified, not-degraded or watched, or a mapping with require")  # noqa: TRY004 - pydantic's way
    return value


UNNAMED = Rule(require="watched")
RuleOrWord = Annotated[Rule, BeforeValidator(_from_word)]  # a rule, or only its requirement


@dataclass(frozen=True)
class Demand:
    """What must hold on one task, or over all of them, with every default filled in."""

    task: str | None  # None for all tasks together that are not only watched
    rule: str | None  # its name in the policy; None where no rule names the task
    require: Requirement | Literal["within"]
    settings: Settings  # of its tests, with a level and a margin of its own
    margin_own_unit: float | None
    min_items: int
    max_missing: float
    measurement: str | None = None  # instead of scores, over all tasks that have it
    within: float | None = None  # its largest change

    @property
    def blocks(self) -> bool:
        """Whether damage here can block the release."""
        return self.require != "watched"

    def asks_the_same(self, other: "Demand") -> bool:
        """Whether two demands differ in what they are called only."""
        return replace(self, task=other.task, rule=other.rule) == other


class Policy(BaseModel):
    """What a release must show."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # the chance that a release without damage is blocked for damage, and the default of all rules; both
    # default to those of the analysis
    alpha: Share | None = None
    margin: Share | None = None
    min_items: int = Field(default=MIN_ITEMS, ge=1)
    max_missing: float = Field(default=MAX_MISSING, ge=0, lt=1)
    variants: tuple[str, ...] | None = Field(default=None, min_length=1)  # to release; others are not judged
    tasks: dict[str, RuleOrWord] = Field(min_length=1)  # by name, group or pattern; watched without a rule
    overall: RuleOrWord = Rule(require="not-degraded")  # for all tasks together that are not only watched
    measurements: dict[str, MeasurementRule] = Field(default_factory=dict)  # by name

    @property
    def places(self) -> dict[str, Rule]:
        """All rules by where they stand."""
        return {f"tasks.{name}": rule for name, rule in self.tasks.items()} | {"overall": self.overall}

    def demand(self, task: str | None, name: str | None, rule: Rule, settings: Settings) -> Demand:
        """What a rule of some name demands of a task, or of all; settings have the level and the margin."""
        own = replace(settings, alpha=rule.alpha or settings.alpha, margin=rule.margin or settings.margin)
        items = self.min_items if rule.min_items is None else rule.min_items
        missing = self.max_missing if rule.max_missing is None else rule.max_missing
        return Demand(task, name, rule.require, own, rule.margin_own_unit, items, missing)

    def asked(self, demands: Sequence[Demand], tasks: Collection[str]) -> list[Demand]:
        """Those on some tasks, and the last, that over all of them, where not only one of them is judged.

        Of a single one the policy may say something else than of all.
        """
        judged = [demand for demand in demands if demand.task in tasks and demand.blocks]
        says_more = self.overall.require == "certified" or bool(self.overall.limits)
        whole = len(judged) > 1 or (judged and says_more and not demands[-1].asks_the_same(judged[0]))
        return [one for one in demands if one.task in tasks or (one.task is None and whole)]


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


def load_policy(source: str | PathLike[str] | Mapping[str, Any]) -> Policy:
    """Read a YAML file or take its content, and check it as far as that is possible without the tasks.

    Raises:
        UserError: no such file, or not a YAML mapping.
        PolicyError: it names all mistakes.
    """
    raw, repeated, where = {}, list[str](), "The policy"
    if isinstance(source, Mapping):
        raw = dict(source)
    else:
        raw, repeated = yaml_file.read_mapping(Path(source), "a policy", "tasks and what they must show")
        where = str(source)
    mistakes: list[Mistake] = [
        ("invalid-policy", text) for text in (*repeated, *yaml_file.unusable_values(raw))
    ]
    if mistakes:
        raise PolicyError(where, mistakes)
    try:
        policy = Policy.model_validate(raw)
    except ValidationError as error:
        invalid = yaml_file.mistakes(error, Policy)
        raise PolicyError(where, [("invalid-policy", text) for _, text in invalid]) from None
    mistakes += _without_effect(policy)
    for name in TESTED:
        kind, rule = BY_NAME[name], policy.measurements.get(name)
        if rule is not None and (kind.relative or kind.bounds) and rule.within >= 1.0:
            said = (
                f"measurements.{name}.within: should be a share below 1, such as 0.05 (it is {rule.within:g})"
            )
            mistakes.append(("invalid-policy", said))
    for name in policy.measurements.keys() - TESTED:
        hint = suggestion(name, TESTED) or f"; those that can be tested are {some(TESTED, 20)}"
        mistakes.append(("unknown-measurement", f"measurements.{name}: there is no such measurement{hint}"))
    if all(rule.require == "watched" for rule in policy.tasks.values()) and not policy.measurements:
        said = "every task is only watched, so nothing could block a release; require something of one"
        mistakes.append(("nothing-required", said))
    if mistakes:
        raise PolicyError(where, mistakes)
    return policy


def _without_effect(policy: Policy) -> Iterator[Mistake]:
    for place, rule in policy.places.items():
        if rule.require == "watched" and rule.limits:
            keys = ", ".join(rule.limits)
            said = f"{place} is only watched, so {keys} would have no effect: remove it, or require something"
            yield "setting-without-effect", said
    for name, limits in policy.measurements.items():
        if limits.f1 is not None and name != CALLED:
            yield "setting-without-effect", f"measurements.{name}: only {CALLED} has an f1: remove it"


class Ruling(StrEnum):
    """What a case, or the release, came to."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    BLOCKED = "blocked"  # damage was found
    INSUFFICIENT = "insufficient"  # it does not pass, and no damage is proven
    WATCHED = "watched"


EXIT_STATUS = {Ruling.PASS: 0, Ruling.BLOCKED: 1, Ruling.INSUFFICIENT: 3}


class Reason(NamedTuple):
    """One sentence with its code, which is part of decision.json and stable (docs/release.md)."""

    code: str
    text: str


@dataclass(frozen=True)
class Case:
    """One variant at one temperature on one task, or over all tasks that are not only watched.

    Attributes:
        variant: its name.
        temperature: sampling temperature, None if unknown.
        demand: what must hold.
        status: what it came to.
        reasons: why, the deciding one first.
        comparison: the numbers, adjusted for everything that can block; None where nothing pairs, and for a
            measurement.
        missing_share: share of missing or failed samples, (baseline, variant).
        change: of a measurement, if the demand is about one that both models have.
    """

    variant: str
    temperature: Temperature
    demand: Demand
    status: Ruling
    reasons: tuple[Reason, ...]
    comparison: Comparison | None = field(repr=False)
    missing_share: tuple[float, float]
    change: Change | None = None

    @property
    def task(self) -> str | None:
        """Name of the task; None for all together."""
        return self.demand.task


@dataclass(frozen=True)
class Decision:
    """Whether a release passes its policy.

    Attributes:
        status: pass, blocked or insufficient.
        alpha: level over everything that can block.
        family: number of hypotheses that can block.
        baseline: its name.
        cases: everything that was judged.
        reasons: what concerns no single case.
    """

    status: Ruling
    alpha: float
    family: int
    baseline: str
    cases: tuple[Case, ...]
    reasons: tuple[Reason, ...]

    @property
    def exit_status(self) -> int:
        """0 pass, 1 blocked, 3 not enough evidence."""
        return EXIT_STATUS[self.status]


def demands_of(
    policy: Policy, settings: Settings, tasks: Sequence[TaskInfo], untested: Sequence[str] = ()
) -> tuple[list[Demand], list[Mistake]]:
    """One demand per measured task, then the one over all of them; and what is wrong with the policy."""
    groups = {info.name: info.group for info in tasks} | dict.fromkeys(untested)
    known = [*groups, *(group for group in groups.values() if group)]
    mistakes, demands = list[Mistake](), list[Demand]()
    for name in unused_requests(policy.tasks, groups):
        hint = suggestion(name, known) or f"; the tasks are {some(list(groups), 20)}"
        mistakes.append(("unknown-task", f"tasks.{name} matches no task{hint}"))
    for info in tasks:
        rule_name, clash = rule_for(info.name, info.group, policy.tasks)
        if clash is not None:
            mistakes.append(("ambiguous-rules", clash))
        rule = UNNAMED if rule_name is None else policy.tasks[rule_name]
        demands.append(policy.demand(info.name, rule_name, rule, settings))
    mistakes += _wrong_margins(policy, demands, tasks)
    demands.append(policy.demand(None, "overall", policy.overall, settings))
    for place, rule in policy.places.items():
        if rule.alpha is not None and rule.alpha > settings.alpha:
            said = f"{place}: alpha {rule.alpha:g} is above the level of the whole policy, {settings.alpha:g}"
            mistakes.append(("alpha-too-large", said))
    if not mistakes and not policy.measurements and not any(demand.blocks for demand in demands[:-1]):
        said = "the rules leave every measured task watched, so nothing could block a release"
        mistakes.append(("nothing-required", said))
    return demands, mistakes


def unknown_variants(policy: Policy, known: Sequence[str]) -> Iterator[Mistake]:
    """Variants that are to be released and are not among those that are compared with a baseline."""
    for name in policy.variants or ():
        if name not in known:
            hint = suggestion(name, known) or f"; those compared are {some(known, 20)}"
            yield "unknown-variant", f"variants: there is no variant '{name}' to judge{hint}"


def rule_for(task: str, group: str | None, rules: Mapping[str, Rule]) -> tuple[str | None, str | None]:
    """The rule of a task (by its name, its group's, a pattern, "*"; in this order), and a contradiction."""
    for name in (task, group):
        if name is not None and name in rules:
            return name, None
    matching = [name for name in rules if name != ALL and fnmatchcase(task, name)]
    if len({rules[name] for name in matching}) > 1:
        listed = " and ".join(f"tasks.{name}" for name in matching)
        return matching[0], f"{listed} match task {task} with different rules: name the task itself"
    return next(iter([*matching, *([ALL] if ALL in rules else [])]), None), None


def _wrong_margins(policy: Policy, found: Sequence[Demand], tasks: Sequence[TaskInfo]) -> Iterator[Mistake]:
    """Margins in a unit that the metric of a task, or every metric of several tasks, does not have."""
    names = {info.name for info in tasks}
    for name, rule in policy.tasks.items():
        ruled = [info for info, demand in zip(tasks, found, strict=True) if demand.rule == name]
        own, ranged = rule.margin_own_unit, all(info.bounds for info in ruled)
        if name not in names and ruled and own and ranged:
            said = f"tasks.{name}: the metrics of its tasks have ranges, so its margin is a share: margin"
            yield "wrong-margin", said
        for info in ruled if name in names else ():
            if info.bounds is None and rule.margin is not None and own is None:
                said = f"tasks.{name}: {info.metric} has no range, so its margin must be margin_own_unit"
                yield "wrong-margin", said
            elif info.bounds is not None and own is not None:
                low, high = info.bounds
                said = f"{info.metric} ranges from {low:g} to {high:g}, so its margin is a share: margin: "
                yield "wrong-margin", f"tasks.{name}: {said}{own / (high - low):g}"
