"""From a block to rows of Parquet: queries with their sampling parameters, answers, scores, samples."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from lm_eval.api.instance import Instance

from orchestrator.config.schema import PromptConfig, SamplingConfig
from orchestrator.engines import base
from orchestrator.engines.base import GENERATE, Answer, Engine, EngineEndedError, Query
from orchestrator.errors import AnswerWithheldError, RequestRefusedError, error_text
from orchestrator.rundir.identity import Item, Rerun, sample_key
from orchestrator.rundir.measurements import looping
from orchestrator.rundir.schema import FIDELITY, ITEMS, BlockSpeed, with_scores
from orchestrator.rundir.store import RunStore
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.tasks import Answered, Requests, Scored, SweepTask, doc_text, items_of
from stats.arrays import LARGEST_SCORE

Scorer = Callable[[Sequence[Answered]], Iterable[Scored]]
"""Scores answers to a task, in order."""
REFUSED = f"{RequestRefusedError.__name__}:"
"""How the error of a sample begins that a server has refused."""
UNANSWERED = "not answered before the engine ended"
"""The error of a sample that is still missing; it never stands in a row."""
DRAWING = frozenset({"top_p", "top_k", "min_p"})
"""Settings of the draw, which have no effect on the likeliest token."""
PLAIN = PromptConfig()
UNSTORABLE = (pa.ArrowException, OverflowError, TypeError, ValueError)
"""What pyarrow raises for a value that its column cannot hold."""
_REPEAT_STRIDE = 1_000_003  # a prime: repeats of one seed get seeds far from those of the other reruns


@dataclass(frozen=True)
class Sample:
    """One row."""

    item: Item
    rerun: Rerun
    answers: Sequence[Answer] = ()  # to all its requests; none where there is an error
    response: str | None = None  # what the model said
    scored: Scored | None = None
    error: str | None = None  # why there is no answer, or none that can be scored or stored


def answer_block(
    block: Block,
    score: Scorer,
    built: Requests,
    engine: Engine,
    sampling: SamplingConfig,
    *,
    prompt: PromptConfig = PLAIN,
    on_end: Callable[[EngineEndedError], None] | None = None,
) -> list[Sample]:
    """Ask the engine all queries of a block and score its answers.

    The queries of all items and reruns go to the engine together, and so do the answers to what scores them.
    An answer that is an error, or that the task's code cannot score, becomes a sample with an error; the
    others are not affected.

    `built` has the requests of the task. `prompt` says what ends the thoughts of an answer, which are kept
    and not scored, and whether a prompt that does not fit is an error or cut. If the engine ends, `on_end`
    gets the reason, and samples that it has not answered have the error `UNANSWERED`.

    Raises:
        EngineDiedError: the engine is gone; nothing of the block counts as answered.
        EngineEndedError: it ends, and there is no `on_end`.
    """
    end = prompt.think_end_token
    reruns = [(item, rerun) for item in block.items for rerun in block.reruns]
    asked = [
        [
            replace(query, whole=prompt.must_fit)
            for request in built[item.item]
            for query in queries_of(request, rerun, sampling, thinks=end is not None)
        ]
        for item, rerun in reruns
    ]
    samples = _replies(engine, reruns, asked, on_end)
    whole = [sample for sample in samples if sample.error is None]
    answered = [_answered(built[sample.item.item], sample) for sample in whole]
    scored = zip(whole, answered, score([_without_thoughts(one, end) for one in answered]), strict=True)
    return [sample if sample.error is not None else _scored(*next(scored)) for sample in samples]


def score_answers(
    block: Block,
    given: pa.Table,
    top: int,
    built: Requests,
    engine: Engine,
    *,
    prompt: PromptConfig = PLAIN,
    on_end: Callable[[EngineEndedError], None] | None = None,
) -> list[Sample]:
    """Ask the engine to score the answers that the baseline has given to a block, token by token.

    Those that it has not given are left out; one that failed there has the same error here. The response of
    a sample's answer is that of `base.TOKENS`, with the `top` likeliest tokens; arguments and errors are
    otherwise those of `answer_block`.
    """
    rows = {(row["item"], np.float32(row["temperature"]), row["seed"]): row for row in given.to_pylist()}
    failed, reruns, asked = [], [], []
    for item, rerun in ((item, rerun) for item in block.items for rerun in block.reruns):
        row = rows.get((item.item, np.float32(rerun.temperature), rerun.seed))
        if row is not None and row["error"] is None:
            (request,) = built[item.item]
            reruns.append((item, rerun))
            arguments = request.arguments[0], row["response"], top
            asked.append([Query(base.TOKENS, arguments, whole=prompt.must_fit)])
        elif row is not None:
            failed.append(Sample(item, rerun, error=row["error"]))
    return failed + _replies(engine, reruns, asked, on_end)


def _replies(
    engine: Engine,
    reruns: Sequence[tuple[Item, Rerun]],
    asked: Sequence[Sequence[Query]],
    on_end: Callable[[EngineEndedError], None] | None,
) -> list[Sample]:
    """What an engine answers to the queries of each item and rerun, or why it does not."""
    queries = [query for own in asked for query in own]
    try:
        replies: Sequence[Answer | None] = engine.answer(queries)
    except EngineEndedError as ended:
        if on_end is None:
            raise
        on_end(ended)
        replies = ended.answers or [None] * len(queries)
    unanswered = Answer(None, error=UNANSWERED)
    answers = (checked(query, reply or unanswered) for query, reply in zip(queries, replies, strict=True))
    samples: list[Sample] = []
    for (item, rerun), own in zip(reruns, asked, strict=True):
        said = list(islice(answers, len(own)))
        error = next((answer.error for answer in said if answer.error is not None), None)
        samples.append(Sample(item, rerun, said if error is None else (), error=error))
    return samples


def checked(query: Query, answer: Answer) -> Answer:
    """An answer of any engine as it is, or as an error if it is not what the query asks for.

    A text must be text that the provider has not cut or withheld, and ends at the first stop string: a server
    of chats takes four, and some tasks have more. A log-likelihood must be the logarithm of a probability: a
    NaN compares as "not greater", so lm-eval would score it as if the first choice had won.
    """
    if answer.error is not None:
        return answer
    response = answer.response
    try:
        if query.kind == base.TOKENS:
            base.check_tokens(response, query.arguments[2])
            return answer
        if query.kind != GENERATE:
            base.log_likelihood(response[0] if query.kind == base.LOGLIKELIHOOD else response)
            return answer
        reason = base.end_reason(answer.finish_reason)
    except (AnswerWithheldError, ValueError, TypeError, LookupError, OverflowError) as error:
        return Answer(None, error=error_text(error))
    if not isinstance(response, str):
        return Answer(None, error=f"TypeError: the answer is {type(response).__name__}, not text")
    text = _stopped(response, query.arguments[1])
    return replace(answer, response=text, finish_reason=reason if text == response else "stop")


def _stopped(text: str, settings: dict[str, Any], think_end_token: str | None = None) -> str:
    """What follows the thoughts in a text, up to the first of a task's stop strings.

    These are two calls of lm-eval's own function, because some versions cut at stop strings first.
    """
    from lm_eval.models.utils import postprocess_generated_text  # noqa: PLC0415 - slow, in the replica only

    if think_end_token is not None:
        text = postprocess_generated_text(text, None, think_end_token)
    return str(postprocess_generated_text(text, settings.get("until"), None))


def _without_thoughts(sample: Answered, think_end_token: str | None) -> Answered:
    """What is scored, as in lm-eval: what follows the thoughts, or all of a text without their end."""
    requests, responses = sample
    if think_end_token is None or requests[0].request_type != GENERATE:
        return sample
    settings = [request.args[1] for request in requests]
    if "tools" in settings[0]:  # of the reply of a server only the calls are scored
        return sample
    pairs = zip(responses, settings, strict=True)
    return requests, [[_stopped(text, own, think_end_token) for text in texts] for texts, own in pairs]


def queries_of(
    request: Instance, rerun: Rerun, sampling: SamplingConfig, *, thinks: bool = False
) -> Iterator[Query]:
    """One query per repeat; without sampling one, since every repeat would give the same answer.

    A model that thinks is not stopped by the task's stop strings, which thoughts may contain.
    """
    seed = rerun.seed or 0
    if request.request_type != GENERATE:
        yield Query(request.request_type, request.args, seed)
        return
    context, own = request.args[:2]
    settings = generation_settings(own, rerun.temperature, sampling)
    if thinks:
        settings.pop("until", None)
    repeats = (request.repeats or 1) if rerun.temperature > 0 else 1
    for repeat in range(repeats):
        yield Query(GENERATE, (context, settings), (seed + repeat * _REPEAT_STRIDE) % 2**31)


def generation_settings(
    settings: dict[str, Any], temperature: float, sampling: SamplingConfig
) -> dict[str, Any]:
    """A task's own generation settings with the sweep's sampling laid over them."""
    replaced = {"top_p", "top_k", "do_sample", "temperature"}
    merged = {name: value for name, value in settings.items() if name not in replaced}
    own = {name: value for name, value in sampling.meaning().items() if value is not None}
    merged |= {name: value for name, value in own.items() if temperature > 0 or name not in DRAWING}
    return merged | {"do_sample": temperature > 0, "temperature": temperature}


def _answered(requests: Sequence[Instance], sample: Sample) -> Answered:
    """The responses of a sample by request; a single greedy one as often as the task expects."""
    responses = [answer.response for answer in sample.answers]
    each = len(responses) // len(requests)
    groups = [list(responses[start : start + each]) for start in range(0, len(responses), each)]
    if each == 1:
        groups = [group * (one.repeats or 1) for one, group in zip(requests, groups, strict=True)]
    return requests, groups


def _scored(sample: Sample, answered: Answered, scored: Scored) -> Sample:
    """A sample with its scores, and what the model said: the text itself, or the list of values as JSON."""
    if scored.reason is not None:
        return Sample(sample.item, sample.rerun, error=f"scoring: {scored.reason}")
    for name, value in scored.scores.items():
        if abs(value) > LARGEST_SCORE:
            return Sample(sample.item, sample.rerun, error=f"scoring: {name} is {value:g}")
    requests, responses = answered
    if requests[0].request_type == GENERATE and len(responses) == 1 and len(set(responses[0])) == 1:
        text = str(responses[0][0])
    else:
        text = json.dumps([one[0] if len(one) == 1 else list(one) for one in responses])
    return replace(sample, response=text, scored=scored)


def put_off_refused(block: Block, samples: Sequence[Sample]) -> tuple[list[Sample], tuple[Block, ...]]:
    """Tell samples to be written from those to be asked again.

    Returns the samples to write, and blocks of the others: those that a server has refused for the first
    time, to be asked for once more when the rest is done, and those that an engine did not answer at its end.
    """
    again = (UNANSWERED,) if block.was_refused else (UNANSWERED, REFUSED)
    kept: list[Sample] = []
    passes: dict[Item, tuple[Rerun, ...]] = {}
    for sample in samples:
        if (sample.error or "").startswith(again):
            passes[sample.item] = (*passes.get(sample.item, ()), sample.rerun)
        else:
            kept.append(sample)
    later = []
    for alike in dict.fromkeys(passes.values()):
        items = tuple(item for item, reruns in passes.items() if reruns == alike)
        later.append(replace(block, items=items, reruns=alike, was_refused=True))
    return kept, tuple(later)


def rows_of(block: Block, samples: Sequence[Sample], columns: pa.Schema) -> pa.Table:
    """The rows of a block: its samples with these columns, or the scores of the baseline's answers."""
    if not block.fidelity:
        return samples_table(block, samples, columns)
    rows = []
    for sample in samples:
        row = {"item": sample.item.item, "error": _utf8(sample.error), **vars(sample.rerun)}
        row["sample_key"] = sample_key(block.cell, sample.item, sample.rerun)
        for answer in sample.answers:
            row["tokens"], row["logprobs"] = answer.response
            row["prompt_tokens"] = answer.prompt_tokens
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=FIDELITY)


