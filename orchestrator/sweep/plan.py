"""The plan: a sweep compared with its run directory; what is missing there is owed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

from orchestrator.errors import ServerBusyError, UserError
from orchestrator.rundir import manifest as manifests
from orchestrator.rundir.identity import Item, digest
from orchestrator.rundir.progress import VariantProgress
from orchestrator.rundir.schema import SampleColumns
from orchestrator.sweep.blocks import Cell, missing_samples, reruns
from orchestrator.sweep.fit_to_machine import refuse_other_choices
from orchestrator.sweep.stopping_plan import in_order, stopping_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from orchestrator.rundir.schema import Manifest, SoftwareEntry
    from orchestrator.sweep.prepare import Sweep
    from orchestrator.sweep.tasks import SweepTask

BUSY = f"{ServerBusyError.__name__}:"
"""How the error begins of a sample for which a server was too busy; every submit asks for it again."""


MOST_METRICS = 1000
"""Of a task in the manifest; names that depend on answers would fill it."""


@dataclass(frozen=True)
class Plan:
    """A sweep compared with its run directory.

    Attributes:
        manifest: of the run after this submit.
        cells: every variant x task, with what is owed.
        warnings: what the user should know before the run continues.
        software: what this process runs.
    """

    sweep: Sweep
    manifest: Manifest
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...]
    software: SoftwareEntry

    @property
    def columns(self) -> SampleColumns:
        """Columns of the run's samples."""
        return SampleColumns.of(self.manifest["tasks"].values())

    def cells_of(self, variant: str) -> list[Cell]:
        """The cells of a variant."""
        return [cell for cell in self.cells if cell.variant == variant]


def plan_sweep(
    sweep: Sweep,
    *,
    config_path: Path,
    remove_torn: bool = True,
    retry_errors: bool = False,
    finish: bool = False,
) -> Plan:
    """Compare a sweep with its run directory.

    Args:
        sweep: what is asked for.
        config_path: for the command that a refusal suggests.
        remove_torn: whether to remove torn and damaged files; their samples are owed in any case.
        retry_errors: whether samples with an error are owed again, and not only those for which a server was
            too busy; their rows go if torn files do.
        finish: whether a run that stops early is to answer what its decisions have left out.

    Raises:
        UserError: the directory holds a sweep with other settings.
    """
    old = sweep.store.read_manifest() if sweep.store.has_run() else None
    new = sweep.manifest()
    command = f"lldeg submit {config_path} --run-dir {sweep.store.url}-2"
    if old is not None:
        refuse_other_choices(sweep.fitted, old["variants"], command)
    merged = manifests.merge(old, new, command)
    stopping = stopping_entry(old, new, sweep, command, finish=finish)
    if stopping is not None:
        _refuse_retries(retry_errors=retry_errors)
        merged["stopping"] = stopping
        merged["ledger"] = old is None or old.get("ledger", False)
    changed = manifests.version_changes(old, new)
    software = (
        (f"package versions differ from those the run started with: {'; '.join(changed)}",) if changed else ()
    )
    identities: dict[tuple[str, str], tuple[Item, ...]] = {
        key: in_order(sweep.tasks[key[1]], built, stopping) for key, built in sweep.built.items()
    }
    damaged: list[str] = []
    retried: dict[tuple[str, str], int] = {}
    beginning = "" if retry_errors else BUSY
    columns = SampleColumns.of(merged["tasks"].values())
    cells = []
    for variant, (name, task) in product(sweep.variants, sweep.tasks.items()):
        seen = _Seen(columns)
        found = sweep.store.read_keys(
            variant,
            name,
            remove_torn=remove_torn,
            errors=beginning if stopping is None else True,
            report=damaged.append,
            left_out=partial(retried.__setitem__, (variant, name)),
            seen=seen.add,
        )
        list_metrics(merged, task, seen.metrics)
        cell = _cell(
            sweep,
            new,
            variant,
            task,
            items=identities[sweep.renderings[variant], name],
            looks=stopping["looks"] if stopping else 1,
            found=found,
        )
        cells.append(replace(cell, errors=seen.errors - retried.get((variant, name), 0)))
    if remove_torn:
        for variant, name in retried:
            sweep.store.remove_errors(variant, name, beginning)
    failed = sum(retried.values())
    again = (f"{failed:,} samples that failed will be asked for again",) if failed else ()
    followed = _first_items(sweep, old)
    warnings = (*software, *followed, *_damage(damaged), *again, *sweep.fitted.warnings)
    here: SoftwareEntry = {"versions": new["versions"], "commit": new.get("commit")}
    return Plan(sweep, merged, tuple(cells), warnings, here)


