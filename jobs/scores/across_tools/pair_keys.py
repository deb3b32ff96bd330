"""What tells that items are the same: identifiers, or the texts of prompts.

Tools hash prompts and documents each in their own way, and one writes the identifier 7 where another writes
"7". Here both are brought to one form.
"""

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from jobs.formats.samples import Evaluation, ItemId, PairBy, Query, SampleBatch, text_hash
from orchestrator.errors import UserError

SYSTEM = "system"


@dataclass(frozen=True)
class Renaming:
    """What the tasks and metrics of one input are called in the comparison, where their own names differ.

    Attributes:
        tasks: name in the comparison by own name.
        metrics: (own metric, metric in the comparison) by name of the task in the comparison.
    """

    tasks: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, tuple[str, str]] = field(default_factory=dict)


AS_NAMED = Renaming()


def keyed(evaluation: Evaluation, by: PairBy, renaming: Renaming = AS_NAMED) -> Evaluation:
    """An evaluation whose items, prompts, tasks and metrics are named as in the other inputs.

    Args:
        evaluation: as its tool wrote it.
        by: what pairs its items.
        renaming: of tasks and metrics.
    """
    return replace(evaluation, read=partial(_read, evaluation, by, renaming))


def _read(evaluation: Evaluation, by: PairBy, renaming: Renaming, query: Query) -> Iterator[SampleBatch]:
    twins: dict[Hashable, dict[ItemId, int]] = {}
    for batch in evaluation.read(replace(query, prompts=True)):
        prompts = None if batch.prompts is None else [_prompt_key(prompt) for prompt in batch.prompts]
        if by == "id":
            items: Sequence[ItemId] = [_plain_id(item) for item in batch.items]
        else:
            items = _by_prompt(batch, prompts, evaluation.label, twins)
        keyed_batch = replace(
            batch,
            items=items,
            prompt_hashes=prompts,
            doc_hashes=None,
            prompts=batch.prompts if query.needs_prompts else None,
        )
        yield _renamed(keyed_batch, renaming)


def _plain_id(item: ItemId) -> ItemId:
    """A number where a tool writes one as a text."""
    is_number = isinstance(item, str) and item.isdecimal() and str(int(item)) == item
    return int(item) if is_number else item


def _by_prompt(
    batch: SampleBatch,
    prompts: Sequence[str | None] | None,
    label: str,
    twins: dict[Hashable, dict[ItemId, int]],
) -> list[ItemId]:
    """The hash of its prompt for each item; of several items with one prompt, the later ones are numbered."""
    found: list[ItemId] = []
    for i, item in enumerate(batch.items):
        prompt = prompts[i] if prompts is not None else None
        if prompt is None:
            raise UserError(f"{label} has no prompt of item {item}, so its items cannot pair by prompt.")
        of_prompt = twins.setdefault((batch.model, batch.task.name, prompt), {})
        number = of_prompt.setdefault(item, len(of_prompt))
        found.append(f"{prompt} {number + 1}" if number else prompt)
    return found


def repeats_a_prompt(item: ItemId) -> bool:
    """Whether an item that is named by its prompt is not the first one with this prompt."""
    return " " in str(item)


def _prompt_key(prompt: str | None) -> str | None:
    """Hash of the texts of a prompt, however it is spaced and whether or not it is in messages.

    None where there is no text: all items without one would be the same.
    """
    if prompt is None:
        return None
    texts = _messages(prompt) if prompt.startswith("[") else None
    words = " ".join([prompt] if texts is None else texts).split()
    return text_hash(" ".join(words)) if words else None


def _messages(prompt: str) -> list[str] | None:
    """Texts of messages, [{"role", "content"}] or [[role, content]], but the system's; None if not such."""
    try:
        messages = json.loads(prompt)
        pairs = [(m["role"], m["content"]) if isinstance(m, dict) else (m[0], m[1]) for m in messages]
    except (ValueError, LookupError, TypeError):
        return None
    return [_content(content) for role, content in pairs if role != SYSTEM]


def _content(content: object) -> str:
    parts = content if isinstance(content, list) else [content]
    return " ".join(str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in parts)


def _renamed(batch: SampleBatch, renaming: Renaming) -> SampleBatch:
    name = renaming.tasks.get(batch.task.name, batch.task.name)
    if name not in renaming.metrics:
        return replace(batch, task=replace(batch.task, name=name))
    own, common = renaming.metrics[name]
    stated = {common: batch.task.stated[own]} if own in batch.task.stated else {}
    return replace(
        batch,
        task=replace(batch.task, name=name, preferred=(common,), stated=stated),
        scores={common: batch.scores[own]} if own in batch.scores else {},
        not_numbers=frozenset({common}) if own in batch.not_numbers else frozenset(),
    )
