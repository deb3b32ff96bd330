"""Reads results of the vendors' verifiers of tool calls: K2-Vendor-Verifier, MiniMax-Provider-Verifier.

A file (`results.jsonl`, `MODEL_results.jsonl`) is an evaluation of one endpoint. Rows have the request and
the whole response, from which scores are counted anew. Requests that offer no tools are passed over. Field
names are those of `tool_calls_eval.py` (2025-11) and of `verify.py` (2026-09).
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.json_files import as_text, files_with, read_lines, text_hash
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, Row, Samples, TaskFacts
from orchestrator.engines.reply import told
from orchestrator.extras import require

TASK = "tool_calls"
INDEX, REQUEST, EXPECTED = "data_index", "request", "expected_tool_call"
NEEDED: dict[str, type | tuple[type, ...]] = {INDEX: (int, str), REQUEST: dict}
_files = partial(files_with, name="*results.jsonl", key=b'{"data_index"')


def _evaluations(path: str) -> Iterator[Evaluation]:
    """One per file; the model and the temperature are those of its first request."""
    require("calls", f"Reading {path}")
    from orchestrator.tool_calls import METRICS  # noqa: PLC0415 - what it needs is an extra

    for file in _files(path):
        rows = read_lines(file, "a result of a verifier", NEEDED)
        request: dict[str, Any] = next((row[REQUEST] for _, row in rows), {})
        model, temperature = (request.get(name) for name in ("model", "temperature"))
        facts = TaskFacts(TASK, model, temperature, tuple(METRICS))
        yield Evaluation(str(file), partial(_read, file, facts))


FORMAT = InputFormat(
    "results of a verifier of tool calls",
    "results.jsonl of K2-Vendor-Verifier or MiniMax-Provider-Verifier",
    _files,
    _evaluations,
)


def _read(file: Path, facts: TaskFacts, query: InputQuery) -> Samples:
    """Of a request that was sent again, the last row counts."""
    from orchestrator import tool_calls  # noqa: PLC0415 - likewise

    yield facts
    last = {row[INDEX]: number for number, row in read_lines(file, "a result of a verifier", NEEDED)}
    for number, row in read_lines(file):
        request, said = row[REQUEST], tool_calls.answer_of(row)
        if number != last[row[INDEX]] or not request.get("tools"):
            continue
        texts = [[message.get("role"), message.get("content")] for message in request.get("messages") or ()]
        doc = {"tools": request["tools"], "messages": request.get("messages")}
        expected = {} if row.get(EXPECTED) is None else {"reference": bool(row[EXPECTED])}
        calls = [] if said is None else tool_calls.calls_of(said)
        scores: Row = tool_calls.scores(doc | expected, calls)
        scores = scores if said is not None else dict.fromkeys(scores)
        response = row.get("response") or {}
        yield query.sample(
            row[INDEX],
            scores,
            labels=row,
            prompt=texts,
            doc_hash=text_hash(as_text(texts)),
            error=as_text(response.get("error") or "no answer") if said is None else None,
            response=None if said is None else tool_calls.reply_text(str(said.get("content") or ""), calls),
            finish_reason=row.get("finish_reason"),
            called=scores.get("call_made"),
            valid_calls=scores.get("call_valid"),
            target=row.get(EXPECTED),
            doc=doc,
            **(told(response, str) if said is not None else {}),
        )
