"""A checked sweep: every mistake is found, and every prompt built, before anything is written or started.

Each check returns what it found together with the mistakes, one sentence each without a full stop, so that
all mistakes are reported in one round.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orchestrator.cluster.code_shipping import size_problem, unreadable_tasks
from orchestrator.config.load import load_config
from orchestrator.config.schema import LimitConfig, PromptConfig, SweepConfig, TaskConfig
from orchestrator.config.variants import Variant, resolve
from orchestrator.config.yaml_file import mistaken
from orchestrator.engines.base import COMMITS
from orchestrator.errors import UserError, error_text
from orchestrator.rundir.identity import digest
from orchestrator.rundir.manifest import package_versions, source_commit
from orchestrator.rundir.schema import FORMAT, Manifest, TaskEntry, VariantEntry
from orchestrator.rundir.store import RunStore
from orchestrator.sweep.blocks import reruns
from orchestrator.sweep.fit_to_machine import Fitted, fit_elsewhere, fit_to_this_machine
from orchestrator.sweep.item_subset import Subset, read_subset
from orchestrator.sweep.models import engine_versions, find_models, find_versions, versions_note
from orchestrator.sweep.prompts import PromptLengths, Template, chat_templates
from orchestrator.sweep.tasks import Requests, SweepTask, TaskError, TaskLibrary, set_up_lm_eval


@dataclass(frozen=True)
class Sweep:
    """A checked sweep, ready to be planned.

    Attributes:
        config: as the user gave it.
        variants: those that run, fitted to this machine if they run here.
        fitted: what was chosen and left out for this machine.
        tasks: leaf tasks by name.
        renderings: per variant, the name of its way to render prompts.
        built: requests by (rendering, task).
        subset: the items to run, None for all.
    """

    config: SweepConfig
    variants: dict[str, Variant]
    fitted: Fitted
    store: RunStore
    tasks: dict[str, SweepTask]
    renderings: dict[str, str]
    built: dict[tuple[str, str], Requests]
    subset: Subset | None = None

    @cached_property
    def lengths(self) -> PromptLengths:
        """Of its prompts."""
        return PromptLengths(self)

    @property
    def notes(self) -> list[str]:
        """A sentence for each decision that depends on this machine, and for each variant's own Python."""
        skipped = [f"{name} is skipped: {why}." for name, why in self.fitted.skipped.items()]
        pythons = [versions_note(variant) for variant in self.variants.values() if variant.versions]
        return [*self.fitted.notes, *skipped, *pythons]

    def manifest(self) -> Manifest:
        """What this sweep is made of."""
        manifest: Manifest = {
            "format": FORMAT,
            "name": self.config.name,
            "baseline": self.config.baseline,
            "versions": package_versions(),
            "commit": source_commit(),
            "hardware": {
                "machine": platform.machine(),
                "system": platform.platform(),
                "cpus": os.cpu_count(),
            },
            "software": {},  # replicas will report theirs
            "prompt": self.config.prompt.meaning(),
            "sampling": self.config.sampling.meaning(),  # temperatures and seeds are in each row and may grow
            "variants": {name: _variant_entry(variant) for name, variant in self.variants.items()},
            "skipped": self.fitted.skipped,
            "tasks": {name: self._task_entry(task) for name, task in self.tasks.items()},
        }
        if self.subset is not None:  # so that an analysis can refuse the runs that chose it
            origin = self.subset.chosen_by
            manifest["subset"] = {
                "digest": digest(dict(self.subset.items)),
                "chosen_by": None if origin is None else origin.model_dump(mode="json"),
            }
        return manifest

    def _task_entry(self, task: SweepTask) -> TaskEntry:
        entry: TaskEntry = {
            "digest": digest(task.definition),
            "group": task.spec.group,
            "output_type": task.output_type,
            "metric": task.scores.deciding_metric,
            "metrics": task.scores.metrics,
            "filters": task.scores.filters,
            "cluster": task.spec.cluster,
            "limit": task.spec.limit.model_dump(exclude_none=True) if task.spec.limit else None,
            "items": len(self.built[self.renderings[self.config.baseline], task.spec.task]),
            "reruns": [(r.temperature, r.seed) for r in reruns(self.config.sampling, sampled=task.sampled)],
            "definition": task.definition,
        }
        if own := task.spec.sampling.meaning():
            entry["sampling"] = own
        return entry


