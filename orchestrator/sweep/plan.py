"""The plan: a sweep compared with its run directory; what is missing there is owed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.rundir import manifest as manifests
from orchestrator.rundir.identity import Item, digest
from orchestrator.rundir.progress import VariantProgress
from orchestrator.rundir.schema import SampleColumns
from orchestrator.sweep.blocks import Cell, missing_samples, reruns
from orchestrator.sweep.fit_to_machine import refuse_other_choices

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from orchestrator.rundir.schema import Manifest
    from orchestrator.sweep.prepare import Sweep
    from orchestrator.sweep.tasks import SweepTask


@dataclass(frozen=True)
class Plan:
    """A sweep compared with its run directory.

    Attributes:
        manifest: of the run after this submit.
        cells: every variant x task, with what is owed.
        warnings: what the user should know before the run continues.
    """

    sweep: Sweep
    manifest: Manifest
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...]

    @property
    def columns(self) -> SampleColumns:
        """Columns of the run's samples."""
        return SampleColumns.of(self.manifest["tasks"].values())

    def cells_of(self, variant: str) -> list[Cell]:
        """The cells of a variant."""
        return [cell for cell in self.cells if cell.variant == variant]


def plan_sweep(sweep: Sweep, *, config_path: Path, remove_torn: bool = True) -> Plan:
    """Compare a sweep with its run directory.

    Args:
        sweep: what is asked for.
        config_path: for the command that a refusal suggests.
        remove_torn: whether to remove torn files; their samples are owed in any case.

    Raises:
        UserError: the directory holds a sweep with other settings.
    """
    old = sweep.store.read_manifest() if sweep.store.has_run() else None
    new = sweep.manifest()
    command = f"lldeg submit {config_path} --run-dir {sweep.store.url}-2"
    if old is not None:
        refuse_other_choices(sweep.fitted, old["variants"], command)
    merged = manifests.merge(old, new, command)
    changed = manifests.version_changes(old, new)
    software = (
        (f"package versions differ from those the run started with: {'; '.join(changed)}",) if changed else ()
    )
    identities: dict[tuple[str, str], tuple[Item, ...]] = {
        key: tuple(built.items()) for key, built in sweep.built.items()
    }
    cells = tuple(
        _cell(
            sweep,
            new,
            variant,
            task,
            items=identities[sweep.renderings[variant], name],
            found=sweep.store.read_keys(variant, name, remove_torn=remove_torn),
        )
        for variant in sweep.config.variants
        for name, task in sweep.tasks.items()
    )
    return Plan(sweep, merged, cells, (*software, *sweep.fitted.warnings))


def _cell(
    sweep: Sweep,
    manifest: Manifest,
    variant: str,
    task: SweepTask,
    *,
    items: tuple[Item, ...],
    found: NDArray[np.bytes_],
) -> Cell:
    name = task.spec.name
    shared = digest(
        [
            manifest["variants"][variant]["digest"],
            name,
            manifest["tasks"][name]["digest"],
            manifest["sampling"],
        ]
    )
    passes = reruns(sweep.config.sampling, sampled=task.sampled)
    return Cell(
        variant=variant,
        task=name,
        digest=shared,
        items=items,
        reruns=passes,
        longest_answer=task.longest_answer if task.sampled else 0,
        missing=missing_samples(shared, items, passes, found),
    )


def initial_counts(plan: Plan) -> dict[str, VariantProgress]:
    """Counts per variant before anything is done."""
    counts = {}
    for variant in plan.sweep.config.variants:
        cells = plan.cells_of(variant)
        planned = sum(cell.planned for cell in cells)
        owed = sum(cell.owed for cell in cells)
        counts[variant] = VariantProgress(planned=planned, found=planned - owed)
    return counts
