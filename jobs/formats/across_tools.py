"""Comparing what different tools wrote, or by prompts: which items, tasks and metrics are the same.

Tools hash prompts and documents each in their own way, and one writes the identifier 7 where another writes
"7"; here both are brought to one form. What has one name in all inputs keeps it. Where each input has a
single task, it is the same one; where the inputs have no metric of a task in common, each is tested on its
own, provided that not one of them is better when higher and another when lower.
"""

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from jobs.formats.json_files import text_hash
from jobs.formats.log_tables import LogTask, gather
from jobs.formats.metrics import known_direction, requested
from jobs.formats.names import all_origins
from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import Evaluation, InputQuery, ItemId, PairBy, SampleBatch
from orchestrator.errors import UserError

Places = Sequence[Sequence[Evaluation]]
Names = Mapping[str, str]  # what the tasks of one input are called in the comparison, by own name
Metrics = Mapping[str, tuple[str, str]]
"""Own metric of one input and that of the comparison, where they differ, by task of the comparison."""
SYSTEM = "system"


def gather_aligned(
    given: Sequence[str | None], labels: Sequence[str], places: Places, query: InputQuery, by: PairBy
) -> tuple[dict[str, LogTask], dict[str, str], list[Notice]]:
    """Read all evaluations of each path, and a second time where tasks or metrics must be renamed.

    What the user calls the task of a path is `given`.

    Returns:
        The samples by task, the metric of the tasks that each input is tested on with its own, and what was
        taken to be the same under different names.
    """
    tasks = gather(_keyed(places, by, [({}, {})] * len(places)), query)
    names = _task_names(given, tasks)
    metrics = _metrics(names, tasks, query.metrics)
    notices = []
    for label, of_place, of_metrics in zip(labels, names, metrics, strict=True):
        said = [f"task {own} as {name}" for own, name in of_place.items() if own != name]
        said += [f"{task} by {own}" for task, (own, _) in of_metrics.items()]
        if said:
            text = f"{label} is compared under other names: {', '.join(said)}."
            notices.append(Notice(NoticeCode.OTHER_NAMES, text))
    if notices:
        tasks = gather(_keyed(places, by, list(zip(names, metrics, strict=True))), query)
    chosen = {task: common for of_metrics in metrics for task, (_, common) in of_metrics.items()}
    return tasks, chosen, notices


def repeats_a_prompt(item: ItemId) -> bool:
    """Whether an item that is named by its prompt is not the first one with this prompt."""
    return " " in str(item)


def _task_names(given: Sequence[str | None], tasks: Mapping[str, LogTask]) -> list[Names]:
    """By place, what each of its tasks is called in the comparison."""
    own = [
        [name for name, task in tasks.items() if any(origin[0] == place for origin in task.origins)]
        for place in range(len(given))
    ]
    stated = {(place, model) for place, _, model in all_origins(tasks) if model is not None}
    if all(len(names) == 1 for names in own):
        if any(given):
            return [{names[0]: name or names[0]} for name, names in zip(given, own, strict=True)]
        if len({model for _, model in stated}) == len(stated):
            return [{names[0]: own[0][0]} for names in own]
    return [{name: name for name in names} for names in own]