def write_rows(
    store: RunStore, block: Block, rows: pa.Table, software: str | None, speed: BlockSpeed | None = None
) -> None:
    """Write the rows of a block; an OSError if the storage fails."""
    place = store.fidelity if block.fidelity else store
    place.write_block(block.variant, block.task, block.name, rows, software, speed=speed)


def samples_table(block: Block, samples: Sequence[Sample], columns: pa.Schema) -> pa.Table:
    """The samples of a block as a table; one that no row can hold is a row with an error."""
    schema = with_scores(columns, (name for one in samples if one.scored for name in one.scored.scores))

    def table(some: Sequence[Sample]) -> pa.Table:
        return pa.Table.from_pylist([_row(block.cell, sample) for sample in some], schema=schema)

    try:
        return table(samples)
    except UNSTORABLE:  # of one sample: the others are not lost with it
        tables = []
        for sample in samples:
            try:
                tables.append(table([sample]))
            except UNSTORABLE as error:
                tables.append(
                    table([Sample(sample.item, sample.rerun, error=f"storing: {error_text(error)}")])
                )
        return pa.concat_tables(tables)


def failed_block(block: Block, error: str) -> list[Sample]:
    """The samples of a block that cannot be answered, each with the reason."""
    return [Sample(item, rerun, error=error) for item in block.items for rerun in block.reruns]


