"""The schema of a run directory: columns of samples and items, keys of the manifest.

Whoever writes or reads a run takes names and types from here; only pyarrow is needed for that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOFTWARE_KEY = b"lldeg.software"
"""In the metadata of a file of samples: the ID of what wrote it, as in the manifest."""
PLACE_KEY = b"lldeg.place"
"""In that of a file of samples or items: its path in the run directory, after a slash."""

NO_SCORE = ("none",)
"""The field of scores in a run without any, since Parquet has no structs without fields."""

FORMAT = 1
"""Version of the format, recorded in every manifest."""

ITEMS = pa.schema(
    {
        "task": pa.string(),
        "item": pa.int32(),
        "doc_hash": pa.string(),
        "prompt_hash": pa.string(),
        "cluster": pa.string(),
        "prompt": pa.string(),
        "target": pa.string(),
        "doc": pa.string(),
    }
)
"""Documents and prompts of a task; one row per item. Items with equal `cluster` are dependent."""


@dataclass(frozen=True)
class SampleColumns:
    """Columns of samples: a score per "metric,filter" and a filtered text per filter, of all tasks of a run.

    All files of a run share them, so that a reader takes the whole folder for one table; what a task does not
    have is null in its rows. A score whose name only an answer told is a field of the files that hold it; the
    manifest lists it. `corpus_values` has, as JSON by "metric,filter", what is no number and what lm-eval
    aggregates over a corpus.
    """

    metrics: tuple[str, ...]
    filters: tuple[str, ...]

    @classmethod
    def of(cls, tasks: Iterable[Mapping[str, Any]]) -> SampleColumns:
        """Columns for tasks, given as entries of a manifest."""
        entries = list(tasks)
        return cls(
            tuple(sorted({metric for entry in entries for metric in entry["metrics"]})),
            tuple(sorted({name for entry in entries for name in entry["filters"]})),
        )

    def including(self, scores: Iterable[str]) -> pa.Schema:
        """The schema of a file with these scores, some of which the manifest may not list yet."""
        return replace(self, metrics=tuple(dict.fromkeys((*self.metrics, *scores)))).schema

    def unlisted(self, schema: pa.Schema) -> tuple[str, ...]:
        """Scores that a file has beyond those of the manifest."""
        names = (field.name for field in schema.field("scores").type)
        return tuple(name for name in names if name not in self.metrics)

    @property
    def schema(self) -> pa.Schema:
        """The Parquet schema; one row per sample."""
        return pa.schema(
            {
                "item": pa.int32(),
                "doc_hash": pa.string(),
                "prompt_hash": pa.string(),
                "temperature": pa.float32(),
                "seed": pa.int32(),
                "scores": pa.struct({metric: pa.float64() for metric in self.metrics or NO_SCORE}),
                "corpus_values": pa.string(),
                "response": pa.string(),
                "filtered": pa.struct({name: pa.string() for name in self.filters}),
                "finish_reason": pa.string(),
                "prompt_tokens": pa.int32(),
                "output_tokens": pa.int32(),
                "prompt_cut": pa.int32(),
                "error": pa.string(),
                "sample_key": pa.string(),
            }
        )


class VariantEntry(TypedDict):
    """A variant in the manifest; imported variants have neither model nor revision.

    Attributes:
        revision: identity of the weights.
        engine: the options that decide answers; with a Python of its own also `packages`, the versions of
            its engine.
        digest: of all this.
        commits: of other repositories that engine options name (a tokenizer), by option.
        versions: of Python and packages, if it has a Python of its own.
    """

    model: str | None
    revision: str | None
    engine: dict[str, Any]
    digest: str
    commits: NotRequired[dict[str, str]]
    versions: NotRequired[dict[str, str]]


class MetricEntry(TypedDict):
    """A "metric,filter" of a task in the manifest.

    Attributes:
        higher_is_better: missing where neither the task nor an imported input says.
        range: how far scores can range ("LOW..HIGH", or "none"), where that is known.
        unit: of a score without a range.
    """

    higher_is_better: NotRequired[bool]
    range: NotRequired[str]
    unit: NotRequired[str]


class AggregateRow(TypedDict):
    """What lm-eval's own aggregation makes of one pass over a task, where that is not the mean.

    Attributes:
        metric: "metric,filter".
        items: how many it was computed from.
    """

    variant: str
    task: str
    temperature: float
    seed: int | None
    metric: str
    value: float
    items: int


def is_aggregate(row: object) -> bool:
    """Whether a value, which somebody else may have written, is such a row."""
    if not isinstance(row, dict) or not row.keys() >= AggregateRow.__required_keys__:
        return False
    texts = all(isinstance(row[key], str) for key in ("variant", "task", "metric"))
    numbers = (row["temperature"], row["value"], row["items"], row["seed"] or 0)
    return texts and all(isinstance(number, (int, float)) and abs(number) <= 1e300 for number in numbers)


class TaskEntry(TypedDict):
    """A task in the manifest.

    Attributes:
        digest: of the definition.
        group: the lm-eval group it was asked for with; None for a task asked for by itself.
        output_type: lm-eval's word for what is asked of a model.
        metric: the "metric,filter" that decides.
        metrics: all of them.
        filters: names of its filters.
        cluster: field of the documents whose equal values form a cluster of dependent items.
        limit: how many of the task's items were asked for, {"random": n} or {"first": n}; None for all. Runs
            of older versions lack it; where they have a limit, it is of the first items.
        items: how many there are.
        reruns: temperature and seed of each pass over the items that was asked for.
        definition: lm-eval's whole configuration of it; imported tasks have none.
        sampling: what it sets differently from the run's sampling, if anything.
    """

    digest: str
    group: str | None
    output_type: str | None
    metric: str | None
    metrics: dict[str, MetricEntry]
    filters: list[str]
    cluster: str | None
    limit: NotRequired[dict[str, int] | None]
    items: int
    reruns: list[tuple[float | None, int | None]]
    definition: NotRequired[dict[str, Any]]
    sampling: NotRequired[dict[str, Any]]


class SubsetEntry(TypedDict):
    """The chosen items in the manifest; see `sweep.item_subset`."""

    digest: str
    chosen_by: dict[str, Any] | None


class StoppingEntry(TypedDict):
    """The plan of a run whose variants are stopped early; fixed by the first submit.

    Attributes:
        looks: how many, equally spaced.
        until: "degraded" or "decided".
        spending: names of the spending functions, by "degraded" and "certified".
        alpha: level of the tests.
        margin: largest acceptable drop, as a share of the metric's range.
        comparisons: variant and temperature of each.
        metrics: the "metric,filter" that decides, by task.
        seed: of the order in which items are asked (`stats.sequential.plan.asking_order`).
        finished: whether the samples that a decision left out have been asked for, too.
    """

    looks: int
    until: Literal["degraded", "decided"]
    spending: dict[str, str]
    alpha: float
    margin: float
    comparisons: list[tuple[str, float]]
    metrics: dict[str, str]
    seed: int
    finished: NotRequired[bool]


class HardwareEntry(TypedDict):
    """Where samples were computed.

    Attributes:
        host: a digest of the node's name.
        device: model of the GPU or the CPU; None if it is not known, as behind a server.
        cuda: version of CUDA or ROCm that torch was built for, None without a GPU.
        driver: version of the GPU's driver, None if it is not known.
        dtype: number format of the engine; None if it is not known.
    """

    host: str
    device: str | None
    cuda: str | None
    driver: str | None
    dtype: str | None


class SoftwareEntry(TypedDict):
    """What wrote samples.

    Attributes:
        versions: of Python and packages.
        commit: of lldeg.
        hardware: missing in runs of earlier versions, and for rows that the driver wrote.
    """

    versions: dict[str, str]
    commit: str | None
    hardware: NotRequired[HardwareEntry]


class Environment(TypedDict):
    """What a run was started with: package versions, commit of lldeg, hardware of the driver."""

    versions: dict[str, str]
    commit: str | None
    hardware: dict[str, Any]


class Manifest(TypedDict):
    """manifest.json: what a run is made of.

    Attributes:
        prompt: how prompts are put together.
        sampling: settings that all samples share.
        stopping: how variants are stopped early; missing if every planned sample is asked for.
        ledger: whether looks.jsonl has had a line for every look from the first submit on.
        skipped: variants left out because the machine could not run them, with the reason.
        software: all that wrote samples, by an ID that their files have in their metadata.
        imported: whether it was made from other people's results.
    """

    format: int
    name: str
    baseline: NotRequired[str]
    versions: dict[str, str]
    commit: NotRequired[str | None]
    hardware: NotRequired[dict[str, Any]]
    prompt: NotRequired[dict[str, Any]]
    sampling: NotRequired[dict[str, Any]]
    subset: NotRequired[SubsetEntry]
    stopping: NotRequired[StoppingEntry]
    ledger: NotRequired[bool]
    software: NotRequired[dict[str, SoftwareEntry]]
    skipped: NotRequired[dict[str, str]]
    imported: NotRequired[bool]
    variants: dict[str, VariantEntry]
    tasks: dict[str, TaskEntry]
