"""The schema of a run directory: columns of samples and items, keys of the manifest and of other documents.

Whoever writes or reads a run takes names and types from here. Documents may have been written or damaged by
somebody else, so that their types say all that a reader relies on, and `misshapen` checks it.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NotRequired

import pyarrow as pa
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from orchestrator.engines.base import SERVED_BY, SERVED_COUNTS
from orchestrator.input_files import MOST_TASKS, MOST_VARIANTS
from orchestrator.rundir.measurements import COLUMNS

MOST_LOOKS = 100
LARGEST_NUMBER = 1e300
Number = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
"""No NaN, and no whole number that is no float."""
Whole = Annotated[int, Field(ge=0, lt=2**31)]
Temperature = Annotated[float, Field(ge=0, le=1e6)]
_PAIR = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)  # JSON has lists
Pass = Annotated[tuple[Temperature | None, Whole | None], _PAIR]  # temperature and seed

SOFTWARE_KEY = b"lldeg.software"
"""In the metadata of a file of samples: the ID of what wrote it, as in the manifest."""
SPEED_KEY = b"lldeg.speed"
"""In that of a file of samples: how long its block took, as JSON (`BlockSpeed`)."""
PLACE_KEY = b"lldeg.place"
"""In that of a file of samples or items: its path in the run directory, after a slash."""

NO_SCORE = "none"  # the field of scores in a run without any, since Parquet has no structs without fields

FORMAT = 1  # version of the format, recorded in every manifest

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


FIDELITY = pa.schema(
    {
        "item": pa.int32(),
        "temperature": pa.float32(),
        "seed": pa.int32(),
        "tokens": pa.list_(pa.int32()),
        "logprobs": pa.list_(pa.float32()),
        "prompt_tokens": pa.int32(),
        "error": pa.string(),
        "sample_key": pa.string(),
    }
)
"""How a variant scores answers of the baseline, a row each; the lists are those of `engines.base.TOKENS`."""


def sample_schema(metrics: Iterable[str] = (), filters: Iterable[str] = ()) -> pa.Schema:
    """The schema of samples, one row each: a score per "metric,filter", a filtered text per filter of a run.

    All files of a run share it, so that a reader takes the whole folder for one table; what a task does not
    have is null in its rows. A score whose name only an answer told is a field of the files that hold it; the
    manifest lists it. `corpus_values` has, as JSON by "metric,filter", what is no number and what lm-eval
    aggregates over a corpus.
    """
    return pa.schema(
        {
            "item": pa.int32(),
            "doc_hash": pa.string(),
            "prompt_hash": pa.string(),
            "temperature": pa.float32(),
            "seed": pa.int32(),
            "scores": pa.struct(dict.fromkeys(tuple(metrics) or (NO_SCORE,), pa.float64())),
            "corpus_values": pa.string(),
            "response": pa.string(),
            "filtered": pa.struct(dict.fromkeys(filters, pa.string())),
            "finish_reason": pa.string(),
            "prompt_cut": pa.int32(),
            **COLUMNS,
            "error": pa.string(),
            **dict.fromkeys(SERVED_COUNTS, pa.int32()),
            **dict.fromkeys(SERVED_BY, pa.string()),
            "sample_key": pa.string(),
        }
    )


def schema_of_tasks(tasks: Iterable[Mapping[str, Any]]) -> pa.Schema:
    """The schema of samples of a run with these tasks, given as entries of its manifest."""
    entries = list(tasks)
    metrics, filters = ({name for one in entries for name in one[key]} for key in ("metrics", "filters"))
    return sample_schema(sorted(metrics), sorted(filters))


def with_scores(schema: pa.Schema, scores: Iterable[str]) -> pa.Schema:
    """The schema of a file with these scores, some of which the manifest may not list yet."""
    filters = [field.name for field in schema.field("filtered").type]
    return sample_schema(dict.fromkeys((*_scores_in(schema), *scores)), filters)


def unlisted_scores(listed: pa.Schema, schema: pa.Schema) -> tuple[str, ...]:
    """Scores that a file has beyond those that the manifest lists."""
    return tuple(name for name in _scores_in(schema) if name not in _scores_in(listed))


def _scores_in(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema.field("scores").type if field.name != NO_SCORE]


_adapter = cache(TypeAdapter[Any])


def misshapen(document: Any, shape: Any) -> str | None:
    """What is wrong with parsed JSON or YAML, the end of a sentence; None if it is of a shape below."""
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


class VariantEntry(TypedDict):
    """A variant in the manifest; imported variants have neither model nor revision."""

    model: str | None
    revision: NotRequired[str | None]  # identity of the weights
    engine: dict[str, Any]  # options that decide answers, and `packages` of an engine in a Python of its own
    digest: NotRequired[str | None]  # of all this
    commits: NotRequired[dict[str, str]]  # of other repositories that options name (a tokenizer), by option
    versions: NotRequired[dict[str, str]]  # of Python and packages, if it has a Python of its own


class MetricEntry(TypedDict):
    """A "metric,filter" of a task in the manifest."""

    higher_is_better: NotRequired[bool]  # missing where neither the task nor an imported input says
    range: NotRequired[str]  # how far scores can range ("LOW..HIGH", or "none"), where that is known
    unit: NotRequired[str]  # of a score without a range


class AggregateRow(TypedDict):
    """What lm-eval's own aggregation makes of one pass over a task, where that is not the mean."""

    variant: str
    task: str
    temperature: Number
    seed: int | None
    metric: str  # "metric,filter"
    value: Number
    items: int  # how many it was computed from