@dataclass
class _Seen:
    """What the files of a cell tell: rows with an error, and scores that the manifest does not list."""

    columns: SampleColumns
    errors: int = 0
    metrics: set[str] = field(default_factory=set)

    def add(self, table: pa.Table) -> None:
        self.errors += len(table) - table["error"].null_count if "error" in table.column_names else 0
        self.metrics.update(self.columns.unlisted(table.schema))


def list_metrics(manifest: Manifest, task: SweepTask, metrics: Iterable[str]) -> None:
    """List scores of a task that only answers have told."""
    listed = manifest["tasks"][task.spec.name]["metrics"]
    told = sorted(set(metrics) - listed.keys())[: max(0, MOST_METRICS - len(listed))]
    listed |= {metric: task.scores.entry(metric) for metric in told}


def _refuse_retries(*, retry_errors: bool) -> None:
    if retry_errors:
        raise UserError(
            "--retry-errors would change scores that the looks of this run have used: a run that stops early "
            "counts an answer that failed as missing for good."
        )


def _first_items(sweep: Sweep, old: Manifest | None) -> Iterator[str]:
    """Say that a limit means the first items, because it does so in the run."""
    asked = {entry.task for entry in sweep.config.tasks if entry.limit and entry.limit.random}
    names = [
        name
        for name, task in sweep.tasks.items()
        if old is not None and task.spec.limit and task.spec.limit.first and {name, task.spec.group} & asked
    ]
    if names:
        yield (
            f"this run was started with the first items of {', '.join(names)}, so `limit` means those again, "
            "not items chosen at random"
        )


def _damage(files: Sequence[str]) -> Iterator[str]:
    if files:
        shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        yield f"incomplete or damaged sample files, whose samples will be run again: {shown}"


def _cell(
    sweep: Sweep,
    manifest: Manifest,
    variant: str,
    task: SweepTask,
    *,
    items: tuple[Item, ...],
    looks: int,
    found: NDArray[np.bytes_],
) -> Cell:
    name = task.spec.name
    entry = manifest["tasks"][name]
    meaning = [manifest["variants"][variant]["digest"], name, entry["digest"], manifest["sampling"]]
    if "sampling" in entry:
        meaning.append(entry["sampling"])
    if beyond := sweep.config.prompt.beyond_prompts():
        meaning.append(beyond)
    shared = digest(meaning)
    passes = reruns(sweep.config.sampling, sampled=task.sampled)
    return Cell(
        variant=variant,
        task=name,
        digest=shared,
        items=items,
        reruns=passes,
        longest_answer=task.longest_answer(sweep.config.sampling),
        missing=missing_samples(shared, items, passes, found),
        looks=looks,
    )


def initial_counts(plan: Plan) -> dict[str, VariantProgress]:
    """Counts per variant before anything is done."""
    counts = {}
    for variant in plan.sweep.variants:
        cells = plan.cells_of(variant)
        planned = sum(cell.planned for cell in cells)
        owed = sum(cell.owed for cell in cells)
        errors = sum(cell.errors for cell in cells)
        counts[variant] = VariantProgress(planned=planned, found=planned - owed, found_errors=errors)
    return counts
