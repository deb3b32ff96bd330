"""Whether one software and one kind of hardware answered for both sides of a comparison.

What is not known (of imported samples, and the hardware of earlier versions) differs from nothing. What a
variant declares, an environment of its own or a number format, is what is compared, and may differ.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.run_files import RunFiles
from orchestrator.rundir.identity import differences
from orchestrator.rundir.manifest import software_of
from orchestrator.rundir.schema import SoftwareEntry

Writers = Mapping[str, Sequence[SoftwareEntry]]
"""What wrote the scored samples of a model, by its name."""


def mixed_writers(runs: Sequence[RunFiles], baseline: str, variant: str) -> Iterator[Notice]:
    """Say what differs in software, and in hardware, between and within the sides of a comparison."""
    writers = {name: [entry for run in runs for entry in _writers(run, name)] for name in (baseline, variant)}
    described = [run.models[name] for run in runs for name in writers if name in run.models]
    own_environment = any("versions" in entry for entry in described)
    sides = [{name: entries} for name, entries in writers.items()]
    for group in sides if own_environment else [writers]:
        yield from _mixed(NoticeCode.MIXED_SOFTWARE, "software", group, ("versions", "commit"))
    yield from _mixed(NoticeCode.MIXED_HARDWARE, "hardware or drivers", writers, ("device", "cuda", "driver"))
    for group in sides:
        yield from _mixed(NoticeCode.MIXED_HARDWARE, "number formats", group, ("dtype",))


def _writers(run: RunFiles, model: str) -> Sequence[SoftwareEntry]:
    """What a model's files name; a file that names nothing known may be of anything that wrote some."""
    if run.manifest.get("imported") or model not in run.models:
        return []
    known = software_of(run.manifest)
    paths = chain.from_iterable(run.samples(model, task) for task in run.tasks)
    named = {run.writers[path] for path in paths if path in run.writers}
    return [entry for name, entry in known.items() if name in named or not named <= known.keys()]


def _mixed(code: NoticeCode, what: str, writers: Writers, keys: Sequence[str]) -> Iterator[Notice]:
    changes: dict[str, None] = {}
    for key in keys:
        stated = [{**entry, **entry.get("hardware", {})}.get(key) for entry in chain(*writers.values())]
        first, *others = [value for value in stated if value] or [None]
        changes |= dict.fromkeys(change for other in others for change in differences(first, other, [key]))
    if changes:
        said = (
            f"The answers of {' and '.join(writers)} come from different {what}, so the comparison is not of "
            f"the models alone ({some(list(changes))})."
        )
        yield Notice(code, said)
