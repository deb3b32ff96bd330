"""The plan: a sweep compared with its run directory; what is missing there is owed.

A run that stops its variants early has a second plan, of its looks: a test at several looks keeps its level
only if everything that decides it was fixed before the first answer. So the first submit fixes it, and what
may grow in other runs (items, seeds, temperatures, variants) may not grow in such a run.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pyarrow as pa

from orchestrator.config.schema import StoppingConfig
from orchestrator.errors import ServerBusyError, UserError, counted
from orchestrator.rundir import manifest as manifests
from orchestrator.rundir import schema
from orchestrator.rundir.identity import Item, differences, digest
from orchestrator.rundir.progress import VariantProgress, read_status
from orchestrator.rundir.schema import Manifest, SoftwareEntry, StoppingEntry
from orchestrator.rundir.store import RunStore, without_errors
from orchestrator.sweep.blocks import Cell, missing_samples, reruns
from orchestrator.sweep.prepare import Sweep
from orchestrator.sweep.tasks import CHOICE_SEED, Requests, SweepTask, items_of
from stats.sequential.plan import asking_order, item_order

BUSY = f"{ServerBusyError.__name__}:"
"""How the error begins of a sample for which a server was too busy; every submit asks for it again."""
MOST_METRICS = 1000  # of a task in the manifest; names that depend on answers would fill it
OWN = {"documents", "families", "finished"}
"""What no configuration says of the plan of a run that stops early."""


@dataclass(frozen=True)
class Plan:
    """A sweep compared with its run directory."""

    sweep: Sweep
    manifest: Manifest  # of the run after this submit
    cells: tuple[Cell, ...]  # every variant x task, with what is owed
    warnings: tuple[str, ...]  # what the user should know before the run continues

    @property
    def software(self) -> SoftwareEntry:
        """What this process runs."""
        return {"versions": self.manifest["versions"], "commit": self.manifest.get("commit")}

    @property
    def columns(self) -> pa.Schema:
        """Columns of the run's samples."""
        return schema.schema_of_tasks(self.manifest["tasks"].values())

    def cells_of(self, variant: str) -> list[Cell]:
        """The cells of a variant."""
        return [cell for cell in self.cells if cell.variant == variant]

    @property
    def baseline_cells(self) -> list[Cell]:
        """Those of the baseline that ask for answers."""
        return [cell for cell in self.cells_of(self.sweep.config.baseline) if not cell.fidelity]

    def initial_counts(self) -> dict[str, VariantProgress]:
        """Counts per variant before anything is done."""
        counts, told = {}, read_status(self.sweep.store).variants
        for variant in self.sweep.variants:
            cells = self.cells_of(variant)
            planned, errors = sum(cell.planned for cell in cells), sum(cell.errors for cell in cells)
            done = planned - sum(cell.owed for cell in cells)
            spent = told[variant].spent if variant in told else 0.0
            counts[variant] = VariantProgress(
                planned=planned, done=done, spent=spent, found=done, found_errors=errors
            )
        return counts


def plan_sweep(
    sweep: Sweep,
    *,
    config_path: Path,
    remove_torn: bool = True,
    retry_errors: bool = False,
    finish: bool = False,
) -> Plan:
    """Compare a sweep with its run directory.

    The samples of torn and damaged files are owed whether these are removed or not. With `retry_errors`
    samples with an error are owed again, and not only those for which a server was too busy; their rows go if
    torn files do. `finish` is for a run that stops early: it answers what its decisions have left out, too.
    A UserError if the directory holds a sweep with other settings; what it suggests names `config_path`.
    """
    store = sweep.store
    old, new = store.read_manifest() if store.has_run() else None, sweep.manifest()
    command = f"lldeg submit {config_path} --run-dir {store.url}-2"
    merged = _merged(sweep, old, new, command)
    stopping = stopping_entry(old, new, sweep, command, finish=finish)
    if stopping is not None:
        if retry_errors:
            raise UserError(
                "--retry-errors would change scores that the looks of this run have used: a run that stops "
                "early counts an answer that failed as missing for good."
            )
        merged["stopping"] = stopping
        merged["ledger"] = old is None or old.get("ledger", False)
    items = {key: _in_order(sweep.tasks[key[1]], built, stopping) for key, built in sweep.built.items()}
    columns = schema.schema_of_tasks(merged["tasks"].values())
    beginning = "" if retry_errors else BUSY
    cells: list[Cell] = []
    damaged: list[str] = []
    retried: dict[tuple[RunStore, str, str], int] = {}
    for variant, (name, task), fidelity in product(sweep.variants, sweep.tasks.items(), (False, True)):
        if fidelity and name not in sweep.scored_items:
            continue
        place = store.fidelity if fidelity else store
        files = place.read_cell(variant, name)
        damaged += [path for path, rows in files.items() if rows is None]
        whole = [rows for rows in files.values() if rows is not None]
        counted = whole if stopping is not None else [without_errors(rows, beginning) for rows in whole]
        if again := sum(map(len, whole)) - sum(map(len, counted)):
            retried[place, variant, name] = again
        if remove_torn:
            place.remove_torn(files)
        asked, shared = items[sweep.renderings[variant], name], _cell_digest(sweep, new, variant, name)
        passes = reruns(sweep.config.sampling, sampled=task.sampled)
        longest = task.longest_answer(sweep.config.sampling)
        if fidelity:  # of some items and the first rerun of each temperature
            order = item_order((item.item for item in asked), CHOICE_SEED)[: sweep.scored_items[name]]
            asked = tuple(asked[number] for number in sorted(order.tolist()))
            passes = tuple({one.temperature: one for one in reversed(passes)}.values())[::-1]
            answers = _cell_digest(sweep, new, sweep.config.baseline, name)
            shared, longest = digest([shared, answers, merged["fidelity"]["top"]]), 0
        else:
            told = {metric for rows in whole for metric in schema.unlisted_scores(columns, rows.schema)}
            list_metrics(merged, task, told)
        missing = missing_samples(shared, asked, passes, [rows["sample_key"] for rows in counted])
        errors = sum(len(rows) - len(without_errors(rows, "")) for rows in whole) - again
        built = sweep.built[sweep.renderings[variant], name].values()
        choices = 1 if task.sampled else min(map(len, built), default=1)
        further = stopping["looks"] if stopping else 1, errors, choices, fidelity
        cells.append(Cell(variant, name, shared, asked, passes, longest, missing, *further))
    for place, variant, name in retried if remove_torn else ():
        place.remove_errors(variant, name, beginning)
    warnings = _warnings(sweep, old, merged, damaged, sum(retried.values()))
    return Plan(sweep, merged, tuple(cells), (*warnings, *sweep.fitted.warnings))