def _variant_entry(variant: Variant) -> VariantEntry:
    deciding = variant.kind.deciding()
    deciding.pop(COMMITS, None)  # a branch that moved is another commit, but no other option
    if variant.versions is not None:
        deciding["packages"] = engine_versions(variant)
    meaning = {"model": variant.model, "revision": variant.identity, "engine": deciding}
    entry: VariantEntry = {**meaning, "digest": digest([variant.name, meaning])}  # type: ignore[typeddict-item]
    if variant.commits:
        entry["commits"] = variant.commits
    return entry if variant.versions is None else {**entry, "versions": variant.versions}


def prepare(
    config_path: Path, *, overrides: Sequence[str] = (), run_dir: str | None = None, here: bool = True
) -> Sweep:
    """Check a sweep and build its prompts; nothing is written and no engine started.

    Args:
        config_path: the sweep's YAML file.
        overrides: `--set` arguments, "dotted.key=value".
        run_dir: the run directory, existing or new; default runs/<name>.
        here: whether it is to run on this machine, to whose hardware it is then fitted.

    Raises:
        UserError: every mistake found, in one text.
    """
    config, problems = load_config(config_path, overrides)
    if config is None:
        raise mistaken(config_path, problems)
    set_up_lm_eval()
    asked = resolve(config)
    fitted = (fit_to_this_machine if here else fit_elsewhere)(asked, config.baseline)
    problems += fitted.problems
    problems += [problem for variant in asked.values() for problem in engine_problems(variant, config.prompt)]
    found, missing_models = find_models({**asked, **fitted.variants})
    variants, mistaken_pythons = find_versions({name: found[name] for name in fitted.variants})
    baseline = found.get(config.baseline)
    subset, mistaken_items = read_items(config, baseline)
    tokenizer = None if baseline is None else asked[config.baseline].tokenizer.name or None
    library = TaskLibrary(config.include_path, config.confirm_run_unsafe_code, tokenizer)
    store = RunStore(f"runs/{config.name}" if run_dir is None else run_dir)
    recorded = store.read_manifest()["tasks"] if store.has_run() else {}
    tasks, mistaken_tasks = load_tasks(config, library, subset, recorded)
    templates, renderings, missing_templates = chat_templates(variants, config.prompt)
    built, broken_prompts = build_prompts(config.prompt, tasks, templates)
    problems += [*missing_models, *mistaken_pythons, *mistaken_items, *mistaken_tasks]
    problems += [*unanswerable(variants, config.prompt, tasks), *missing_templates, *broken_prompts]
    problems += store.name_problems(config.variants, tasks)
    if not here and (too_large := size_problem(config.include_path)):
        problems.append(too_large)
    sweep = Sweep(config, variants, fitted, store, tasks, renderings, built, subset)
    if config.prompt.overflow == "refuse" and not problems:
        problems += sweep.lengths.refusals()
    if problems:
        raise mistaken(config_path, problems)
    return sweep


def engine_problems(variant: Variant, prompt: PromptConfig) -> list[str]:
    """What is wrong with the engine options of a variant."""
    if variant.kind.takes_messages and prompt.apply_chat_template is not True:
        why = (
            "its server chooses the chat template"
            if prompt.apply_chat_template
            else ("chat endpoints need conversations")
        )
        problems = [f"{why}: set prompt.apply_chat_template: true"]
    else:
        problems = [*variant.kind.problems(), *_node_problems(variant)]
    return [f"variants.{variant.name}: {problem}" for problem in problems]


