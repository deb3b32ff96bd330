"""From the rules of a policy to one requirement for every task that was measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from jobs.analysis.policy.schema import Mistake, Policy, Requirement, Rule
from jobs.formats.metrics import unused_requests
from jobs.formats.notices import some
from jobs.scores.score_set import TaskInfo
from orchestrator.errors import suggestion
from stats.results import Settings

ALL = "*"
UNNAMED = Rule(require="watched")


@dataclass(frozen=True)
class Demand:
    """What must hold on one task, or over all of them, with every default filled in.

    Attributes:
        task: its name; None for all tasks together that are not only watched.
        rule: the name of the rule in the policy; None where no rule names the task.
        require: what must hold.
        alpha: level of its damage test and of its certificate.
        margin: as a share of the metric's range.
        margin_own_unit: in the metric's own unit, for metrics without a range; None if not given.
        min_items: fewest items that must pair.
        max_missing: largest share of missing or failed samples of either model.
    """

    task: str | None
    rule: str | None
    require: Requirement
    alpha: float
    margin: float
    margin_own_unit: float | None
    min_items: int
    max_missing: float

    @property
    def blocks(self) -> bool:
        """Whether damage here can block the release."""
        return self.require != "watched"

    def asks_the_same(self, other: "Demand") -> bool:
        """Whether two demands differ in what they are called only."""
        return replace(self, task=other.task, rule=other.rule) == other


def demands(
    policy: Policy, settings: Settings, tasks: Sequence[TaskInfo], untested: Sequence[str] = ()
) -> tuple[list[Demand], list[Mistake]]:
    """One demand per task, then the one over all of them; and what is wrong with the policy.

    Args:
        policy: the rules.
        settings: level and margin where the policy has none.
        tasks: those that were measured, or were to be.
        untested: names of tasks without a number per sample, which rules may name.
    """
    mistakes = list(_unknown_tasks(policy, tasks, untested))
    found = []
    for info in tasks:
        name, clash = _rule_for(info.name, info.group, policy.tasks)
        if clash is not None:
            mistakes.append(("ambiguous-rules", clash))
        rule = UNNAMED if name is None else policy.tasks[name]
        if name == info.name:
            mistakes += _unit_mistakes(info, rule)
        found.append(_demand(info.name, name, rule, policy, settings))
    mistakes += _units_without_effect(policy, found, tasks)
    found.append(_demand(None, "overall", policy.overall, policy, settings))
    for place, rule in policy.places.items():
        if rule.alpha is not None and rule.alpha > settings.alpha:
            said = f"{place}: alpha {rule.alpha:g} is above the level of the whole policy, {settings.alpha:g}"
            mistakes.append(("alpha-too-large", said))
    if not mistakes and not any(demand.blocks for demand in found[:-1]):
        said = "the rules leave every measured task watched, so nothing could block a release"
        mistakes.append(("nothing-required", said))
    return found, mistakes


def _demand(task: str | None, name: str | None, rule: Rule, policy: Policy, settings: Settings) -> Demand:
    defaults = {
        "alpha": settings.alpha,
        "margin": settings.margin,
        "margin_own_unit": None,
        "min_items": policy.min_items,
        "max_missing": policy.max_missing,
    }
    return Demand(task, name, rule.require, **(defaults | rule.limits))


def requires_anything(policy: Policy, task: str) -> bool:
    """Whether a rule requires something of a task that could not be tested, whose group is unknown."""
    name, _ = _rule_for(task, None, policy.tasks)
    return name is not None and policy.tasks[name].require != "watched"


def _rule_for(task: str, group: str | None, rules: Mapping[str, Rule]) -> tuple[str | None, str | None]:
    """The rule of a task (by its name, its group's, a pattern, "*"; in this order), and a contradiction."""
    for name in (task, group):
        if name is not None and name in rules:
            return name, None
    matching = [name for name in rules if name != ALL and fnmatchcase(task, name)]
    if len({rules[name] for name in matching}) > 1:
        listed = " and ".join(f"tasks.{name}" for name in matching)
        return matching[0], f"{listed} match task {task} with different rules: name the task itself"
    return next(iter([*matching, *([ALL] if ALL in rules else [])]), None), None


def _unknown_tasks(policy: Policy, tasks: Sequence[TaskInfo], untested: Sequence[str]) -> Iterator[Mistake]:
    names = {info.name: info.group for info in tasks} | dict.fromkeys(untested)
    known = [*names, *(group for group in names.values() if group)]
    for name in unused_requests(dict.fromkeys(policy.tasks, ""), names):
        hint = suggestion(name, known) or f"; the tasks are {some(list(names), 20)}"
        yield "unknown-task", f"tasks.{name} matches no task{hint}"


def _unit_mistakes(info: TaskInfo, rule: Rule) -> Iterator[Mistake]:
    if info.bounds is None and rule.margin is not None and rule.margin_own_unit is None:
        said = f"tasks.{info.name}: {info.metric} has no range, so its margin must be margin_own_unit"
        yield "wrong-margin", said
    if info.bounds is not None and rule.margin_own_unit is not None:
        low, high = info.bounds
        share = rule.margin_own_unit / (high - low)
        said = f"{info.metric} ranges from {low:g} to {high:g}, so its margin is a share: margin: {share:g}"
        yield "wrong-margin", f"tasks.{info.name}: {said}"


def _units_without_effect(
    policy: Policy, found: Sequence[Demand], tasks: Sequence[TaskInfo]
) -> Iterator[Mistake]:
    """Rules for several tasks with a margin in the metric's own unit, where every metric has a range."""
    names = {info.name for info in tasks}
    for name, rule in policy.tasks.items():
        ruled = [info for info, demand in zip(tasks, found, strict=True) if demand.rule == name]
        if ruled and name not in names and rule.margin_own_unit and all(info.bounds for info in ruled):
            said = f"tasks.{name}: the metrics of its tasks have ranges, so its margin is a share: margin"
            yield "wrong-margin", said
