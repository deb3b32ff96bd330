"""A run directory as the analysis sees it: manifest, configuration, where samples are, and who wrote them.

Files whose name begins with a dot are half-written and invisible. The manifest says what was to be done, so
it alone decides what is missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import yaml

from jobs.formats.notices import Notice, NoticeCode, some
from orchestrator.errors import UserError
from orchestrator.rundir.identity import differences
from orchestrator.rundir.locations import subfolders
from orchestrator.rundir.manifest import software_of
from orchestrator.rundir.schema import Manifest, SoftwareEntry, SweepFile, TaskEntry, VariantEntry, misshapen
from orchestrator.rundir.store import RunStore

YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The quick one where PyYAML has it: 100,000 seeds are as many lines."""


@dataclass(frozen=True)
class RunFiles:
    """An opened run.

    Attributes:
        store: the run directory.
        manifest: what was done, and with what.
        sweep: what was asked for.
        spans: first and last item of the sample files that were read.
        texts: of these files, the least and the greatest answer; None where the footer does not tell.
        writers: the ID of what wrote them, of those with scores; None for a file that does not say.
    """

    store: RunStore
    manifest: Manifest
    sweep: dict[str, Any]
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    texts: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    writers: dict[str, str | None] = field(default_factory=dict)

    @staticmethod
    def open(location: str) -> "RunFiles":
        """Open a run directory.

        Raises:
            UserError: if it is not a run directory, or its manifest or sweep cannot be read.
        """
        store = RunStore(location)
        manifest = store.read_manifest()
        try:
            sweep = yaml.load(store.read_sweep(), YAML)  # noqa: S506 - a safe loader
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
            raise UserError(
                f"The sweep.yaml of {location} is not valid YAML: {' '.join(str(error).split())}."
            ) from error
        sweep = sweep if isinstance(sweep, dict) else {}
        if (problem := misshapen(sweep, SweepFile)) is not None:
            raise UserError(f"The sweep.yaml of {location} is damaged: {problem}.")
        return RunFiles(store, manifest, sweep)

    @property
    def location(self) -> str:
        """What the user called it."""
        return self.store.url

    @property
    def filesystem(self) -> pafs.FileSystem:
        """The file system that holds it."""
        return self.store.filesystem

    @property
    def models(self) -> Mapping[str, VariantEntry]:
        """Variants by name, as the manifest describes them."""
        return self.manifest["variants"]

    @property
    def tasks(self) -> Mapping[str, TaskEntry]:
        """Tasks by name, as the manifest describes them."""
        return self.manifest["tasks"]

    @property
    def baseline(self) -> str | None:
        """The baseline of the sweep."""
        return self.sweep.get("baseline")

    @property
    def analysis(self) -> Mapping[str, float]:
        """The sweep's level and margin."""
        return self.sweep.get("analysis") or {}

    def items(self, task: str, columns: list[str]) -> pa.Table:
        """Columns of the item table of a task.

        Raises:
            UserError: if it is missing or unreadable.
        """
        try:
            return self.store.read_items(task, columns)
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise UserError(
                f"The items of task {task} in {self.location} are missing or damaged; submitting the sweep "
                "again writes them anew."
            ) from error

    def samples(self, model: str, task: str) -> list[str]:
        """Paths of the sample files of one model and task, sorted."""
        return self._samples.get((model, task), [])

    @cached_property
    def _samples(self) -> dict[tuple[str, str], list[str]]:
        return self.store.sample_paths()

    def is_monotonous(self, model: str, task: str) -> bool:
        """Whether all answers of a model to a task are one and the same text, as far as they were read."""
        found = {self.texts[path] for path in self.samples(model, task) if path in self.texts}
        return len(found) == 1 and (texts := found.pop()) is not None and texts[0] == texts[1]

    def software(self, model: str) -> list[SoftwareEntry]:
        """What wrote the scored samples of a model; a file that names nothing known may be of any of it."""
        if self.manifest.get("imported") or model not in self.models:
            return []
        known = software_of(self.manifest)
        paths = chain.from_iterable(self.samples(model, task) for task in self.tasks)
        named = {self.writers[path] for path in paths if path in self.writers}
        return [entry for name, entry in known.items() if name in named or not named <= known.keys()]


def runs_in(path: str) -> list[str]:
    """The run itself, or the runs directly inside of a folder."""
    if RunStore(path).has_run():
        return [path]
    return [folder for folder in subfolders(path) if RunStore(folder).has_run()]


def mixed_writers(runs: Sequence[RunFiles], baseline: str, variant: str) -> Iterator[Notice]:
    """Say what differs in software, and in hardware, between and within the sides of a comparison.

    What is not known (of imported samples, and the hardware of earlier versions) differs from nothing. What a
    variant declares, an environment of its own or a number format, is what is compared, and may differ.
    """
    writers = {name: [entry for run in runs for entry in run.software(name)] for name in (baseline, variant)}
    sides = [{name: entries} for name, entries in writers.items()]
    declares = any("versions" in run.models[name] for run in runs for name in writers if name in run.models)
    software, hardware = NoticeCode.MIXED_SOFTWARE, NoticeCode.MIXED_HARDWARE
    for code, what, groups, keys in (
        (software, "software", sides if declares else [writers], ("versions", "commit")),
        (hardware, "hardware or drivers", [writers], ("device", "cuda", "driver")),
        (hardware, "number formats", sides, ("dtype",)),
    ):
        for group in groups:
            changes: dict[str, None] = {}
            for key in keys:
                stated = [{**one, **one.get("hardware", {})}.get(key) for one in chain(*group.values())]
                first, *others = [value for value in stated if value] or [None]
                changes |= dict.fromkeys(one for other in others for one in differences(first, other, [key]))
            if changes:
                said = (
                    f"The answers of {' and '.join(group)} come from different {what}, so the comparison is "
                    f"not of the models alone ({some(list(changes))})."
                )
                yield Notice(code, said)
