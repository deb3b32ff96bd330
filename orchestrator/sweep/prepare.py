"""A checked sweep: every mistake is found, and every prompt built, before anything is written or started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config.load import load_config, mistaken
from orchestrator.engines import LM_EVAL_PREFIX, deciding, is_served, served_problems, takes_messages
from orchestrator.engines.base import EngineSpec
from orchestrator.engines.vllm_options import vllm_options
from orchestrator.errors import UserError, suggestion
from orchestrator.rundir import manifest as manifests
from orchestrator.rundir.identity import digest
from orchestrator.rundir.store import RunStore
from orchestrator.sweep.blocks import reruns
from orchestrator.sweep.chat_template import ChatMessages, ChatTemplate
from orchestrator.sweep.fit_to_machine import Fitted, fit_to_this_machine
from orchestrator.sweep.item_subset import CHOSEN_BY, Subset, read_subset, refuse_reused
from orchestrator.sweep.model_identity import ModelNotFoundError, model_revision
from orchestrator.sweep.tasks import SweepTask, TaskError, TaskItems, TaskLibrary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.config.schema import SweepConfig

PLAIN = "plain"  # the rendering of prompts without a chat template


@dataclass(frozen=True)
class Sweep:
    """A checked sweep, ready to be planned.

    Attributes:
        asked: the sweep as the user gave it.
        fitted: the sweep fitted to this machine, if it runs here.
        revisions: identity of each variant's model.
        tasks: leaf tasks by name.
        renderings: per variant, the name of its way to render prompts.
        built: requests by (rendering, task).
        subset: the items to run, None for all.
    """

    asked: SweepConfig
    fitted: Fitted
    store: RunStore
    revisions: dict[str, str]
    tasks: dict[str, SweepTask]
    renderings: dict[str, str]
    built: dict[tuple[str, str], TaskItems]
    subset: Subset | None = None

    @property
    def config(self) -> SweepConfig:
        """The sweep that runs."""
        return self.fitted.config

    def engine(self, variant: str) -> EngineSpec:
        """The model of a variant and how to run it."""
        return EngineSpec(
            self.config.model_of(variant), self.config.revision_of(variant), self.config.engine_of(variant)
        )

    def manifest(self) -> dict[str, Any]:
        """What this sweep is made of."""
        return {
            "format": manifests.FORMAT,
            "name": self.config.name,
            "baseline": self.config.baseline,
            **manifests.environment(),
            "prompt": self.config.prompt.model_dump(),
            "sampling": self._sampling_meaning(),
            **self._subset_entry(),
            "variants": {name: self._variant_entry(name) for name in self.config.variants},
            manifests.SKIPPED: self.fitted.skipped,
            "tasks": {name: self._task_entry(task) for name, task in self.tasks.items()},
        }

    def _subset_entry(self) -> dict[str, Any]:
        """Which items were chosen, and by which runs, so that an analysis can refuse those."""
        if self.subset is None:
            return {}
        origin = self.subset.chosen_by
        return {
            "subset": {
                "digest": digest(dict(self.subset.items)),
                CHOSEN_BY: None if origin is None else origin.as_json(),
            }
        }

    def _sampling_meaning(self) -> dict[str, Any]:
        """Sampling settings that all samples share; temperatures and seeds stand in each row and may grow."""
        return self.config.sampling.model_dump(exclude={"temperatures", "seeds", "repeat_greedy"})

    def _variant_entry(self, name: str) -> dict[str, Any]:
        engine = self.engine(name)
        options = deciding(engine.options)
        entry = {"model": engine.model, "revision": self.revisions[name], "engine": options}
        return {**entry, "digest": digest([name, entry])}

    def _task_entry(self, task: SweepTask) -> dict[str, Any]:
        metrics = task.metrics
        return {
            "digest": digest(task.definition),
            "group": task.spec.group,
            "output_type": task.output_type,
            "metric": task.spec.metric or next(iter(metrics), None),
            "metrics": metrics,
            "filters": task.filter_names,
            "cluster": task.spec.cluster,
            "items": len(self.built[self.renderings[self.config.baseline], task.spec.name].requests),
            "reruns": [[r.temperature, r.seed] for r in reruns(self.config.sampling, sampled=task.sampled)],
            "definition": task.definition,
        }


def prepare(
    config_path: Path, *, overrides: Sequence[str] = (), run_dir: str | None = None, here: bool = True
) -> Sweep:
    """Check a sweep and build its prompts; nothing is written and no engine started.

    Args:
        config_path: the sweep's YAML file.
        overrides: `--set` arguments, "dotted.key=value".
        run_dir: where the run stands or shall stand; default runs/<name>.
        here: whether it is to run on this machine, to whose hardware it is then fitted.

    Raises:
        UserError: every mistake found, in one text.
    """
    config, problems = load_config(config_path, overrides)
    revisions: dict[str, str] = {}
    library = TaskLibrary()
    if config is not None:
        library = TaskLibrary(config.include_path, config.confirm_run_unsafe_code)
        if all(Path(folder).is_dir() for folder in config.include_path):  # else of course unknown
            problems += [problem for task in config.tasks if (problem := library.unknown(task.task))]
        for variant in config.variants:
            problems += _engine_problems(config, variant)
            problems += _find_model(config, variant, revisions)
    if config is None or problems:
        raise mistaken(config_path, problems)
    asked, fitted = config, fit_to_this_machine(config) if here else Fitted(config)
    if fitted.problems:
        raise mistaken(config_path, fitted.problems)
    config = fitted.config
    subset = _read_items(config, revisions)
    tasks, problems = _load_tasks(config, library, subset)
    problems += _unanswerable(config, tasks)
    if problems:
        raise mistaken(config_path, problems)
    templates, renderings = _chat_templates(config)
    try:
        built = {
            (rendering, name): task.build(config.prompt, template, rendering)
            for rendering, template in templates.items()
            for name, task in tasks.items()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"The prompts cannot be built: {type(error).__name__}: {error}.") from error
    store = RunStore(run_dir or f"runs/{config.name}")
    return Sweep(asked, fitted, store, revisions, tasks, renderings, built, subset)


def _engine_problems(config: SweepConfig, variant: str) -> list[str]:
    engine = config.engine_of(variant)
    served = list(served_problems(engine)) if is_served(engine) else []
    kind = str(engine.pop("kind"))
    if takes_messages(kind) and not config.prompt.apply_chat_template:
        return [
            f"variants.{variant}: a chat server takes conversations: set prompt.apply_chat_template: true"
        ]
    if kind.startswith(LM_EVAL_PREFIX):
        return [f"variants.{variant}: {problem}" for problem in served]
    if kind != "vllm":
        return [f"variants.{variant}: no engine '{kind}'; engines are vllm and {LM_EVAL_PREFIX}<model class>"]
    known = vllm_options()
    return [
        f"variants.{variant}: vLLM has no option '{option}'{suggestion(option, sorted(known))}"
        for option in engine
        if known and option not in known
    ]


def _unanswerable(config: SweepConfig, tasks: dict[str, SweepTask]) -> list[str]:
    """Tasks that an engine cannot answer, whatever the model."""
    return [
        f"variants.{variant}: a chat server tells no likelihoods, which task '{name}' needs"
        for variant in config.variants
        if takes_messages(str(config.engine_of(variant)["kind"]))
        for name, task in tasks.items()
        if not task.sampled
    ]


def _find_model(config: SweepConfig, variant: str, revisions: dict[str, str]) -> list[str]:
    """Record the identity of a variant's model; a served model has only its name."""
    model, revision = config.model_of(variant), config.revision_of(variant)
    if not model:
        return []  # already reported
    if is_served(config.engine_of(variant)):
        revisions[variant] = model
        return []
    same = next(
        (
            other
            for other in revisions
            if (config.model_of(other), config.revision_of(other)) == (model, revision)
        ),
        None,
    )
    try:
        revisions[variant] = revisions[same] if same else model_revision(model, revision)
    except ModelNotFoundError as error:
        return [f"variants.{variant}: {error}"]
    return []


