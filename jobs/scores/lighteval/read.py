"""Reads the details of lighteval (since version 0.10): a file is an evaluation of one model on one task.

Field names are those of `DetailsLogger.Detail`, `Doc` and `ModelResponse` in the package. An answer is the
generated text, or the log-likelihood of every choice.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.formats.samples import Evaluation, Query, Sample, SampleBatch, TaskFacts, in_batches, text_hash
from jobs.formats.write_run import as_text
from jobs.scores.lighteval.files import DetailsFile, details_files
from jobs.scores.samples.source import SampleSource
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError
from orchestrator.rundir.sample_files import is_moderate

COLUMNS = ("doc", "metric", "model_response")
ROWS_AT_ONCE = 1024
Row = Mapping[str, Any]


class Lighteval(SampleSource):
    """Details files of lighteval, or folders of them."""

    described = "details of lighteval"
    accepted = "details of lighteval (.parquet)"

    def recognises(self, path: str) -> bool:
        """Whether there are files called as lighteval calls its details."""
        return next(details_files(Path(path)), None) is not None

    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """One per file, the oldest first."""
        return [
            Evaluation(
                str(file.path),
                partial(_read, file),
                {"generation parameters": {k: v for k, v in file.generation.items() if k != "seed"}},
                subject=(file.model, file.task),
            )
            for file in details_files(Path(path.path))
        ]


SOURCE: Source = Lighteval()


def _read(file: DetailsFile, query: Query) -> Iterator[SampleBatch]:
    try:
        if not is_moderate(lambda shared: pq.ParquetFile(file.path, read_dictionary=list(shared)), COLUMNS):
            raise UserError(f"{file.path} holds more than a file of its size can.")
        with pq.ParquetFile(file.path) as parquet:
            yield from _batches(file, parquet, query)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.path} cannot be read as Parquet: {error}.") from error


def _batches(file: DetailsFile, parquet: pq.ParquetFile, query: Query) -> Iterator[SampleBatch]:
    if lacking := [name for name in COLUMNS if name not in parquet.schema_arrow.names]:
        raise UserError(
            f"{file.path} has no column {', '.join(lacking)}: it is not a file of details, or was written by "
            "a version of lighteval before 0.10."
        )
    has_texts = _is_text(parquet.schema_arrow.field("model_response").type)
    facts = TaskFacts(
        file.task,
        output_type="generate_until" if has_texts else "multiple_choice",
        likelihoods=query.responses and not has_texts,
    )
    repeated = _repeated_ids(parquet)
    temperature = file.generation.get("temperature")
    samples = (
        _sample(row, temperature if has_texts else 0.0, repeated, query)
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=list(COLUMNS))
        for row in batch.to_pylist()
    )
    yield from in_batches(facts, file.model, samples)


def _is_text(response: pa.StructType) -> bool:
    """Whether answers are texts; where none is, the list of texts has no type."""
    return not pa.types.is_null(response.field("text").type.value_type)


def _repeated_ids(parquet: pq.ParquetFile) -> frozenset[str]:
    """Identifiers that several documents have, since those of each split are numbered from 0."""
    ids = Counter(
        row["doc"]["id"]
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=["doc.id"])
        for row in batch.to_pylist()
    )
    return frozenset(identifier for identifier, count in ids.items() if count > 1)


def _sample(row: Row, temperature: float | None, repeated: frozenset[str], query: Query) -> Sample:
    doc, response = row["doc"], row["model_response"]
    prompt = as_text(response.get("input") or doc.get("query"))
    document = text_hash(as_text([doc.get("query"), doc.get("choices")]))
    specific = doc.get("specific") or {}
    label = specific.get(query.cluster) if query.cluster else None
    found = Sample(
        item=f"{doc['id']} {document}" if doc["id"] in repeated else doc["id"],
        scores=dict(row["metric"]),
        temperature=temperature,
        prompt_hash=text_hash(prompt),
        doc_hash=document,
        cluster=None if label is None else str(label),
    )
    if query.needs_prompts:
        found.prompt = prompt
    if query.needs_responses:
        found.response = _answer(response)
    if query.documents:
        found.target = as_text(_gold(doc))
        found.doc = {"id": doc["id"], "choices": doc.get("choices"), "specific": specific}
        found.prompt_tokens = len(response.get("input_tokens") or ()) or None
        found.output_tokens = sum(map(len, response.get("output_tokens") or ())) or None
    return found


def _answer(response: Row) -> str | None:
    """The text, or all of several; for log-likelihoods a JSON list of [log-likelihood, is greedy]."""
    texts = response.get("text") or []
    if texts:
        return as_text(texts[0] if len(texts) == 1 else texts)
    values, greedy = response.get("logprobs") or [], response.get("argmax_logits_eq_gold") or []
    return as_text([[value, greedy[i] if i < len(greedy) else None] for i, value in enumerate(values)])


def _gold(doc: Row) -> object:
    """The right choice; all of them where there are several."""
    choices, index = doc.get("choices") or [], doc.get("gold_index")
    golds = [choices[i] for i in (index if isinstance(index, list) else [index]) if i is not None]
    return golds[0] if len(golds) == 1 else golds or None