def _node_problems(variant: Variant) -> Iterator[str]:
    """Why an engine cannot be spread over as many nodes as asked for."""
    nodes, kind = variant.cluster.nodes_per_replica or 1, variant.kind
    workers, gpus = kind.gpus, variant.cluster.gpus_per_replica
    if nodes > 1 and not kind.spans_nodes:
        yield f"nodes_per_replica: an engine of the installed {kind.name} runs on one node only"
    elif workers % nodes:
        yield (
            f"nodes_per_replica: {nodes} nodes cannot share {workers} worker{'s' * (workers > 1)} evenly; "
            "set tensor_parallel_size or pipeline_parallel_size to a multiple"
        )
    elif nodes > 1 and gpus not in (None, 0, workers):
        yield f"gpus_per_replica: an engine over {nodes} nodes takes a GPU for each of its {workers} workers"


def read_items(config: SweepConfig, baseline: Variant | None) -> tuple[Subset | None, list[str]]:
    """The items to run, unless they were chosen by the very runs that are now to be tested on them."""
    if config.items is None:
        return None, []
    try:
        subset = read_subset(Path(config.items))
        if baseline is not None and baseline.identity and subset.chosen_by is not None:
            runs = [(rerun.temperature, rerun.seed) for rerun in reruns(config.sampling, sampled=True)]
            name = f"items: {config.items}"
            subset.chosen_by.refuse_reused(baseline.model, baseline.identity, runs, name)
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
        spec = leaf if subset is None else leaf.model_copy(update={"items": subset.items.get(leaf.task)})
        old = recorded.get(leaf.task)
        if spec.limit is not None and old is not None and "first" in (old.get("limit", {"first": 0}) or {}):
            first = LimitConfig(first=spec.limit.items)  # as all runs of older versions
            spec = spec.model_copy(update={"limit": first})
        if spec.task in tasks:
            problems.append(f"task '{spec.task}' is listed twice, the second time through '{entry.task}'")
            continue
        try:
            task = tasks[spec.task] = library.open(spec)
        except TaskError as error:
            problems.append(str(error))
            continue
        if spec.metric is not None and (why := task.scores.why_untestable(spec.metric)):
            problems.append(f"task '{spec.task}' has {why}")
    return problems


def unanswerable(
    variants: Mapping[str, Variant], prompt: PromptConfig, tasks: Mapping[str, SweepTask]
) -> list[str]:
    """Tasks that an engine cannot answer with any model, and those that leave no room for thinking."""
    likelihoods = [name for name, task in tasks.items() if not task.sampled]
    thoughtless = [
        f"task '{name}' asks for log-likelihoods, which leave no room for thinking: remove it, or "
        "prompt.enable_thinking"
        for name in likelihoods
        if prompt.enable_thinking
    ]
    return thoughtless + [
        f"variants.{variant.name}: chat endpoints return no log-likelihoods, which task '{name}' needs"
        for variant in variants.values()
        if variant.kind.takes_messages
        for name in likelihoods
    ]


def build_prompts(
    prompt: PromptConfig, tasks: Mapping[str, SweepTask], templates: Mapping[str, Template]
) -> tuple[dict[tuple[str, str], Requests], list[str]]:
    """The requests of every task in every rendering."""
    built: dict[tuple[str, str], Requests] = {}
    problems: dict[str, str] = {}  # by task: it fails in the same way in every rendering
    for rendering, template in templates.items():
        draws = {id(task.draws): task.draws.copy() for task in tasks.values()}  # the same in every rendering
        for name, task in tasks.items():
            try:
                with draws[id(task.draws)]:
                    items = built[rendering, name] = task.build(prompt, template, rendering)
                for requests in items.values():
                    task.cluster_of(requests[0].doc)
            except TaskError as error:
                problems.setdefault(name, str(error))
            except (ValueError, KeyError, TypeError) as error:
                problems.setdefault(
                    name, f"the prompts of task '{name}' cannot be built: {error_text(error)}"
                )
    return built, list(problems.values())