def _read_items(config: SweepConfig, revisions: dict[str, str]) -> Subset | None:
    """The items to run, unless they were chosen by the very runs that are now to be tested on them."""
    if config.items is None:
        return None
    subset = read_subset(Path(config.items))
    model, revision = config.model_of(config.baseline), revisions[config.baseline]
    runs = [(rerun.temperature, rerun.seed) for rerun in reruns(config.sampling, sampled=True)]
    refuse_reused(subset.chosen_by, model, revision, runs, f"items: {config.items}")
    return subset


def _load_tasks(
    config: SweepConfig, library: TaskLibrary, subset: Subset | None
) -> tuple[dict[str, SweepTask], list[str]]:
    tasks: dict[str, SweepTask] = {}
    problems: list[str] = []
    for entry in config.tasks:
        try:
            for leaf in library.leaves(entry):
                spec = leaf if subset is None else replace(leaf, items=subset.items.get(leaf.name))
                if spec.name in tasks:
                    problems.append(
                        f"task '{spec.name}' is asked for twice, the second time through '{entry.task}'"
                    )
                    continue
                task = tasks[spec.name] = library.open(spec)
                if spec.metric is not None and spec.metric not in task.metrics:
                    problems.append(
                        f"task '{spec.name}' has no metric '{spec.metric}'; it has {', '.join(task.metrics)}"
                    )
        except TaskError as error:
            problems.append(str(error))
    if subset is not None and tasks and not set(subset.items) & set(tasks):
        problems.append(f"items: {config.items} names none of the sweep's tasks")
    return tasks, problems


def _chat_templates(
    config: SweepConfig,
) -> tuple[dict[str, ChatTemplate | ChatMessages | None], dict[str, str]]:
    """The ways to render prompts by name, and the name each variant uses; equal templates are one."""
    if not config.prompt.apply_chat_template:
        return {PLAIN: None}, dict.fromkeys(config.variants, PLAIN)
    templates: dict[str, ChatTemplate | ChatMessages | None] = {}
    renderings: dict[str, str] = {}
    for variant in config.variants:
        try:
            template = _chat_template(config, variant)
        except (ValueError, OSError) as error:
            raise UserError(f"variants.{variant}: its chat template cannot be had: {error}.") from None
        templates[template.name] = template
        renderings[variant] = template.name
    return templates, renderings


def _chat_template(config: SweepConfig, variant: str) -> ChatTemplate | ChatMessages:
    engine = config.engine_of(variant)
    if takes_messages(str(engine["kind"])):
        return ChatMessages()
    return ChatTemplate(
        str(engine.get("tokenizer") or config.model_of(variant)),
        config.revision_of(variant),
        trust_remote_code=bool(engine.get("trust_remote_code", False)),
    )
