"""Queries as vLLM requests: tokens and sampling parameters going in, answers coming out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import GENERATE, LOGLIKELIHOOD, Answer, log_likelihood
from orchestrator.errors import error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.engines.base import Query
    from orchestrator.engines.tokenization import Encoding


@dataclass(frozen=True)
class Prepared:
    """A query made ready.

    Attributes:
        requests: prompt tokens and sampling parameters; several for a text longer than the context, none for
            a query that cannot be asked.
        read: makes the answer from the requests' outputs, or from the exceptions in their place.
    """

    requests: tuple[tuple[list[int], Any], ...]
    read: Callable[[Sequence[Any]], Answer]


def prepare(query: Query, encoding: Encoding) -> Prepared:
    """Turn a query into requests for vLLM, each with a seed: one without would disturb the others."""
    from vllm import SamplingParams  # noqa: PLC0415 - ten seconds to import, in the replica only
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

    whole_answers = {"output_kind": RequestOutputKind.FINAL_ONLY}  # not the text so far after every step
    try:
        if query.kind == GENERATE:
            tokens, longest, until, settings = encoding.generation(*query.arguments)
            settings = {"skip_special_tokens": False, "spaces_between_special_tokens": False, **settings}
            params = SamplingParams(
                **settings, **whole_answers, max_tokens=longest, stop=until, seed=query.seed
            )
            return Prepared(((tokens, params),), lambda outputs: _read_text(outputs[0], until))
        if query.kind == LOGLIKELIHOOD:
            windows = [encoding.pair(*query.arguments)]
        else:
            windows = encoding.windows(*query.arguments)
    except (ValueError, TypeError) as error:
        failure = Answer(None, error=error_text(error))
        return Prepared((), lambda _: failure)
    params = SamplingParams(
        temperature=0, prompt_logprobs=0, max_tokens=1, detokenize=False, seed=0, **whole_answers
    )
    starts = [start for _, start in windows]
    whole = query.kind != LOGLIKELIHOOD
    return Prepared(
        tuple((tokens, params) for tokens, _ in windows),
        lambda outputs: _read_loglikelihood(outputs, starts, whole=whole),
    )


def _failure(outputs: Sequence[Any]) -> Answer | None:
    error = next((output for output in outputs if isinstance(output, Exception)), None)
    return None if error is None else Answer(None, error=error_text(error))


def _read_text(output: Any, until: Sequence[str]) -> Answer:
    if (failure := _failure([output])) is not None:
        return failure
    completion = output.outputs[0]
    text = completion.text
    for stop in until:
        text = text.split(stop)[0] if stop else text
    return Answer(text, completion.finish_reason, len(output.prompt_token_ids), len(completion.token_ids))


def _read_loglikelihood(outputs: Sequence[Any], starts: Sequence[int], *, whole: bool) -> Answer:
    if (failure := _failure(outputs)) is not None:
        return failure
    try:
        total, greedy = _sum_loglikelihoods(outputs, starts)
    except ValueError as error:
        return Answer(None, error=error_text(error))
    tokens = sum(len(output.prompt_token_ids) for output in outputs)
    return Answer(total if whole else (total, greedy), None, tokens, 0)


def _sum_loglikelihoods(outputs: Sequence[Any], starts: Sequence[int]) -> tuple[float, bool]:
    """Log-likelihood of the tokens from the starts on, and whether each is the likeliest at its place.

    Raises:
        ValueError: one of the values is no log-likelihood (NaN from an overflow, for example).
    """
    total, greedy = 0.0, True
    for output, start in zip(outputs, starts, strict=True):
        scored = zip(output.prompt_token_ids[start:], output.prompt_logprobs[start:], strict=True)
        for token, candidates in scored:
            total += log_likelihood(candidates[token].logprob)
            greedy &= candidates[token].rank == 1
    return total, greedy