def _row(cell: str, sample: Sample) -> dict[str, Any]:
    scored, answers = sample.scored, sample.answers
    ends = [answer.finish_reason for answer in answers]
    return {
        "item": sample.item.item,
        "doc_hash": sample.item.doc_hash,
        "prompt_hash": sample.item.prompt_hash,
        "temperature": sample.rerun.temperature,
        "seed": sample.rerun.seed,
        "scores": scored.scores if scored else None,
        "corpus_values": _utf8(scored.corpus_values) if scored else None,
        "response": _utf8(sample.response),
        "filtered": {name: _utf8(text) for name, text in scored.filtered.items()}
        if scored and scored.filtered
        else None,
        "finish_reason": _utf8(base.CUT if base.CUT in ends else ends[-1] if ends else None),
        "prompt_tokens": _total(answer.prompt_tokens for answer in answers),
        "output_tokens": _total(answer.output_tokens for answer in answers),
        "prompt_cut": _total(answer.prompt_cut for answer in answers),
        "looping": _mean(looping(one.response) for one in answers if isinstance(one.response, str)),
        "called": scored.scores.get("call_made,none") if scored else None,
        "valid_calls": scored.scores.get("call_valid,none") if scored else None,
        "seconds": sum(filter(None, (one.seconds for one in answers))) or None,
        "first_token_seconds": _mean(one.first_token_seconds for one in answers),
        "error": _utf8(sample.error),
        **{name: _total(getattr(answer, name) for answer in answers) for name in base.SERVED_COUNTS},
        **{name: _utf8(getattr(answers[-1], name)) for name in base.SERVED_BY if answers},
        "sample_key": sample_key(cell, sample.item, sample.rerun),
    }


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in map(base.token_count, counts) if count is not None]
    return base.token_count(sum(known)) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _utf8(text: str | None) -> str | None:
    """Text that Parquet can hold: lone surrogates become replacement characters."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def items_table(task: SweepTask, built: Requests) -> pa.Table:
    """Documents and prompts of a task, once for all variants."""
    rows = [
        {
            "task": task.spec.task,
            "item": item.item,
            "doc_hash": item.doc_hash,
            "prompt_hash": item.prompt_hash,
            "cluster": task.cluster_of(first.doc),
            "prompt": _utf8(str(first.arguments[0])),
            "target": _utf8(task.target(first.doc)),
            "doc": _utf8(json.dumps(json.loads(doc_text(first.doc)), ensure_ascii=False)),
        }
        for item, (first, *_) in zip(items_of(built), built.values(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)