class TaskEntry(TypedDict):
    """A task in the manifest."""

    digest: NotRequired[str | None]  # of the definition
    group: str | None  # the lm-eval group it was asked for with; None for a task asked for by itself
    output_type: str | None  # lm-eval's word for what is asked of a model
    metric: NotRequired[str | None]  # the "metric,filter" that decides
    metrics: dict[str, MetricEntry]  # by "metric,filter"
    filters: list[str]
    cluster: NotRequired[str | None]  # field of the documents whose equal values form a cluster
    limit: NotRequired[dict[str, Whole] | None]
    """How many items were asked for, {"random": n} or {"first": n}; None for all. Runs of older versions lack
    it; where they have a limit, it is of the first items."""
    items: Whole  # how many there are
    reruns: list[Pass]  # that were asked for
    definition: NotRequired[dict[str, Any]]  # lm-eval's whole configuration; imported tasks have none
    sampling: NotRequired[dict[str, Any]]  # what it sets differently from the run's sampling, if anything


class SubsetEntry(TypedDict):
    """The chosen items in the manifest; see `sweep.item_subset`."""

    digest: NotRequired[str]
    chosen_by: NotRequired[Any]


class SpendingEntry(TypedDict):
    """Names of spending functions."""

    degraded: str
    certified: str


class FidelityEntry(TypedDict):
    """How variants score the baseline's answers."""

    top: Whole  # likeliest tokens that are kept of each place
    samples: Whole  # answers that each of them scores


class StoppingEntry(TypedDict):
    """The plan of a run whose variants are stopped early; fixed by the first submit."""

    looks: Annotated[int, Field(ge=1, le=MOST_LOOKS)]  # how many, equally spaced
    until: Literal["degraded", "decided"]
    spending: SpendingEntry  # how the level is spent over the looks
    certificate: NotRequired[Literal["default", "proven"]]  # what it rests on; missing in old runs
    alpha: Number  # level of the tests
    margin: Number  # largest acceptable drop, as a share of the metric's range
    comparisons: list[Annotated[tuple[str, Temperature], _PAIR]]  # variant and temperature of each
    metrics: dict[str, str]  # the "metric,filter" that decides, by task
    seed: Whole  # of the order in which items are asked (`stats.sequential.plan.asking_order`); 0 in old runs
    documents: NotRequired[bool]  # whether equal documents of one task flip together; missing in old runs
    # of variants that joined later, the number of their submit: each has the level for its variants alone
    families: NotRequired[dict[str, Whole]]
    policy: NotRequired[dict[str, Any]]  # of the release that the looks decide about, as it was written
    finished: NotRequired[bool]  # whether what a decision left out has been asked for, too


class HardwareEntry(TypedDict, total=False):
    """Where samples were computed."""

    host: str  # a digest of the node's name
    device: str | None  # model of the GPU or the CPU; None if it is not known, as behind a server
    cuda: str | None  # version of CUDA or ROCm that torch was built for; None without a GPU
    driver: str | None  # version of the GPU's driver; None if it is not known
    dtype: str | None  # number format of the engine; None if it is not known


class SoftwareEntry(TypedDict):
    """What wrote samples."""

    versions: dict[str, str]  # of Python and packages
    commit: NotRequired[str | None]  # of lldeg
    hardware: NotRequired[HardwareEntry]  # missing in older runs, and for rows that the driver wrote
    log_likelihoods: NotRequired[str | None]  # which way the engine comes to them, if it has several


class BlockSpeed(TypedDict):
    """A block on its replica, which works on several at a time."""

    replica: str  # an ID
    ended: Number  # when it was answered and scored, in seconds since the replica began to load
    full: bool  # whether the replica then had at least a batch of further samples to answer
    samples: Whole  # that were answered
    prompt_tokens: Annotated[int, Field(ge=0, lt=2**63)]
    output_tokens: Annotated[int, Field(ge=0, lt=2**63)]
    load_seconds: Number
    peak_gib: Number  # memory of its processes so far or, with a GPU, that in use there with the model loaded
    gpus: Number  # that the replica takes, on all of its nodes; likewise the next
    cpus: Number


class Manifest(TypedDict):
    """manifest.json: what a run is made of."""

    format: NotRequired[Whole]
    name: NotRequired[str]
    baseline: NotRequired[str | None]
    versions: NotRequired[dict[str, str]]
    commit: NotRequired[str | None]
    hardware: NotRequired[dict[str, Any]]
    prompt: NotRequired[dict[str, Any]]  # how prompts are put together
    sampling: NotRequired[dict[str, Any]]  # settings that all samples share
    subset: NotRequired[SubsetEntry]
    fidelity: NotRequired[FidelityEntry]  # missing if no variant scores the baseline's answers
    stopping: NotRequired[StoppingEntry]  # missing if every planned sample is asked for
    ledger: NotRequired[bool]  # whether looks.jsonl has had a line for every look from the first submit on
    software: NotRequired[dict[str, SoftwareEntry]]  # all that wrote samples, by the ID in their files
    skipped: NotRequired[dict[str, str]]  # variants that the machine could not run, and why
    imported: NotRequired[bool]  # whether it was made from other people's results
    variants: Annotated[dict[str, VariantEntry], Field(max_length=MOST_VARIANTS)]
    tasks: Annotated[dict[str, TaskEntry], Field(max_length=MOST_TASKS)]


class SweepFile(TypedDict, total=False):
    """sweep.yaml of a run, as far as an analysis reads it."""

    baseline: str | None
    variants: dict[str, dict[str, Any] | None] | None
    analysis: dict[str, Annotated[float, Field(ge=-1e6, le=1e6)]] | None
    cost: dict[str, Any] | None
