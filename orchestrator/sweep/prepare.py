"""A checked sweep: every mistake is found, and every prompt built, before anything is written or started."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator.cluster.task_files import size_problem
from orchestrator.config.load import load_config
from orchestrator.config.yaml_file import mistaken
from orchestrator.engines import kind_of
from orchestrator.engines.base import COMMITS, EngineSpec
from orchestrator.rundir import manifest as manifests
from orchestrator.rundir.identity import digest
from orchestrator.rundir.names import name_problems
from orchestrator.rundir.schema import FORMAT
from orchestrator.rundir.store import RunStore
from orchestrator.sweep.blocks import reruns
from orchestrator.sweep.checks import (
    build_prompts,
    chat_templates,
    engine_problems,
    find_models,
    load_tasks,
    pinned,
    read_items,
    unanswerable,
)
from orchestrator.sweep.fit_to_machine import Fitted, fit_elsewhere, fit_to_this_machine
from orchestrator.sweep.other_python import find_versions, of_the_engine
from orchestrator.sweep.prompts.lengths import PromptLengths
from orchestrator.sweep.tasks import TaskLibrary, set_up_lm_eval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.config.schema import SweepConfig
    from orchestrator.rundir.schema import Manifest, SubsetEntry, TaskEntry, VariantEntry
    from orchestrator.sweep.item_subset import Subset
    from orchestrator.sweep.model_identity import FoundModel
    from orchestrator.sweep.tasks import SweepTask, TaskItems


@dataclass(frozen=True)
class Sweep:
    """A checked sweep, ready to be planned.

    Attributes:
        asked: the sweep as the user gave it.
        fitted: the sweep fitted to this machine, if it runs here.
        models: of each variant.
        tasks: leaf tasks by name.
        renderings: per variant, the name of its way to render prompts.
        built: requests by (rendering, task).
        subset: the items to run, None for all.
        versions: of Python and packages, by variant, where a variant has a Python of its own.
    """

    asked: SweepConfig
    fitted: Fitted
    store: RunStore
    models: dict[str, FoundModel]
    tasks: dict[str, SweepTask]
    renderings: dict[str, str]
    built: dict[tuple[str, str], TaskItems]
    subset: Subset | None = None
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def config(self) -> SweepConfig:
        """The sweep that runs."""
        return self.fitted.config

    @cached_property
    def lengths(self) -> PromptLengths:
        """Of its prompts."""
        return PromptLengths(self.config, self.tasks, self.renderings, self.built)

    def engine(self, variant: str) -> EngineSpec:
        """The model of a variant and how to run it."""
        return EngineSpec(
            self.config.model_of(variant),
            self.config.revision_of(variant),
            self.config.engine_of(variant),
            self.config.prompt.template_arguments,
        )

    def engine_versions(self, variant: str) -> str:
        """A sentence about the engine of a variant with a Python of its own."""
        engine = self.engine(variant)
        packages = of_the_engine(engine.options, self.versions[variant])
        listed = ", ".join(f"{name} {number}" for name, number in packages.items())
        return f"{variant} runs in {engine.python}: {listed or 'its engine is not installed there'}."

    def manifest(self) -> Manifest:
        """What this sweep is made of."""
        environment = manifests.environment()
        manifest: Manifest = {
            "format": FORMAT,
            "name": self.config.name,
            "baseline": self.config.baseline,
            "versions": environment["versions"],
            "commit": environment["commit"],
            "hardware": environment["hardware"],
            "software": {},  # replicas will report theirs
            "prompt": self.config.prompt.meaning(),
            "sampling": self._sampling_meaning(),
            "variants": {name: self._variant_entry(name) for name in self.config.variants},
            "skipped": self.fitted.skipped,
            "tasks": {name: self._task_entry(task) for name, task in self.tasks.items()},
        }
        if self.subset is not None:
            manifest["subset"] = _subset_entry(self.subset)
        return manifest

    def _sampling_meaning(self) -> dict[str, Any]:
        """Sampling settings that all samples share; temperatures and seeds are in each row and may grow."""
        return self.config.sampling.meaning()

    def _variant_entry(self, name: str) -> VariantEntry:
        engine = self.engine(name)
        deciding = kind_of(engine.options).deciding(engine.options)
        deciding.pop(COMMITS, None)  # a branch that moved is another commit, but no other option
        versions = self.versions.get(name)
        if versions is not None:
            deciding["packages"] = of_the_engine(engine.options, versions)
        meaning = {"model": engine.model, "revision": self.models[name].identity, "engine": deciding}
        entry: VariantEntry = {**meaning, "digest": digest([name, meaning])}  # type: ignore[typeddict-item]
        if engine.commits:
            entry["commits"] = engine.commits
        return entry if versions is None else {**entry, "versions": versions}

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
            "items": len(self.built[self.renderings[self.config.baseline], task.spec.name].requests),
            "reruns": [(r.temperature, r.seed) for r in reruns(self.config.sampling, sampled=task.sampled)],
            "definition": task.definition,
        }
        if own := task.spec.sampling.meaning():
            entry["sampling"] = own
        return entry


def _subset_entry(subset: Subset) -> SubsetEntry:
    """Which items were chosen, and by which runs, so that an analysis can refuse those."""
    origin = subset.chosen_by
    return {
        "digest": digest(dict(subset.items)),
        "chosen_by": None if origin is None else origin.as_json(),
    }


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
    fitted = fit_to_this_machine(config) if here else fit_elsewhere(config)
    problems += fitted.problems
    problems += [problem for variant in config.variants for problem in engine_problems(config, variant)]
    models, missing_models = find_models(config)
    fitted.config = pinned(fitted.config, models)
    versions, mistaken_pythons = find_versions(fitted.config)
    subset, mistaken_items = read_items(config, models)
    library = TaskLibrary(config.include_path, config.confirm_run_unsafe_code, _tokenizer(config))
    store = RunStore(f"runs/{config.name}" if run_dir is None else run_dir)
    recorded = store.read_manifest()["tasks"] if store.has_run() else {}
    tasks, mistaken_tasks = load_tasks(fitted.config, library, subset, recorded)
    templates, renderings, missing_templates = chat_templates(fitted.config)
    built, broken_prompts = build_prompts(fitted.config, tasks, templates)
    problems += [
        *missing_models,
        *mistaken_pythons,
        *mistaken_items,
        *mistaken_tasks,
        *unanswerable(fitted.config, tasks),
    ]
    problems += [*missing_templates, *broken_prompts]
    problems += name_problems(store, config.variants, tasks)
    if not here and (too_large := size_problem(config.include_path)):
        problems.append(too_large)
    sweep = Sweep(config, fitted, store, models, tasks, renderings, built, subset, versions)
    if config.prompt.overflow == "refuse" and not problems:
        problems += sweep.lengths.refusals()
    if problems:
        raise mistaken(config_path, problems)
    return sweep


def _tokenizer(config: SweepConfig) -> str | None:
    """The tokenizer of the baseline, a folder or a hub name, if it is known."""
    if config.baseline not in config.variants:
        return None  # reported
    options, model = config.engine_of(config.baseline), config.model_of(config.baseline)
    return kind_of(options).tokenizer(options, model, config.revision_of(config.baseline)).name or None
