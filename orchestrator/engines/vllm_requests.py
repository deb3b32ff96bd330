"""Queries as requests to vLLM, and the answers made of what comes back.

A question asks for the log-likelihoods of several continuations of one context. Asked *alone*, each is a
request with prompt log-probabilities, for which vLLM reads no cache: the context is computed once for each.
With *shared contexts*, one request writes a token after the context and has the log-likelihoods of all first
tokens (`SamplingParams.logprob_token_ids`). Continuations of more tokens are further requests, which read the
context from the cache. vLLM has no log-likelihoods of what it reads there: where no other request of the
question has computed them, the continuation is asked alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cache, lru_cache, partial
from inspect import signature
from itertools import chain, groupby
from math import nan
from typing import Any

from orchestrator.engines import base
from orchestrator.engines.base import Answer, Query
from orchestrator.engines.tokenization import Encoding
from orchestrator.errors import error_text

MOST_FIRST_TOKENS = 128  # of one request: vLLM's MAX_LOGPROB_TOKEN_IDS
MOST_SETTINGS = 1024  # whose parameters are kept

_written: dict[str, Any] = {}  # parameters, by their settings

Token = tuple[float, bool]
"""The log-likelihood of a token, and whether it is the likeliest at its place."""
Request = tuple[list[int], Any, Callable[[Any], Any]]
"""Tokens, sampling parameters, and what reduces vLLM's output to what is kept of it."""
Asked = tuple[Sequence[Query], Sequence[Request], Callable[[Sequence[Any]], Sequence[Answer | None]]]
"""Queries, their requests, and what makes the answers of what was kept; None for one to be asked alone."""


@cache
def can_share() -> bool:
    """Whether this vLLM scores several tokens after one context."""
    from vllm import SamplingParams  # noqa: PLC0415 - ten seconds to import, in the replica only

    return {"logprob_token_ids", "skip_reading_prefix_cache"} <= signature(SamplingParams).parameters.keys()


def parameters(**own: Any) -> Any:
    """Sampling parameters that return whole answers, not the text so far after every step."""
    from vllm import SamplingParams  # noqa: PLC0415 - ten seconds to import, in the replica only
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

    made = SamplingParams(**own, output_kind=RequestOutputKind.FINAL_ONLY)
    made.skip_clone = True  # vLLM changes none of their values in place, so it need not copy them deeply
    return made


def writing(seed: int, **own: Any) -> Any:
    """Parameters of a request for text; those that differ in their seeds alone are checked only once."""
    if (settings := repr(own)) not in _written:
        if len(_written) == MOST_SETTINGS:
            _written.clear()
        _written[settings] = parameters(**own)
    made = copy(_written[settings])
    made.seed = seed
    return made


@lru_cache(maxsize=MOST_SETTINGS)
def scoring(first_tokens: tuple[int, ...] = (), **own: Any) -> Any:
    """Parameters of a request for log-likelihoods; one without a seed would disturb the others."""
    asked = {"logprob_token_ids": list(first_tokens)} if first_tokens else {"prompt_logprobs": 0, **own}
    return parameters(temperature=0, max_tokens=1, detokenize=False, flat_logprobs=True, seed=0, **asked)


def questions(queries: Iterable[Query], *, shared: bool) -> Iterator[list[Query]]:
    """Queries in order, those together whose requests can share a context."""

    def question(query: Query) -> object:
        together = shared and query.kind == base.LOGLIKELIHOOD
        return (query.arguments[0], query.seed) if together else object()

    return (list(alike) for _, alike in groupby(queries, question))


def prepare(queries: Sequence[Query], encoding: Encoding, *, shared: bool) -> Asked:
    """Turn what `questions` puts together into requests.

    What cannot be asked raises PromptTooLongError, ValueError or TypeError.
    """
    first = queries[0]
    if first.kind == base.GENERATE:
        (tokens, cut), longest, until, settings = encoding.generation(*first.arguments)
        first.check_cut(cut)
        settings = {"skip_special_tokens": False, "spaces_between_special_tokens": False, **settings}
        params = writing(first.seed, **settings, max_tokens=longest, stop=until)
        return queries, [(tokens, params, partial(read_text, until, cut))], list
    if first.kind == base.TOKENS:
        (tokens, cut), start = encoding.answered(*first.arguments[:2])
        first.check_cut(cut)
        again = {"skip_reading_prefix_cache": False} if shared else {}  # of the context, which others have
        params = scoring(prompt_logprobs=first.arguments[2], **again)
        return queries, [(tokens, params, partial(token_scores, start, cut))], list
    if first.kind == base.ROLLING:
        return queries, *_alone(encoding.windows(*first.arguments), 0, whole=True)
    spans = []
    for query in queries:
        (tokens, cut), start = encoding.pair(*query.arguments)
        query.check_cut(cut)
        spans.append((tokens, start, cut))
    if shared:
        return queries, *_shared(spans)
    ((tokens, start, cut),) = spans
    return queries, *_alone([(tokens, start)], cut, whole=False)


def read_text(until: Sequence[str], cut: int, output: Any) -> Answer:
    """The answer to a request for text, up to the first stop string."""
    (completion,) = output.outputs
    text = completion.text
    for stop in until:
        text = text.split(stop)[0] if stop else text
    tokens = len(output.prompt_token_ids), len(completion.token_ids)
    answer = Answer(text, completion.finish_reason, *tokens, prompt_cut=cut)
    times: Any = getattr(output, "metrics", None)  # that vLLM keeps with disable_log_stats: false
    if not getattr(times, "scheduled_ts", None):
        return answer
    first, last = (end - times.scheduled_ts for end in (times.first_token_ts, times.last_token_ts))
    return replace(answer, seconds=last, first_token_seconds=first)