def _merged(sweep: Sweep, old: Manifest | None, new: Manifest, command: str) -> Manifest:
    """The manifest of the run after this submit; what would mix answers of two sweeps is refused."""
    if old is None:
        return new
    if old.get("imported"):
        raise UserError(
            f"{sweep.store.url} was imported: no submit can go on with it. Start a new run: {command}"
        )
    sweep.fitted.refuse_other_choices(old["variants"], command)
    merged = manifests.merge(old, new, command)
    manifests.refuse_changes([*_changed_documents(sweep, old)], command)
    return merged


def _changed_documents(sweep: Sweep, old: Manifest) -> Iterator[str]:
    """Tasks whose items are other documents than those that the run has: answers of both would mix."""
    for name in old["tasks"].keys() & sweep.tasks.keys():
        try:
            stored = sweep.store.read_items(name, ["item", "doc_hash"])
        except (FileNotFoundError, pa.ArrowInvalid):  # this submit writes them again
            continue
        known = dict(zip(*(column.to_pylist() for column in stored.columns), strict=True))
        built = sweep.built[sweep.renderings[sweep.config.baseline], name]
        count = sum(known.get(item.item, item.doc_hash) != item.doc_hash for item in items_of(built))
        if count:
            yield f"documents of {name} ({counted(count, 'item')})"


def _cell_digest(sweep: Sweep, manifest: Manifest, variant: str, task: str) -> str:
    """Digest of what the samples of a variant on a task share."""
    entry = manifest["tasks"][task]
    meaning = [manifest["variants"][variant]["digest"], task, entry["digest"], manifest["sampling"]]
    meaning += [own for own in (entry.get("sampling"), sweep.config.prompt.beyond_prompts()) if own]
    return digest(meaning)


def list_metrics(manifest: Manifest, task: SweepTask, metrics: Iterable[str]) -> None:
    """List scores of a task that only answers have told."""
    listed = manifest["tasks"][task.spec.task]["metrics"]
    told = sorted(set(metrics) - listed.keys())[: max(0, MOST_METRICS - len(listed))]
    listed |= {metric: task.scores.entry(metric) for metric in told}


def _warnings(
    sweep: Sweep, old: Manifest | None, merged: Manifest, damaged: Sequence[str], failed: int
) -> Iterator[str]:
    if changed := manifests.version_changes(old, merged):
        yield f"package versions differ from those the run started with: {'; '.join(changed)}"
    asked = {entry.task for entry in sweep.config.tasks if entry.limit and entry.limit.random}
    limits = {name: task.spec.limit for name, task in sweep.tasks.items() if {name, task.spec.group} & asked}
    if old is not None and (names := [name for name, limit in limits.items() if limit and limit.first]):
        yield (
            f"this run was started with the first items of {', '.join(names)}, so `limit` means those again, "
            "not items chosen at random"
        )
    entries = [manifest.get("stopping") for manifest in (old, merged) if manifest is not None]
    families = [entry.get("families", {}).keys() for entry in entries if entry is not None]
    if joined := sorted(families[-1] - families[0]) if families else []:
        yield (
            f"the run stops early, and {', '.join(joined)} joins with a level of its own: error rates hold "
            "for the variants of one submit, not for those of all"
        )
    if damaged:
        shown = ", ".join(damaged[:3]) + (f" and {len(damaged) - 3} more" if len(damaged) > 3 else "")
        yield f"incomplete or damaged sample files, whose samples will be run again: {shown}"
    if failed:
        yield f"{counted(failed, 'sample')} that failed will be run again"


