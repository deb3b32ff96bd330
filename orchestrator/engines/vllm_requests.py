"""Queries as vLLM requests: tokens and sampling parameters going in, answers coming out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import GENERATE, LOGLIKELIHOOD, Answer, EngineOptionError, log_likelihood
from orchestrator.errors import PromptTooLongError, error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orchestrator.engines.base import Query
    from orchestrator.engines.tokenization import Encoding

MOST_FAILURES = 16  # of the first queries, of which none could be asked


@dataclass(frozen=True)
class Prepared:
    """A query made ready.

    Attributes:
        requests: prompt tokens and sampling parameters; several for a text longer than the context, none for
            a query that cannot be asked.
        read: makes the answer from the requests' outputs, or from the exceptions in their place.
        failure: why no request could be made of it, if that may have been the fault of more than the query.
        cut: tokens cut from the beginning of the prompt, so that it fits.
    """

    requests: tuple[tuple[list[int], Any], ...]
    read: Callable[[Sequence[Any]], Answer]
    failure: str | None = None
    cut: int = 0


class Preparation:
    """Whether requests can be made of queries at all.

    One query that cannot be asked is an error of its own. If none of the first ones can, the fault is not
    theirs: lldeg and the installed tokenizer or vLLM do not fit together, and every later one would fail.
    """

    def __init__(self) -> None:
        self._failed = 0
        self._works = False

    def check(self, prepared: Iterable[Prepared]) -> None:
        """Count what has been made ready.

        Raises:
            EngineOptionError: none of the first `MOST_FAILURES` queries could be asked.
        """
        for one in prepared:
            if self._works:
                return
            self._works = one.failure is None
            self._failed += 1
            if not self._works and self._failed == MOST_FAILURES:
                raise EngineOptionError(
                    f"none of the first {MOST_FAILURES} requests could be prepared, the last because of "
                    f"{one.failure}"
                )


def refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for one request that it refuses: newer versions have an error of their own."""
    try:
        from vllm.exceptions import VLLMClientError  # noqa: PLC0415 - ten seconds to import, in the replica only
    except ImportError:
        return (ValueError,)
    return ValueError, VLLMClientError


def lora_request(adapter: str) -> Any:
    """The adapter that goes with every request."""
    from vllm.lora.request import LoRARequest  # noqa: PLC0415 - ten seconds to import, in the replica only

    return LoRARequest("adapter", 1, adapter)


def adder(engine: Any, lora: Any) -> Callable[[str, list[int], Any], None]:
    """What adds a request (name, tokens, sampling parameters) to a vLLM engine (`LLMEngine`).

    Newer engines take prompts as their renderer makes them, and will refuse others; older ones have none.
    """
    render = getattr(getattr(engine, "renderer", None), "render_cmpl", None)

    def add(name: str, tokens: list[int], params: Any) -> None:
        prompt: Any = {"prompt_token_ids": tokens}
        if render is not None:
            (prompt,) = render([prompt])
        engine.add_request(name, prompt, params, lora_request=lora)

    return add


def prepare(query: Query, encoding: Encoding) -> Prepared:
    """Turn a query into requests for vLLM, each with a seed: one without would disturb the others."""
    from vllm import SamplingParams  # noqa: PLC0415 - ten seconds to import, in the replica only
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

    whole_answers = {"output_kind": RequestOutputKind.FINAL_ONLY}  # not the text so far after every step
    try:
        if query.kind == GENERATE:
            (tokens, cut), longest, until, settings = encoding.generation(*query.arguments)
            query.check_cut(cut)
            settings = {"skip_special_tokens": False, "spaces_between_special_tokens": False, **settings}
            params = SamplingParams(
                **settings, **whole_answers, max_tokens=longest, stop=until, seed=query.seed
            )
            return Prepared(((tokens, params),), lambda outputs: _read_text(outputs[0], until), cut=cut)
        if query.kind == LOGLIKELIHOOD:
            (tokens, cut), start = encoding.pair(*query.arguments)
            query.check_cut(cut)
            windows = [(tokens, start)]
        else:
            windows, cut = encoding.windows(*query.arguments), 0
    except (ValueError, TypeError) as error:
        failure = Answer(None, error=error_text(error))
        is_long = isinstance(error, PromptTooLongError)
        return Prepared((), lambda _: failure, None if is_long else failure.error)
    params = SamplingParams(
        temperature=0, prompt_logprobs=0, max_tokens=1, detokenize=False, seed=0, **whole_answers
    )
    starts = [start for _, start in windows]
    whole = query.kind != LOGLIKELIHOOD
    return Prepared(
        tuple((tokens, params) for tokens, _ in windows),
        lambda outputs: _read_loglikelihood(outputs, starts, whole=whole),
        cut=cut,
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
