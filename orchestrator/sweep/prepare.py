"""A checked sweep: every mistake is found, and every prompt built, before anything is written or started.

Each check adds the mistakes that it finds to a list, one sentence each without a full stop, so that all of
them are reported in one round.
"""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from pathlib import Path

from orchestrator.cluster.code_shipping import size_problem, unreadable_tasks
from orchestrator.config.load import Variant, load_config, resolve
from orchestrator.config.schema import LimitConfig, PromptConfig, SweepConfig
from orchestrator.config.yaml_file import mistaken
from orchestrator.engines.base import COMMITS
from orchestrator.errors import UserError, counted, error_text
from orchestrator.rundir.identity import digest
from orchestrator.rundir.manifest import package_versions, source_commit
from orchestrator.rundir.schema import FORMAT, Manifest, TaskEntry, VariantEntry
from orchestrator.rundir.store import RunStore
from orchestrator.sweep.blocks import reruns
from orchestrator.sweep.fit_to_machine import Fitted
from orchestrator.sweep.item_subset import Subset, read_subset
from orchestrator.sweep.models import engine_versions, find_models, find_versions
from orchestrator.sweep.prompts import Lengths, Template, chat_templates, encoding_and_room
from orchestrator.sweep.tasks import Requests, SweepTask, TaskError, TaskLibrary, set_up_lm_eval