def _alone(
    windows: Sequence[tuple[list[int], int]], cut: int, *, whole: bool
) -> tuple[list[Request], Callable[[Any], list[Answer]]]:
    """A continuation, or a whole text in windows, each as tokens and where its scored part starts."""
    count = sum(len(tokens) for tokens, _ in windows)

    def read(kept: Sequence[Sequence[Token | None]]) -> list[Answer]:
        scored = [(nan, False) if token is None else token for token in chain(*kept)]
        return [summed(scored, count, cut, whole=whole)]

    return [(tokens, scoring(), partial(prompt_scores, start)) for tokens, start in windows], read


def _shared(
    spans: Sequence[tuple[list[int], int, int]],
) -> tuple[list[Request], Callable[[Any], list[Answer | None]]]:
    """A question: tokens of each context with its continuation, where that starts, and how much was cut.

    Where prompts are cut, continuations of several lengths leave several contexts of it.
    """
    contexts: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
    for tokens, start, _ in spans:
        contexts.setdefault(tuple(tokens[:start]), {})[tuple(tokens[start:])] = None
    requests: list[Request] = []
    asked: list[tuple[int, tuple[int, ...]]] = []  # of each request, the context and the continuation
    for number, (context, continuations) in enumerate(contexts.items()):
        several = len(continuations) > 1
        firsts = sorted({one[0] for one in continuations if len(one) == 1 or (one and several)})
        for start in range(0, len(firsts), MOST_FIRST_TOKENS):
            some = tuple(firsts[start : start + MOST_FIRST_TOKENS])
            requests.append(([*context], scoring(some), first_scores))
            asked.append((number, ()))
        for one in continuations:
            if len(one) > 1:
                reduce = partial(prompt_scores, len(context))
                requests.append(([*context, *one], scoring(skip_reading_prefix_cache=False), reduce))
                asked.append((number, one))
    numbers = {context: number for number, context in enumerate(contexts)}
    wanted = [
        (numbers[tuple(tokens[:start])], tuple(tokens[start:]), len(tokens), cut)
        for tokens, start, cut in spans
    ]

    def read(kept: Sequence[Any]) -> list[Answer | None]:
        known: dict[tuple[int, ...], Token] = {}  # by the context and the continuation up to the token
        for (number, one), found in zip(asked, kept, strict=True):
            if one:
                places = enumerate(found, 1)
                known |= {(number, *one[:end]): token for end, token in places if token is not None}
            else:
                known |= {(number, first): token for first, token in found.items()}
        answers: list[Answer | None] = []
        for number, one, count, cut in wanted:
            tokens = [known.get((number, *one[:end])) for end in range(1, len(one) + 1)]
            scored = [token for token in tokens if token is not None]
            answers.append(summed(scored, count, cut, whole=False) if scored == tokens else None)
        return answers

    return requests, read


def prompt_scores(start: int, output: Any) -> list[Token | None]:
    """The tokens of a prompt from the start on; None for one whose predecessor came from the cache."""
    tokens, scored = output.prompt_token_ids, output.prompt_logprobs
    first, end = max(start, (output.num_cached_tokens or 0) + 1), len(tokens)
    found: list[Token | None] = [None] * (min(first, end) - start)
    for place in range(first - end, 0):  # from the end, because some versions leave out what they read
        right = -place <= len(scored.token_ids) and scored.token_ids[place] == tokens[place]
        found.append((scored.logprobs[place], scored.ranks[place] == 1) if right else None)
    return found


def token_scores(start: int, cut: int, output: Any) -> Answer | None:
    """The answer to a request for tokens: vLLM lists the prompt's own token before the likeliest ones.

    None where the cache had more than the context, which leaves tokens of the answer without a score.
    """
    scored, count = output.prompt_logprobs, len(output.prompt_token_ids)
    if (output.num_cached_tokens or 0) >= start < count:
        return None
    begin = scored.start_indices[start - count] if start < count else len(scored.token_ids)
    response = scored.token_ids[begin:], scored.logprobs[begin:]
    return Answer(response, None, count, 0, prompt_cut=cut)


def first_scores(output: Any) -> dict[int, Token]:
    """The first tokens of continuations; the written one comes first, and has the only rank that counts."""
    scored = output.outputs[0].logprobs
    likeliest = scored.token_ids[0] if scored.ranks[0] == 1 else None
    pairs = zip(scored.token_ids, scored.logprobs, strict=True)
    return {token: (value, token == likeliest) for token, value in pairs}


def summed(tokens: Sequence[Token], count: int, cut: int, *, whole: bool) -> Answer:
    """The log-likelihood of tokens and whether all are the likeliest, or of a `whole` text the number alone.

    The prompts had so many tokens, of which some were cut.
    """
    try:
        total = sum((base.log_likelihood(value) for value, _ in tokens), 0.0)
    except ValueError as error:  # it is none: NaN from an overflow, for example
        return Answer(None, error=error_text(error))
    greedy = all(likeliest for _, likeliest in tokens)
    return Answer(total if whole else (total, greedy), None, count, 0, prompt_cut=cut)
