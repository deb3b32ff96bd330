"""The checks of a sweep before it runs.

Each returns what it found together with the mistakes, one sentence each without a full stop, so that all
mistakes are reported in one round.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cluster.task_files import unreadable_tasks
from orchestrator.config.schema import LimitConfig
from orchestrator.engines import kind_of
from orchestrator.engines.base import COMMITS, LORA
from orchestrator.errors import UserError, error_text
from orchestrator.sweep.blocks import reruns
from orchestrator.sweep.item_subset import read_subset, refuse_reused
from orchestrator.sweep.model_identity import (
    FoundModel,
    ModelNotFoundError,
    commit_of,
    model_revision,
    with_adapter,
)
from orchestrator.sweep.prompts.chat_template import ChatMessages, ChatTemplate
from orchestrator.sweep.tasks import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.config.schema import ReplicaConfig, SweepConfig, TaskConfig
    from orchestrator.rundir.schema import TaskEntry
    from orchestrator.sweep.item_subset import Subset
    from orchestrator.sweep.tasks import SweepTask, TaskItems, TaskLibrary

    Finder = Callable[[str, str | None], str]
    """The identity of a model, or the commit of a repository, by its name and the revision asked for."""

    Template = ChatTemplate | ChatMessages | None
    """The chat template, which renders a conversation as text; None without one."""

PLAIN = "plain"  # the rendering of prompts without a chat template


def engine_problems(config: SweepConfig, variant: str) -> list[str]:
    """What is wrong with the engine options of a variant."""
    options = config.engine_of(variant)
    kind = kind_of(options)
    if kind.takes_messages(options) and not config.prompt.apply_chat_template:
        return [
            f"variants.{variant}: chat endpoints need conversations: set prompt.apply_chat_template: true"
        ]
    if kind.takes_messages(options) and isinstance(config.prompt.apply_chat_template, str):
        return [
            f"variants.{variant}: its server chooses the chat template: set prompt.apply_chat_template: true"
        ]
    problems = [*kind.problems(options), *_node_problems(config.cluster_of(variant), options)]
    return [f"variants.{variant}: {problem}" for problem in problems]


def _node_problems(cluster: ReplicaConfig, options: Mapping[str, Any]) -> Iterator[str]:
    """Why an engine cannot be spread over as many nodes as asked for."""
    nodes, kind = cluster.nodes_per_replica or 1, kind_of(options)
    workers, gpus = kind.gpus(options), cluster.gpus_per_replica
    if nodes > 1 and not kind.spans_nodes(options):
        yield f"nodes_per_replica: an engine of the installed {kind.name} runs on one node only"
    elif workers % nodes:
        yield (
            f"nodes_per_replica: {nodes} nodes cannot share {workers} worker{'s' * (workers > 1)} evenly; "
            "set tensor_parallel_size or pipeline_parallel_size to a multiple"
        )
    elif nodes > 1 and gpus not in (None, 0, workers):
        yield f"gpus_per_replica: an engine over {nodes} nodes takes a GPU for each of its {workers} workers"


def find_models(config: SweepConfig) -> tuple[dict[str, FoundModel], list[str]]:
    """Each variant's model; a branch that moves from now on moves for no replica and no chat template."""
    found: dict[str, FoundModel] = {}
    problems: list[str] = []
    identity_of, commit_at = cache(model_revision), cache(commit_of)  # as most variants have the same model
    for variant in config.variants:
        if not config.model_of(variant):
            continue  # already reported
        try:
            found[variant] = _find_model(config, variant, identity_of, commit_at)
        except ModelNotFoundError as error:
            problems.append(f"variants.{variant}: {error}")
    return found, problems


def _find_model(config: SweepConfig, variant: str, identity_of: Finder, commit_at: Finder) -> FoundModel:
    model, asked, options = config.model_of(variant), config.revision_of(variant), config.engine_of(variant)
    kind, commits = kind_of(options), {}
    for option, name, at in kind.repositories(options, model):
        own = name == model
        try:
            if not Path(name).is_dir():
                commits[option] = (identity_of if own else commit_at)(name, at or (asked if own else None))
        except ModelNotFoundError as error:
            if not kind.served:  # else the name may be the server's alone
                raise ModelNotFoundError(f"engine.{option}: {error}") from None
    if kind.served:
        return FoundModel(model, asked, commits)
    identity = identity_of(model, asked)
    commit = None if Path(model).is_dir() else identity
    return FoundModel(with_adapter(identity, options.get(LORA)), commit, commits)


def pinned(config: SweepConfig, models: Mapping[str, FoundModel]) -> SweepConfig:
    """A sweep in which every model and tokenizer of the hub is named by its commit."""
    variants = {
        name: entry.model_copy(
            update={
                "revision": models[name].commit,
                "engine": {**entry.engine, **({COMMITS: found} if (found := models[name].commits) else {})},
            }
        )
        if name in models
        else entry
        for name, entry in config.variants.items()
    }
    return config.model_copy(update={"variants": variants})


def read_items(config: SweepConfig, models: Mapping[str, FoundModel]) -> tuple[Subset | None, list[str]]:
    """The items to run, unless they were chosen by the very runs that are now to be tested on them."""
    if config.items is None:
        return None, []
    try:
        subset = read_subset(Path(config.items))
        if config.baseline in models:
            model, revision = config.model_of(config.baseline), models[config.baseline].identity
            runs = [(rerun.temperature, rerun.seed) for rerun in reruns(config.sampling, sampled=True)]
            refuse_reused(subset.chosen_by, model, revision, runs, f"items: {config.items}")
    except UserError as error:
        return None, [str(error).removesuffix(".")]
    return subset, []


