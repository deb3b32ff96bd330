"""From a block to samples: queries with their sampling parameters, answers, scores."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from orchestrator.config.schema import SamplingConfig
from orchestrator.engines import base
from orchestrator.engines.base import GENERATE, Answer, Engine, EngineEndedError, Query
from orchestrator.errors import AnswerWithheldError, RequestRefusedError, error_text
from orchestrator.rundir.identity import Item, Rerun
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.tasks import Answered, Requests, Scored
from orchestrator.workers.sample_rows import Sample
from stats.arrays import LARGEST_SCORE

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

Scorer = Callable[[Sequence[Answered]], Iterable[Scored]]
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
    built: Requests,
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
                for request in built[item.item]
                for query in queries_of(request, rerun, sampling, thinks=think_end_token is not None)
            ]
            asked.append((item, rerun, len(own)))
            queries += own
    try:
        replies: Sequence[Answer | None] = engine.answer(queries)
    except EngineEndedError as ended:
        if on_end is None:
            raise
        on_end(ended)
        replies = ended.answers or [None] * len(queries)
    unanswered = Answer(None, error=UNANSWERED)
    answers = (checked(query, reply or unanswered) for query, reply in zip(queries, replies, strict=True))
    samples = [_unscored(item, rerun, list(islice(answers, size))) for item, rerun, size in asked]
    whole = [sample for sample in samples if sample.error is None]
    answered = [_answered(built[sample.item.item], sample) for sample in whole]
    bare = [without_thoughts(one, think_end_token) for one in answered]
    scored = zip(whole, answered, score(bare), strict=True)
    return [sample if sample.error is not None else _scored(*next(scored)) for sample in samples]


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


def without_thoughts(sample: Answered, think_end_token: str | None) -> Answered:
    """What is scored of answers: as in lm-eval, only what follows a reasoning model's thoughts.

    Args:
        sample: the answers; a text without the end of thoughts is all answer.
        think_end_token: text that ends thoughts; None without one.
    """
    if think_end_token is None or sample.requests[0].request_type != GENERATE:
        return sample
    pairs = zip(sample.requests, sample.responses, strict=True)
    responses = [[_stopped(text, one.args[1], think_end_token) for text in texts] for one, texts in pairs]
    return replace(sample, responses=responses)


def queries_of(
    request: "Instance", rerun: Rerun, sampling: SamplingConfig, *, thinks: bool = False
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
    without = frozenset() if temperature > 0 else DRAWING
    own = {name: value for name, value in sampling.meaning().items() if value is not None}
    merged |= {name: value for name, value in own.items() if name not in without}
    return merged | {"do_sample": temperature > 0, "temperature": temperature}


def _unscored(item: Item, rerun: Rerun, answers: list[Answer]) -> Sample:
    error = next((answer.error for answer in answers if answer.error is not None), None)
    return Sample(item, rerun, answers) if error is None else Sample(item, rerun, error=error)


def _answered(requests: "Sequence[Instance]", sample: Sample) -> Answered:
    """The responses of a sample by request; a single greedy one as often as the task expects."""
    responses = [answer.response for answer in sample.answers]
    each = len(responses) // len(requests)
    groups = [list(responses[start : start + each]) for start in range(0, len(responses), each)]
    if each == 1:
        groups = [group * (one.repeats or 1) for one, group in zip(requests, groups, strict=True)]
    return Answered(requests, groups)


def _scored(sample: Sample, answered: Answered, scored: Scored) -> Sample:
    """A sample with its scores, and what the model said: the text itself, or the list of values as JSON."""
    if scored.reason is not None:
        return Sample(sample.item, sample.rerun, error=f"scoring: {scored.reason}")
    for name, value in scored.scores.items():
        if abs(value) > LARGEST_SCORE:
            return Sample(sample.item, sample.rerun, error=f"scoring: {name} is {value:g}")
    responses, is_text = answered.responses, answered.requests[0].request_type == GENERATE
    if is_text and len(responses) == 1 and len(set(responses[0])) == 1:
        text = str(responses[0][0])
    else:
        text = json.dumps([one[0] if len(one) == 1 else list(one) for one in responses])
    return replace(sample, response=text, scored=scored)


def put_off_refused(block: Block, samples: Sequence[Sample]) -> tuple[list[Sample], tuple[Block, ...]]:
    """Tell samples to be written from those to be asked again.

    Returns:
        the samples to write, and blocks of the others: those that a server has refused for the first time, to
        be asked for once more when the rest is done, and those that an engine did not answer before its end.
    """
    again = (UNANSWERED,) if block.was_refused else (UNANSWERED, REFUSED)
    kept: list[Sample] = []
    put_off: dict[Item, list[Rerun]] = {}
    for sample in samples:
        if (sample.error or "").startswith(again):
            put_off.setdefault(sample.item, []).append(sample.rerun)
        else:
            kept.append(sample)
    alike: dict[tuple[Rerun, ...], list[Item]] = {}
    for item, passes in put_off.items():
        alike.setdefault(tuple(passes), []).append(item)
    later = (
        replace(block, items=tuple(items), reruns=passes, was_refused=True) for passes, items in alike.items()
    )
    return kept, tuple(later)