@dataclass(frozen=True)
class Sweep:
    """A checked sweep, ready to be planned."""

    config: SweepConfig  # as the user gave it
    variants: dict[str, Variant]  # those that run, fitted to this machine if they run here
    fitted: Fitted  # what was chosen and left out for this machine
    store: RunStore
    tasks: dict[str, SweepTask]  # leaf tasks by name
    renderings: dict[str, str]  # per variant, the name of its way to render prompts
    built: dict[tuple[str, str], Requests]  # by (rendering, task)
    subset: Subset | None = None  # the items to run, None for all
    _measured: dict[tuple[object, ...], Lengths] = field(default_factory=dict)  # equal ones once

    def lengths(self, name: str, task: str) -> Lengths:
        """The lengths of the prompts of a task for a variant."""
        variant, place = self.variants[name], (self.renderings[name], task)
        items = list(self.built[place].values())
        default = variant.options.get("max_gen_toks")
        default = default if isinstance(default, int) else None
        answer = self.tasks[task].longest_answer(self.config.sampling, default)
        encoding, room = encoding_and_room(variant, items[0][0].request_type, answer)
        key = (*place, id(encoding), answer, room)
        if key not in self._measured:
            self._measured[key] = Lengths(items, encoding, answer, room)
        return self._measured[key]

    def too_long(self) -> Iterator[str]:
        """Prompts that do not fit, a sentence without its full stop for each task."""
        for task in self.tasks:
            lengths = {variant: self.lengths(variant, task) for variant in self.variants}
            if variants := [name for name, one in lengths.items() if one.too_long]:
                worst = max((lengths[name] for name in variants), key=lambda one: one.excess)
                yield (
                    f"task '{task}': {worst.too_long:,} of {worst.items:,} prompts do not fit for "
                    f"{', '.join(variants)}, the longest by {worst.excess:,} tokens"
                )

    @cached_property
    def scored_items(self) -> dict[str, int]:
        """Of how many items variants score the baseline's answers, by task; none where items have several."""
        if (asked := self.config.fidelity) is None:
            return {}
        sizes = {}
        for name, task in self.tasks.items():
            items = self.built[self.renderings[self.config.baseline], name].values()
            if task.sampled and all(len(one) == 1 and (one[0].repeats or 1) == 1 for one in items):
                sizes[name] = len(items)
        most = sum(sizes.values())
        return {name: ceil(size * min(asked.items, most) / most) for name, size in sizes.items()}

    @property
    def notes(self) -> list[str]:
        """A sentence for each decision that depends on this machine, and for each variant's own Python."""
        notes = [*self.fitted.notes]
        notes += [f"{name} is skipped: {why}." for name, why in self.fitted.skipped.items()]
        for name, variant in self.variants.items():
            if variant.versions:
                listed = ", ".join(f"{package} {one}" for package, one in engine_versions(variant).items())
                engine = listed or "its engine is not installed there"
                notes.append(f"{name} runs in {variant.python}: {engine}.")
            elif variant.image and not variant.kind.served:
                notes.append(f"{name} runs in the image {variant.image}.")
        if self.config.fidelity and not any(own.control for own in self.config.variants.values()):
            notes.append(
                "fidelity will only be described: to test it, make a variant a control (control: true)."
            )
        return notes

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
        if self.config.fidelity is not None:
            temperatures = {rerun.temperature for rerun in reruns(self.config.sampling, sampled=True)}
            scored = sum(self.scored_items.values()) * len(temperatures)
            manifest["fidelity"] = {"top": self.config.fidelity.top, "samples": scored}
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

    `overrides` are `--set` arguments, "dotted.key=value"; the run directory, existing or new, is by default
    runs/<name>. A sweep that is to run `here` is fitted to this machine's hardware. A UserError names every
    mistake found, in one text.
    """
    config, problems = load_config(config_path, overrides)
    if config is None:
        raise mistaken(config_path, problems)
    set_up_lm_eval()
    asked = resolve(config)
    fitted = Fitted(asked, config.baseline, here=here)
    problems += [*fitted.problems, *_image_problems(asked, here=here)]
    problems += [problem for variant in asked.values() for problem in engine_problems(variant, config.prompt)]
    found = find_models({**asked, **fitted.variants}, problems)
    variants = find_versions({name: found[name] for name in fitted.variants}, problems)
    baseline = found.get(config.baseline)
    subset = _read_items(config, baseline, problems)
    tokenizer = None if baseline is None else asked[config.baseline].kind.tokenizer.name or None
    library = TaskLibrary(config.include_path, config.confirm_run_unsafe_code, tokenizer)
    store = RunStore(f"runs/{config.name}" if run_dir is None else run_dir)
    recorded = store.read_manifest()["tasks"] if store.has_run() else {}
    tasks = _load_tasks(config, library, subset, recorded, problems)
    problems += _unanswerable(variants, config.prompt, tasks)
    if config.fidelity:
        problems += [
            f"variants.{name}: its engine does not tell log-probabilities of given answers, which fidelity "
            "needs (kind vllm does, and servers of completions that echo a prompt): remove it, or fidelity"
            for name, variant in variants.items()
            if not variant.kind.scores_tokens
        ]
    templates, renderings = chat_templates(variants, config.prompt, problems)
    built = _build_prompts(config.prompt, tasks, templates, problems)
    problems += store.name_problems(config.variants, tasks)
    if not here and (too_large := size_problem(config.include_path)):
        problems.append(too_large)
    sweep = Sweep(config, variants, fitted, store, tasks, renderings, built, subset)
    if config.prompt.overflow == "refuse" and not problems:
        problems += _refused_prompts(sweep)
    if problems:
        raise mistaken(config_path, problems)
    return sweep


def _refused_prompts(sweep: Sweep) -> Iterator[str]:
    """Why a sweep whose prompts must fit cannot start."""
    yield from (f"{said} (prompt.overflow: refuse)" for said in sweep.too_long())
    for variant in sweep.variants:
        if any(sweep.lengths(variant, task).room is None for task in sweep.tasks):
            yield (
                f"variants.{variant}: nothing says whether its prompts fit (prompt.overflow: refuse): "
                "set its tokenizer and max_model_len or max_length, or prompt.overflow: error"
            )


def _image_problems(variants: Mapping[str, Variant], *, here: bool) -> Iterator[str]:
    """Why replicas cannot run in container images, into which Ray sends no code."""
    inside = [name for name, variant in variants.items() if variant.image and not variant.kind.served]
    if inside and not here:
        yield f"variants.{', '.join(inside)}: image: lldeg's code cannot be sent into it: leave out --address"
    if inside and any(variant.python for variant in variants.values()):
        yield f"variants.{', '.join(inside)}: image: the sweep has a variant with a python, too: use one"


def engine_problems(variant: Variant, prompt: PromptConfig) -> Iterator[str]:
    """What is wrong with the engine options of a variant, and why it cannot be spread over nodes as asked."""
    kind, place = variant.kind, f"variants.{variant.name}"
    if kind.takes_messages and prompt.apply_chat_template is not True:
        named = "its server chooses the chat template"
        why = named if prompt.apply_chat_template else "chat endpoints need conversations"
        yield f"{place}: {why}: set prompt.apply_chat_template: true"
        return
    yield from (f"{place}: {problem}" for problem in kind.problems())
    nodes, gpus, workers = variant.cluster.nodes_per_replica or 1, variant.cluster.gpus_per_replica, kind.gpus
    if nodes > 1 and not kind.spans_nodes:
        yield f"{place}: nodes_per_replica: an engine of the installed {kind.name} runs on one node only"
    elif workers % nodes:
        yield (
            f"{place}: nodes_per_replica: {nodes} nodes cannot share {counted(workers, 'worker')} "
            "evenly; set tensor_parallel_size or pipeline_parallel_size to a multiple"
        )
    elif nodes > 1 and gpus not in (None, 0, workers):
        each = f"takes a GPU for each of its {workers} workers"
        yield f"{place}: gpus_per_replica: an engine over {nodes} nodes {each}"


def _read_items(config: SweepConfig, baseline: Variant | None, problems: list[str]) -> Subset | None:
    """The items to run, unless they were chosen by the very runs that are now to be tested on them."""
    if config.items is None:
        return None
    runs = [(rerun.temperature, rerun.seed) for rerun in reruns(config.sampling, sampled=True)]
    try:
        subset = read_subset(Path(config.items))
        if baseline is not None and baseline.identity and subset.chosen_by is not None:
            name = f"items: {config.items}"
            subset.chosen_by.refuse_reused(baseline.model, baseline.identity, runs, name)
    except UserError as error:
        problems.append(str(error).removesuffix("."))
        return None
    return subset


def _load_tasks(
    config: SweepConfig,
    library: TaskLibrary,
    subset: Subset | None,
    recorded: Mapping[str, TaskEntry],
    problems: list[str],
) -> dict[str, SweepTask]:
    """The leaf tasks by name; `recorded` are the tasks of the run that the sweep continues."""
    tasks: dict[str, SweepTask] = {}
    if not all(Path(folder).is_dir() for folder in config.include_path):
        return tasks  # reported; which tasks the missing folder has is not known
    if unreadable := unreadable_tasks(config.include_path):
        problems += unreadable
        return tasks
    once = {entry.task: entry for entry in reversed(config.tasks)}  # a name listed twice has been reported
    for entry in reversed(once.values()):
        try:
            leaves = library.leaves(entry)
        except TaskError as error:
            problems.append(str(error))
            continue
        for leaf in leaves:
            spec = leaf if subset is None else leaf.model_copy(update={"items": subset.items.get(leaf.task)})
            old = recorded.get(leaf.task)
            if spec.limit is not None and old and "first" in (old.get("limit", {"first": 0}) or {}):
                # it means the first items in a run that was started so, as all of older versions were
                spec = spec.model_copy(update={"limit": LimitConfig(first=spec.limit.items)})
            if leaf.task in tasks:
                problems.append(f"task '{leaf.task}' is listed twice, the second time through '{entry.task}'")
                continue
            try:
                tasks[leaf.task] = library.open(spec)
            except TaskError as error:
                problems.append(str(error))
    if subset is not None and tasks and not set(subset.items) & set(tasks):
        problems.append(f"items: {config.items} names none of the sweep's tasks")
    return tasks


def _unanswerable(
    variants: Mapping[str, Variant], prompt: PromptConfig, tasks: Mapping[str, SweepTask]
) -> Iterator[str]:
    """Tasks that an engine cannot answer with any model, and those that leave no room for thinking."""
    for name in (name for name, task in tasks.items() if not task.sampled):
        if prompt.enable_thinking:
            yield (
                f"task '{name}' asks for log-likelihoods, which leave no room for thinking: remove it, or "
                "prompt.enable_thinking"
            )
        for variant in variants.values():
            if variant.kind.takes_messages:
                no_likelihoods = "chat endpoints return no log-likelihoods"
                yield f"variants.{variant.name}: {no_likelihoods}, which task '{name}' needs"


def _build_prompts(
    prompt: PromptConfig,
    tasks: Mapping[str, SweepTask],
    templates: Mapping[str, Template],
    problems: list[str],
) -> dict[tuple[str, str], Requests]:
    """The requests of every task in every rendering; a task that fails does so in the same way in all."""
    built: dict[tuple[str, str], Requests] = {}
    failed: dict[str, str] = {}
    for rendering, template in templates.items():
        draws = {id(task.draws): task.draws.copy() for task in tasks.values()}  # the same in every rendering
        for name, task in tasks.items():
            try:
                with draws[id(task.draws)]:
                    items = built[rendering, name] = task.build(prompt, template, rendering)
                for requests in items.values():
                    task.cluster_of(requests[0].doc)
            except (TaskError, UserError) as error:
                failed.setdefault(name, str(error).removesuffix("."))
            except Exception as error:  # noqa: BLE001 - the code and templates of a task or a tokenizer
                why = f"the prompts of task '{name}' cannot be built: {error_text(error)}"
                failed.setdefault(name, why)
    problems += failed.values()
    return built
