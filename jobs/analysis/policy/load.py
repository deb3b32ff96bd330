"""Reading a release policy; every mistake in it is named at once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.analysis.policy.reasons import Mistake, PolicyError
from jobs.analysis.policy.schema import Policy, Rule
from orchestrator.config.plain import unusable_values
from orchestrator.config.yaml_file import mistake_sentence, own_mistakes, read_mapping


def load_policy(source: str | Path | Mapping[str, Any]) -> Policy:
    """Read and check a policy as far as that is possible without knowing the tasks.

    Args:
        source: path of a YAML file, or its content.

    Raises:
        UserError: no such file, or not a YAML mapping.
        PolicyError: it names all mistakes.
    """
    raw, repeated = _content(source)
    where = "The policy" if isinstance(source, Mapping) else str(source)
    mistakes = [(Mistake.INVALID, text) for text in (*repeated, *unusable_values(raw))]
    if mistakes:
        raise PolicyError(where, mistakes)
    try:
        policy = Policy.model_validate(raw)
    except ValidationError as error:
        found = [(Mistake.INVALID, mistake_sentence(problem, Policy)) for problem in own_mistakes(error)]
        raise PolicyError(where, found) from None
    if contradictions := list(_contradictions(policy)):
        raise PolicyError(where, contradictions)
    return policy


def _content(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What a policy says, and its duplicate keys."""
    if isinstance(source, Mapping):
        return dict(source), []
    return read_mapping(Path(source), "a policy", "tasks and what they must show")


def _contradictions(policy: Policy) -> Iterator[tuple[Mistake, str]]:
    rules = {f"tasks.{name}": rule for name, rule in policy.tasks.items()} | {"overall": policy.overall}
    for place, rule in rules.items():
        yield from _without_effect(place, rule)
    if all(rule.require == "watched" for rule in policy.tasks.values()):
        said = "every task is only watched, so nothing could block a release; require something of one"
        yield Mistake.NOTHING_REQUIRED, said


def _without_effect(place: str, rule: Rule) -> Iterator[tuple[Mistake, str]]:
    if rule.require == "watched" and rule.limits:
        keys = ", ".join(rule.limits)
        said = f"{place} is only watched, so {keys} would have no effect: remove it, or require something"
        yield Mistake.NO_EFFECT, said