def _metrics(names: Sequence[Names], tasks: Mapping[str, LogTask], asked: Names) -> list[Metrics]:
    """By place, the metrics of the tasks of which the places have none in common.

    The name in the comparison is that of a metric without a known direction, if there is one.

    Raises UserError if directions differ.
    """
    metrics: list[dict[str, tuple[str, str]]] = [{} for _ in names]
    for common in dict.fromkeys(name for of_place in names for name in of_place.values()):
        own: dict[int, list[str]] = {}
        task_at: dict[int, LogTask] = {}
        for place, of_place in enumerate(names):
            for task in (tasks[task] for task, name in of_place.items() if name == common):
                held = {number for origin, number in task.origins.items() if origin[0] == place}
                own[place] = [metric for metric in task.numeric_metrics if task.metrics[metric] & held]
                task_at[place] = task
        if set.intersection(*map(set, own.values())) or not all(own.values()):
            continue
        wanted = requested(common, None, asked)
        chosen = {place: wanted if wanted in numeric else numeric[0] for place, numeric in own.items()}
        ups = dict[bool | None, str]()
        for place, metric in chosen.items():
            stated = task_at[place].stated(metric).higher_is_better
            ups.setdefault(known_direction(metric, common, stated), metric)
        if ups.keys() >= {True, False}:
            raise UserError(
                f"The models were scored in different ways on task {common} and cannot be paired: higher is "
                f"better for {ups[True]}, and lower for {ups[False]}."
            )
        for place, metric in chosen.items():
            metrics[place][common] = (metric, ups.get(None, next(iter(ups.values()))))
    return list(metrics)


def _keyed(places: Places, by: PairBy, renamings: Sequence[tuple[Names, Metrics]]) -> Places:
    """Evaluations whose items, prompts, tasks and metrics are named as in the other inputs."""
    return [
        [replace(evaluation, read=partial(_read, evaluation, by, *renaming)) for evaluation in place]
        for place, renaming in zip(places, renamings, strict=True)
    ]


def _read(
    evaluation: Evaluation, by: PairBy, names: Names, metrics: Metrics, query: InputQuery
) -> Iterator[SampleBatch]:
    twins: dict[Hashable, dict[ItemId, int]] = {}
    for batch in evaluation.batches(replace(query, prompts=True)):
        columns = {name: column for name, column in batch.columns.items() if name != "doc_hash"}
        keys = [_prompt_key(prompt) for prompt in columns.get("prompt", [None] * len(batch.items))]
        columns["prompt_hash"] = keys
        if "prompt" not in query.wanted:
            columns.pop("prompt", None)
        # A number where a tool writes one as a text
        items = [
            int(item) if isinstance(item, str) and item.isdecimal() and str(int(item)) == item else item
            for item in batch.items
        ]
        if by == "prompt":
            items = []
            for item, prompt in zip(batch.items, keys, strict=True):
                if prompt is None:
                    label = evaluation.label
                    raise UserError(
                        f"{label} has no prompt of item {item}, so its items cannot pair by prompt."
                    )
                of_prompt = twins.setdefault((batch.task.model, batch.task.name, prompt), {})
                number = of_prompt.setdefault(item, len(of_prompt))
                items.append(f"{prompt} {number + 1}" if number else prompt)  # later ones are numbered
        task = replace(batch.task, name=names.get(batch.task.name, batch.task.name))
        scores, others = batch.scores, batch.not_numbers
        if task.name in metrics:
            own, common = metrics[task.name]
            stated = {common: task.stated[own]} if own in task.stated else {}
            if own != common and stated:  # the direction is that of the common one
                stated[common] = replace(stated[common], higher_is_better=None)
            task = replace(task, preferred=(common,), stated=stated)
            scores = {common: scores[own]} if own in scores else {}
            others = frozenset({common}) if own in others else frozenset()
        yield replace(batch, task=task, items=items, scores=scores, columns=columns, not_numbers=others)


def _prompt_key(prompt: str | None) -> str | None:
    """Hash of the texts of a prompt, however it is spaced and whether or not it is in messages.

    None where there is no text: all items without one would be the same.
    """
    if prompt is None:
        return None
    texts = [prompt]
    if prompt.startswith("["):  # of messages, [{"role", "content"}] or [[role, content]], but the system's
        with suppress(ValueError, LookupError, TypeError):
            messages = json.loads(prompt)
            pairs = [(m["role"], m["content"]) if isinstance(m, dict) else (m[0], m[1]) for m in messages]
            contents = [
                parts if isinstance(parts, list) else [parts] for role, parts in pairs if role != SYSTEM
            ]
            texts = [
                " ".join(str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in parts)
                for parts in contents
            ]
    words = " ".join(texts).split()
    return text_hash(" ".join(words)) if words else None