def load_tasks(
    config: SweepConfig, library: TaskLibrary, subset: Subset | None, recorded: Mapping[str, TaskEntry]
) -> tuple[dict[str, SweepTask], list[str]]:
    """The leaf tasks by name.

    Args:
        config: the sweep.
        library: finds tasks.
        subset: the items to run; None for all.
        recorded: the tasks of the run that the sweep continues.
    """
    tasks: dict[str, SweepTask] = {}
    if not all(Path(folder).is_dir() for folder in config.include_path):
        return tasks, []  # reported; which tasks the missing folder has is not known
    if problems := unreadable_tasks(config.include_path):
        return tasks, problems
    once = {entry.task: entry for entry in reversed(config.tasks)}  # a name listed twice has been reported
    for entry in reversed(once.values()):
        problems += _load_task(entry, library, subset, recorded, tasks)
    if subset is not None and tasks and not set(subset.items) & set(tasks):
        problems.append(f"items: {config.items} names none of the sweep's tasks")
    return tasks, problems


def _load_task(
    entry: TaskConfig,
    library: TaskLibrary,
    subset: Subset | None,
    recorded: Mapping[str, TaskEntry],
    tasks: dict[str, SweepTask],
) -> list[str]:
    """Add the leaves of one configured task."""
    if unknown := library.unknown(entry.task):
        return [unknown]
    try:
        leaves = library.leaves(entry)
    except TaskError as error:
        return [str(error)]
    problems: list[str] = []
    for leaf in leaves:
        spec = leaf if subset is None else replace(leaf, items=subset.items.get(leaf.name))
        if spec.limit is not None and takes_first(recorded.get(leaf.name)):
            spec = replace(spec, limit=LimitConfig(first=spec.limit.items))
        if spec.name in tasks:
            problems.append(f"task '{spec.name}' is listed twice, the second time through '{entry.task}'")
            continue
        try:
            task = tasks[spec.name] = library.open(spec)
        except TaskError as error:
            problems.append(str(error))
            continue
        if spec.metric is not None and (why := task.scores.why_untestable(spec.metric)):
            problems.append(f"task '{spec.name}' has {why}")
    return problems


def takes_first(recorded: TaskEntry | None) -> bool:
    """Whether a run limits a task to its first items, as all runs of older versions do."""
    return recorded is not None and "first" in (recorded.get("limit", {"first": None}) or {})


def unanswerable(config: SweepConfig, tasks: Mapping[str, SweepTask]) -> list[str]:
    """Tasks that an engine cannot answer with any model, and those that leave no room for thinking."""
    thoughtless = [
        f"task '{name}' asks for log-likelihoods, which leave no room for thinking: remove it, or "
        "prompt.enable_thinking"
        for name, task in tasks.items()
        if config.prompt.enable_thinking and not task.sampled
    ]
    return thoughtless + [
        f"variants.{variant}: chat endpoints return no log-likelihoods, which task '{name}' needs"
        for variant in config.variants
        if kind_of(config.engine_of(variant)).takes_messages(config.engine_of(variant))
        for name, task in tasks.items()
        if not task.sampled
    ]


def chat_templates(config: SweepConfig) -> tuple[dict[str, Template], dict[str, str], list[str]]:
    """The ways to render prompts by name, the name each variant uses, and mistakes; equal ones are one."""
    if not config.prompt.apply_chat_template:
        return {PLAIN: None}, dict.fromkeys(config.variants, PLAIN), []
    templates: dict[str, Template] = {}
    renderings: dict[str, str] = {}
    problems: list[str] = []
    for variant in config.variants:
        if not config.model_of(variant):
            continue  # already reported
        try:
            template = _chat_template(config, variant)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            problems.append(f"variants.{variant}: its chat template could not be loaded: {reason}")
            continue
        templates[template.name] = template
        renderings[variant] = template.name
    return templates, renderings, problems


def _chat_template(config: SweepConfig, variant: str) -> ChatTemplate | ChatMessages:
    options = config.engine_of(variant)
    kind = kind_of(options)
    if kind.takes_messages(options):
        return ChatMessages()
    tokenizer = kind.tokenizer(options, config.model_of(variant), config.revision_of(variant))
    asked = config.prompt.apply_chat_template
    return ChatTemplate(
        tokenizer.name,
        tokenizer.revision,
        trust_remote_code=tokenizer.trusted,
        arguments=config.prompt.template_arguments,
        chosen=asked if isinstance(asked, str) else None,
    )


def build_prompts(
    config: SweepConfig, tasks: Mapping[str, SweepTask], templates: Mapping[str, Template]
) -> tuple[dict[tuple[str, str], TaskItems], list[str]]:
    """The requests of every task in every rendering."""
    built: dict[tuple[str, str], TaskItems] = {}
    problems: dict[str, str] = {}  # by task: it fails in the same way in every rendering
    for rendering, template in templates.items():
        draws = {id(task.draws): task.draws.copy() for task in tasks.values()}  # the same in every rendering
        for name, task in tasks.items():
            try:
                with draws[id(task.draws)]:
                    items = built[rendering, name] = task.build(config.prompt, template, rendering)
                for requests in items.requests.values():
                    task.cluster_of(requests[0].doc)
            except TaskError as error:
                problems.setdefault(name, str(error))
            except (ValueError, KeyError, TypeError) as error:
                problems.setdefault(
                    name, f"the prompts of task '{name}' cannot be built: {error_text(error)}"
                )
    return built, list(problems.values())
