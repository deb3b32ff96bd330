"""Reads the details of lighteval (since version 0.10): `details/MODEL/DATE/details_TASK_DATE.parquet`.

A file is an evaluation of one model on one task. Field names are those of `DetailsLogger.Detail`, `Doc` and
`ModelResponse` in the package, the layout is that of `EvaluationTracker.save`; a model's name may have a
slash and be two folders. An answer is the generated text, or the log-likelihood of every choice.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.formats.json_files import as_text, files_at, read_object, single, text_hash
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, Row, Samples, TaskFacts
from orchestrator.errors import UserError
from orchestrator.rundir.store import is_moderate

DETAILS = re.compile(r"details_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.parquet")
COLUMNS = ("doc", "metric", "model_response")
ROWS_AT_ONCE = 1024


def _files(path: str) -> list[tuple[str, str, str]]:
    """Date, file and task of the details at a path, the file itself or all below a folder; oldest first."""
    named = ((DETAILS.fullmatch(file.name), file) for file in files_at(path, "details_*.parquet"))
    return sorted((match["date"], str(file), match["task"]) for match, file in named if match)


def _evaluations(path: str) -> Iterator[Evaluation]:
    """One per file, with model and settings as the results of the same evaluation state them.

    Without results, the folders are called as the model.
    """
    for date, label, task in _files(path):
        folder = Path(label).absolute().parent.parent
        root = next((parent for parent in folder.parents if parent.name == "details"), None)
        config: Mapping[str, Any] = {}
        if root is not None:
            results = root.parent / "results" / folder.relative_to(root) / f"results_{date}.json"
            stated = read_object(results).get("config_general") if results.is_file() else None
            config = stated if isinstance(stated, dict) else {}
        model = config.get("model_name")
        if not isinstance(model, str):
            model = str(folder.relative_to(root or folder.parent))
        of_model = config.get("model_config") or {}
        generation = of_model.get("generation_parameters") or config.get("generation_parameters") or {}
        settings = {"generation parameters": {name: v for name, v in generation.items() if name != "seed"}}
        facts = TaskFacts(task, model, generation.get("temperature"))
        yield Evaluation(label, partial(_read, Path(label), facts), settings, subject=(model, task))


FORMAT = InputFormat("details of lighteval", "details of lighteval (.parquet)", _files, _evaluations)


def _read(file: Path, facts: TaskFacts, query: InputQuery) -> Samples:
    try:
        if not is_moderate(lambda shared: pq.ParquetFile(file, read_dictionary=list(shared)), COLUMNS):
            raise UserError(f"{file} holds more than a file of its size can.")
        with pq.ParquetFile(file) as parquet:
            if lacking := [name for name in COLUMNS if name not in parquet.schema_arrow.names]:
                said = "it is not a file of details, or was written by a version of lighteval before 0.10"
                raise UserError(f"{file} has no column {', '.join(lacking)}: {said}.")
            # Where no answer is a text, the list of texts has no type.
            texts = parquet.schema_arrow.field("model_response").type.field("text").type
            if pa.types.is_null(texts.value_type):
                facts = replace(facts, temperature=0.0, output_type="multiple_choice", likelihoods=True)
            yield facts
            ids = Counter(row["doc"]["id"] for row in _rows(parquet, ["doc.id"]))
            for row in _rows(parquet, list(COLUMNS)):
                yield _sample(row, query, is_repeated=ids[row["doc"]["id"]] > 1)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as Parquet: {error}.") from error


def _rows(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[Row]:
    for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=columns):
        yield from batch.to_pylist()


def _sample(row: Row, query: InputQuery, *, is_repeated: bool) -> Row:
    """A sample; an identifier that several documents have, since each split counts from 0, gets a hash."""
    doc, response = row["doc"], row["model_response"]
    document = text_hash(as_text([doc.get("query"), doc.get("choices")]))
    specific, choices, index = doc.get("specific") or {}, doc.get("choices") or [], doc.get("gold_index")
    golds = [choices[i] for i in (index if isinstance(index, list) else [index]) if i is not None]
    # The text, or all of several; for log-likelihoods a list of [log-likelihood, is greedy]
    values, greedy = response.get("logprobs") or [], response.get("argmax_logits_eq_gold") or []
    answer: object = [[value, greedy[i] if i < len(greedy) else None] for i, value in enumerate(values)]
    if texts := response.get("text"):
        answer = single(texts)
    return query.sample(
        f"{doc['id']} {document}" if is_repeated else doc["id"],
        dict(row["metric"]),
        labels=specific,
        prompt=response.get("input") or doc.get("query"),
        doc_hash=document,
        response=answer,
        target=single(golds) if golds else None,
        doc={"id": doc["id"], "choices": doc.get("choices"), "specific": specific},
        prompt_tokens=len(response.get("input_tokens") or ()) or None,
        output_tokens=sum(map(len, response.get("output_tokens") or ())) or None,
    )
