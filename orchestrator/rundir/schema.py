"""The schema of a run directory: columns of samples and items, keys of the manifest and of other documents.

Whoever writes or reads a run takes names and types from here. Documents may have been written or damaged by
somebody else, so that their types say all that a reader relies on, and `misshapen` checks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, NotRequired

import pyarrow as pa
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from orchestrator.input_files import MOST_TASKS, MOST_VARIANTS

MOST_LOOKS = 100
LARGEST_NUMBER = 1e300
Number = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
"""No NaN, and no whole number that is no float."""
Whole = Annotated[int, Field(ge=0, lt=2**31)]
Temperature = Annotated[float, Field(ge=0, le=1e6)]
_PAIR = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)  # JSON has lists
Pass = Annotated[tuple[Temperature | None, Whole | None], _PAIR]
"""Temperature and seed."""

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


def misshapen(document: Any, shape: Any) -> str | None:
    """What is wrong with a document, the end of a sentence; None if it is of a shape.

    Args:
        document: parsed JSON or YAML.
        shape: one of the types below, or a list of one.
    """
    try:
        _adapter(shape).validate_python(document, strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = problem["loc"][: 3 if problem["loc"][:1] in {("variants",), ("tasks",)} else 1]
        where = ".".join(map(str, place))
        if problem["type"] == "too_long":
            return f"it has too many {where} (more than {problem['ctx']['max_length']:,})"
        return f"{where} has an invalid value"
    return None


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


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
    revision: NotRequired[str | None]
    engine: dict[str, Any]
    digest: NotRequired[str | None]
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
    temperature: Number
    seed: int | None
    metric: str
    value: Number
    items: int


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

    digest: NotRequired[str | None]
    group: str | None
    output_type: str | None
    metric: NotRequired[str | None]
    metrics: dict[str, MetricEntry]
    filters: list[str]
    cluster: NotRequired[str | None]
    limit: NotRequired[dict[str, Whole] | None]
    items: Whole
    reruns: list[Pass]
    definition: NotRequired[dict[str, Any]]
    sampling: NotRequired[dict[str, Any]]


class SubsetEntry(TypedDict):
    """The chosen items in the manifest; see `sweep.item_subset`."""

    digest: NotRequired[str]
    chosen_by: NotRequired[Any]


class SpendingEntry(TypedDict):
    """Names of spending functions."""

    degraded: str
    certified: str


class StoppingEntry(TypedDict):
    """The plan of a run whose variants are stopped early; fixed by the first submit.

    Attributes:
        looks: how many, equally spaced.
        until: "degraded" or "decided".
        spending: how the level is spent over the looks.
        alpha: level of the tests.
        margin: largest acceptable drop, as a share of the metric's range.
        comparisons: variant and temperature of each.
        metrics: the "metric,filter" that decides, by task.
        seed: of the order in which items are asked (`stats.sequential.plan.asking_order`).
        finished: whether the samples that a decision left out have been asked for, too.
    """

    looks: Annotated[int, Field(ge=1, le=MOST_LOOKS)]
    until: Literal["degraded", "decided"]
    spending: SpendingEntry
    alpha: Number
    margin: Number
    comparisons: list[Annotated[tuple[str, Temperature], _PAIR]]
    metrics: dict[str, str]
    seed: Whole
    finished: NotRequired[bool]


class HardwareEntry(TypedDict, total=False):
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
    commit: NotRequired[str | None]
    hardware: NotRequired[HardwareEntry]


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

    format: NotRequired[Whole]
    name: NotRequired[str]
    baseline: NotRequired[str | None]
    versions: NotRequired[dict[str, str]]
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
    variants: Annotated[dict[str, VariantEntry], Field(max_length=MOST_VARIANTS)]
    tasks: Annotated[dict[str, TaskEntry], Field(max_length=MOST_TASKS)]


class SweepFile(TypedDict, total=False):
    """sweep.yaml of a run, as far as an analysis reads it."""

    baseline: str | None
    variants: dict[str, Any] | None
    analysis: dict[str, Annotated[float, Field(ge=-1e6, le=1e6)]] | None
