"""From a block to samples: queries with their sampling parameters, answers, scores."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import (
    GENERATE,
    LOGLIKELIHOOD,
    Answer,
    EngineEndedError,
    Query,
    end_reason,
    log_likelihood,
)
from orchestrator.errors import AnswerWithheldError, RequestRefusedError, error_text
from orchestrator.sweep.tasks import Answered, Scored, Unscorable
from orchestrator.workers.sample_rows import Sample
from orchestrator.workers.scoring.thinking import thoughtless
from stats.arrays import LARGEST_SCORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lm_eval.api.instance import Instance

    from orchestrator.config.schema import SamplingConfig
    from orchestrator.engines.base import Engine
    from orchestrator.rundir.identity import Item, Rerun
    from orchestrator.sweep.blocks import Block
    from orchestrator.sweep.tasks import TaskItems

    Scorer = Callable[[Sequence[Answered]], Iterable[Scored | Unscorable]]
    """Scores answers to a task, in order."""

REFUSED = f"{RequestRefusedError.__name__}:"
"""How the error of a sample begins that a server has refused."""
UNANSWERED = "not answered before the engine ended"
"""The error of a sample that is still missing; it never stands in a row."""
DRAWING = frozenset({"top_p", "top_k", "min_p"})
"""Settings of the draw, which have no effect on the likeliest token."""
_REPEAT_STRIDE = 1_000_003  # a prime: repeats of one seed get seeds far from those of the other reruns


def answer_block(
    block: Block,
    score: Scorer,
    built: TaskItems,
    engine: Engine,
    sampling: SamplingConfig,
    *,
    think_end_token: str | None = None,
    must_fit: bool = False,
    on_end: Callable[[EngineEndedError], None] | None = None,
) -> list[Sample]:
    """Ask the engine all queries of a block and score its answers.

    The queries of all items and reruns go to the engine together, and so do the answers to what scores them.
    An answer that is an error, or that the task's code cannot score, becomes a sample with an error; the
    others are not affected.

    Args:
        block: what is asked.
        score: scores the answers.
        built: the requests of the task.
        engine: answers them.
        sampling: how tokens are drawn.
        think_end_token: text that ends the thinking part of an answer, which is not scored but kept; None
            without one.
        must_fit: whether a prompt that does not fit is an error; else it is cut.
        on_end: called if the engine ends; samples that it has not answered then have the error `UNANSWERED`.

    Raises:
        EngineDiedError: the engine is gone; nothing of the block counts as answered.
        EngineEndedError: it ends, and there is no `on_end`.
    """
    queries: list[Query] = []
    asked: list[tuple[Item, Rerun, int]] = []
    for item in block.items:
        for rerun in block.reruns:
            own = [
                replace(query, whole=must_fit)
                for request in built.requests[item.item]
                for query in queries_of(request, rerun, sampling, thinks=think_end_token is not None)
            ]
            asked.append((item, rerun, len(own)))
            queries += own
    answers = map(checked, queries, _answers(engine, queries, on_end))
    given = [_Given(item, rerun, list(islice(answers, size))) for item, rerun, size in asked]
    whole = [one for one in given if one.error is None]
    answered = [_answered(built.requests[one.item.item], one.answers) for one in whole]
    scored = zip(answered, score(list(map(thoughtless(think_end_token), answered))), strict=True)
    return [
        Sample.failed(one.item, one.rerun, one.error)
        if one.error is not None
        else _sample(one, *next(scored))
        for one in given
    ]


def _answers(
    engine: Engine, queries: Sequence[Query], on_end: Callable[[EngineEndedError], None] | None
) -> list[Answer]:
    try:
        return engine.answer(queries)
    except EngineEndedError as ended:
        if on_end is None:
            raise
        on_end(ended)
        unanswered = Answer(None, error=UNANSWERED)
        return [answer or unanswered for answer in ended.answers or [None] * len(queries)]


@dataclass(frozen=True)
class _Given:
    """The answers to all queries of one sample."""

    item: Item
    rerun: Rerun
    answers: list[Answer]

    @property
    def error(self) -> str | None:
        """The first error among them."""
        return next((answer.error for answer in self.answers if answer.error is not None), None)


def checked(query: Query, answer: Answer) -> Answer:
    """An answer of any engine as it is, or as an error if it is not what the query asks for.

    A text must be text that the provider has not cut or withheld, and a log-likelihood the logarithm of a
    probability: a NaN compares as "not greater", so lm-eval would score it as if the first choice had won.
    """
    if answer.error is not None:
        return answer
    if query.kind == GENERATE:
        try:
            reason = end_reason(answer.finish_reason)
        except AnswerWithheldError as withheld:
            return Answer(None, error=error_text(withheld))
        if isinstance(answer.response, str):
            return _stopped(query, replace(answer, finish_reason=reason))
        return Answer(None, error=f"TypeError: the answer is {type(answer.response).__name__}, not text")
    try:
        log_likelihood(answer.response[0] if query.kind == LOGLIKELIHOOD else answer.response)
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        return Answer(None, error=error_text(error))
    return answer


def _stopped(query: Query, answer: Answer) -> Answer:
    """A text up to the first stop string: a server of chats takes four, and some tasks have more."""
    from lm_eval.models.utils import postprocess_generated_text  # noqa: PLC0415 - slow, in the replica only

    text = postprocess_generated_text(answer.response, query.arguments[1].get("until"), None)
    return answer if text == answer.response else replace(answer, response=text, finish_reason="stop")


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
    arguments = (context, settings)
    repeats = (request.repeats or 1) if rerun.temperature > 0 else 1
    for repeat in range(repeats):
        yield Query(GENERATE, arguments, (seed + repeat * _REPEAT_STRIDE) % 2**31)


def generation_settings(
    settings: dict[str, Any], temperature: float, sampling: SamplingConfig
) -> dict[str, Any]:
    """A task's own generation settings with the sweep's sampling laid over them."""
    merged = {
        key: value
        for key, value in settings.items()
        if key not in {"top_p", "top_k", "do_sample", "temperature"}
    }
    own = sampling.meaning()
    unset = {name for name, value in own.items() if value is None}
    without = unset if temperature > 0 else unset | DRAWING
    merged |= {name: value for name, value in own.items() if name not in without}
    return merged | {"do_sample": temperature > 0, "temperature": temperature}


def _answered(requests: Sequence[Instance], answers: Sequence[Answer]) -> Answered:
    return Answered(requests, _by_request(requests, [answer.response for answer in answers]))


def _sample(given: _Given, answered: Answered, scored: Scored | Unscorable) -> Sample:
    if isinstance(scored, Unscorable):
        return Sample.failed(given.item, given.rerun, f"scoring: {scored.reason}")
    if wrong := [name for name, score in scored.scores.items() if abs(score) > LARGEST_SCORE]:
        return Sample.failed(given.item, given.rerun, f"scoring: {wrong[0]} is {scored.scores[wrong[0]]:g}")
    text = _response_text(answered.requests, answered.responses)
    return Sample.answered(given.item, given.rerun, given.answers, scored, text)


def put_off_refused(block: Block, samples: Sequence[Sample]) -> tuple[list[Sample], tuple[Block, ...]]:
    """Tell samples to be written from those to be asked again.

    Returns:
        the samples to write, and blocks of the others: those that a server has refused for the first time, to
        be asked for once more when the rest is done, and those that an engine did not answer before its end.
    """
    again = (UNANSWERED,) if block.was_refused else (UNANSWERED, REFUSED)
    put_off: dict[Item, list[Rerun]] = {}
    for sample in samples:
        if (sample.error or "").startswith(again):
            put_off.setdefault(sample.item, []).append(sample.rerun)
    alike: dict[tuple[Rerun, ...], list[Item]] = {}
    for item, passes in put_off.items():
        alike.setdefault(tuple(passes), []).append(item)
    later = tuple(
        replace(block, items=tuple(items), reruns=passes, was_refused=True) for passes, items in alike.items()
    )
    return [sample for sample in samples if sample.rerun not in put_off.get(sample.item, ())], later


def _by_request(requests: Sequence[Instance], responses: Sequence[Any]) -> list[list[Any]]:
    """Group responses by request, and repeat a single greedy one as often as the task expects."""
    each = len(responses) // len(requests)
    groups = [list(responses[start : start + each]) for start in range(0, len(responses), each)]
    return [
        group * (request.repeats or 1) if each == 1 else group
        for request, group in zip(requests, groups, strict=True)
    ]


def _response_text(requests: Sequence[Instance], responses: Sequence[Sequence[Any]]) -> str:
    """What the model said: the text itself, or the list of values as JSON."""
    if requests[0].request_type == GENERATE and len(requests) == 1 and len(set(responses[0])) == 1:
        return str(responses[0][0])
    return json.dumps([response[0] if len(response) == 1 else list(response) for response in responses])
