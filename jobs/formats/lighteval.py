"""Reads the details of lighteval (since version 0.10): `details/MODEL/DATE/details_TASK_DATE.parquet`.

A file is an evaluation of one model on one task. Field names are those of `DetailsLogger.Detail`, `Doc` and
`ModelResponse` in the package, the layout is that of `EvaluationTracker.save`; a model's name may have a
slash and be two folders. An answer is the generated text, or the log-likelihood of every choice.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.formats.input_format import InputFormat, NamedPath
from jobs.formats.json_files import files_at, read_object
from jobs.formats.samples import (
    Evaluation,
    InputQuery,
    Row,
    SampleBatch,
    TaskFacts,
    as_text,
    in_batches,
    text_hash,
)
from orchestrator.errors import UserError
from orchestrator.rundir.sample_files import is_moderate

DETAILS = re.compile(r"details_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.parquet")
COLUMNS = ("doc", "metric", "model_response")
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class DetailsFile:
    """The details of one task.

    Attributes:
        path: the file.
        task: name of the task, as the file's name has it.
        date: likewise.
    """

    path: Path
    task: str
    date: str

    @cached_property
    def _root(self) -> Path | None:
        """The folder `details` that it is in; None where the layout is another one."""
        parents = self.path.absolute().parent.parent.parents
        return next((parent for parent in parents if parent.name == "details"), None)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """What the results of the same evaluation state about it; empty where there are none."""
        if self._root is None:
            return {}
        folder = self.path.absolute().parent.parent.relative_to(self._root)
        path = self._root.parent / "results" / folder / f"results_{self.date}.json"
        config = read_object(path).get("config_general") if path.is_file() else None
        return config if isinstance(config, dict) else {}

    @property
    def model(self) -> str:
        """The model's name as the results state it, else as the folders are called."""
        stated, folder = self.config.get("model_name"), self.path.absolute().parent.parent
        return stated if isinstance(stated, str) else str(folder.relative_to(self._root or folder.parent))

    @property
    def generation(self) -> Mapping[str, Any]:
        """Parameters of generation; empty where unknown."""
        model = self.config.get("model_config") or {}
        return model.get("generation_parameters") or self.config.get("generation_parameters") or {}


def _files(path: str) -> Iterator[DetailsFile]:
    """The details at a path: the file itself, or all below a folder; the oldest first."""
    files = files_at(path, "details_*.parquet")
    named = [(match, file) for file in files if (match := DETAILS.fullmatch(file.name))]
    for match, file in sorted(named, key=lambda pair: (pair[0]["date"], str(pair[1]))):
        yield DetailsFile(file, match["task"], match["date"])


def _evaluations(path: NamedPath) -> list[Evaluation]:
    """One per file."""
    return [
        Evaluation(
            str(file.path),
            partial(_read, file),
            {"generation parameters": {k: v for k, v in file.generation.items() if k != "seed"}},
            subject=(file.model, file.task),
        )
        for file in _files(path.path)
    ]


FORMAT = InputFormat("details of lighteval", "details of lighteval (.parquet)", _files, _evaluations)


def _read(file: DetailsFile, query: InputQuery) -> Iterator[SampleBatch]:
    try:
        if not is_moderate(lambda shared: pq.ParquetFile(file.path, read_dictionary=list(shared)), COLUMNS):
            raise UserError(f"{file.path} holds more than a file of its size can.")
        with pq.ParquetFile(file.path) as parquet:
            yield from _batches(file, parquet, query)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.path} cannot be read as Parquet: {error}.") from error


def _batches(file: DetailsFile, parquet: pq.ParquetFile, query: InputQuery) -> Iterator[SampleBatch]:
    if lacking := [name for name in COLUMNS if name not in parquet.schema_arrow.names]:
        raise UserError(
            f"{file.path} has no column {', '.join(lacking)}: it is not a file of details, or was written by "
            "a version of lighteval before 0.10."
        )
    # Where no answer is a text, the list of texts has no type.
    texts = parquet.schema_arrow.field("model_response").type.field("text").type
    has_texts = not pa.types.is_null(texts.value_type)
    output_type = "generate_until" if has_texts else "multiple_choice"
    facts = TaskFacts(file.task, output_type=output_type, likelihoods=query.responses and not has_texts)
    temperature = file.generation.get("temperature") if has_texts else 0.0
    repeated = _repeated_ids(parquet)
    samples = (
        {**_sample(row, repeated, query), "temperature": temperature}
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=list(COLUMNS))
        for row in batch.to_pylist()
    )
    yield from in_batches(facts, file.model, samples)


def _repeated_ids(parquet: pq.ParquetFile) -> frozenset[str]:
    """Identifiers that several documents have, since those of each split are numbered from 0."""
    ids = Counter(
        row["doc"]["id"]
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=["doc.id"])
        for row in batch.to_pylist()
    )
    return frozenset(identifier for identifier, count in ids.items() if count > 1)


def _sample(row: Row, repeated: frozenset[str], query: InputQuery) -> dict[str, Any]:
    doc, response = row["doc"], row["model_response"]
    prompt = as_text(response.get("input") or doc.get("query"))
    document = text_hash(as_text([doc.get("query"), doc.get("choices")]))
    specific = doc.get("specific") or {}
    sample: dict[str, Any] = {
        "item": f"{doc['id']} {document}" if doc["id"] in repeated else doc["id"],
        "scores": dict(row["metric"]),
        "prompt_hash": text_hash(prompt),
        "prompt": prompt,
        "doc_hash": document,
        "cluster": query.label(specific),
    }
    if query.needs_responses:
        sample["response"] = _answer(response)
    if query.documents:
        sample |= {
            "target": as_text(_gold(doc)),
            "doc": {"id": doc["id"], "choices": doc.get("choices"), "specific": specific},
            "prompt_tokens": len(response.get("input_tokens") or ()) or None,
            "output_tokens": sum(map(len, response.get("output_tokens") or ())) or None,
        }
    return sample


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