def stopping_entry(
    old: Manifest | None, new: Manifest, sweep: Sweep, command: str, *, finish: bool
) -> StoppingEntry | None:
    """How a run stops its variants early; None if every planned sample is needed.

    A run that stops early goes on doing so if that is no longer asked for; `finish` asks for the samples that
    its decisions have left out. A UserError if the plan differs from that of an earlier submit, or there is
    nothing to finish.
    """
    known, asked = old.get("stopping") if old else None, sweep.config.stopping
    if old is None or known is None:
        if finish:
            raise UserError("--finish is for runs that stop early, and this one answers every sample anyway.")
        if old is not None and asked:
            raise UserError(
                "Stopping early cannot be added to a run that was started without it, because its answers "
                f"may have been seen. Start a new run: {command}"
            )
        return _new_entry(new, sweep, asked) if asked else None
    if sweep.config.fidelity:
        raise UserError("fidelity needs all answers of the baseline, and this run stops early: remove it.")
    before = {k: known[k] for k in ("looks", "until", "spending", "certificate", "policy") if k in known}
    asked = asked or StoppingConfig.model_validate(before)
    if asked.seed is None:
        asked = asked.model_copy(update={"seed": known["seed"]})
    entry = _new_entry(new, sweep, asked)
    planned = [(variant, temperature) for variant, temperature in known["comparisons"]]
    names, own = {variant for variant, _ in planned}, entry["comparisons"]
    joining = [pair for pair in own if pair[0] not in names]
    if {temperature for _, temperature in own} == {temperature for _, temperature in planned}:
        entry["comparisons"] = planned
    sizes, new_sizes = (
        {name: {"items": task["items"], "reruns": task["reruns"]} for name, task in one["tasks"].items()}
        for one in (old, new)
    )
    plan, new_plan = (
        {key: one[key] for key in one.keys() - OWN}
        for one in ({"certificate": "default", **known}, dict(entry))
    )
    changes = [*differences(plan, new_plan, ["stopping"]), *differences(sizes, new_sizes, ["tasks"])]
    if changes:
        raise UserError(
            "The run stops its variants early by a plan that must not change; changed: "
            f"{'; '.join(changes)}. Undo the changes, or start a new run: {command}"
        )
    entry = {**known, "finished": True} if finish else known
    if joining:  # after answers were seen, but none of theirs
        families = known.get("families", {})
        number = max(families.values(), default=0) + 1
        families = families | dict.fromkeys((variant for variant, _ in joining), number)
        entry = {**entry, "comparisons": [*planned, *joining], "families": families}
    return entry


def _new_entry(manifest: Manifest, sweep: Sweep, stopping: StoppingConfig) -> StoppingEntry:
    metrics = {name: entry["metric"] for name, entry in manifest["tasks"].items() if entry["metric"]}
    if not metrics:
        raise UserError("stopping: none of the tasks has a metric with a number per sample to decide by.")
    temperatures = dict.fromkeys(t for name in metrics for t, _ in manifest["tasks"][name]["reruns"])
    variants = [name for name in sweep.variants if name != sweep.config.baseline]
    if not variants:
        raise UserError("stopping: there is no variant to compare with the baseline, so nothing to decide.")
    policy = stopping.policy if isinstance(stopping.policy, dict) else {}
    entry: StoppingEntry = {
        "looks": stopping.looks,
        "until": stopping.until,
        "spending": {"degraded": stopping.spending.degraded, "certified": stopping.spending.certified},
        "certificate": stopping.certificate,
        "alpha": policy.get("alpha") or sweep.config.analysis.alpha,
        "margin": policy.get("margin") or sweep.config.analysis.margin,
        "comparisons": [(variant, float(t or 0.0)) for variant in variants for t in temperatures],
        "metrics": metrics,
        "seed": secrets.randbits(31) if stopping.seed is None else stopping.seed,
        "documents": True,
    }
    own = {key: value for key, value in policy.items() if key != "variants"}  # which chooses among all
    return {**entry, "policy": own} if policy else entry


def _in_order(task: SweepTask, built: Requests, entry: StoppingEntry | None) -> tuple[Item, ...]:
    """The items of a task in the order in which they are asked: its own if all variants run to the end."""
    items = tuple(items_of(built))
    if entry is None:
        return items
    clusters = [task.cluster_of(requests[0].doc) for requests in built.values()]
    order = asking_order((item.doc_hash for item in items), clusters, entry["seed"])
    return tuple(items[place] for place in order)
