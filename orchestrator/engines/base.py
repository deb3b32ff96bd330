"""What every engine can do: answer lm-eval's request types with given sampling parameters."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from typing import Any, Protocol

from pydantic import ValidationError

from orchestrator.errors import AnswerWithheldError, PromptTooLongError, error_text

GENERATE, LOGLIKELIHOOD, ROLLING = "generate_until", "loglikelihood", "loglikelihood_rolling"
TOKENS = "tokens"
"""A request of our own: (context, text, k) for the log-probability of each token of the text, and of the k
likeliest ones at its place. The response is (tokens, log-probabilities), flat lists with, for each place, the
text's own token and those k, the likeliest first; -1 and NaN where there are fewer."""
DEFAULT_KIND = "vllm"
ENV, LORA, PYTHON, IMAGE, COMMITS, SHARE = "env", "lora", "python", "image", "commits", "share_contexts"
OWN_OPTIONS = frozenset({"kind", ENV, LORA, PYTHON, IMAGE, COMMITS, SHARE})
"""Engine options that lldeg itself reads: the kind, the replica's variables, Python and container image, an
adapter, the commits (which it adds itself) of repositories that other options name, and whether vLLM may
compute the context of several continuations only once."""
EXTRA_BODY, OMIT = "extra_body", "omit"
"""The option with further fields of every request to a server, and the value of those that are left out."""
STREAM = "stream"
"""The option of a server whose answers come in parts."""
ALONE, SHARED = "each continuation alone", "shared contexts"
"""Ways to log-likelihoods, as the manifest names them."""
MOST_TOKENS = 2**31 - 1  # that a column holds
ROUNDING = 1e-3  # by which the logarithm of a probability of 1 may come out above 0
CUT = "length"
"""The finish_reason of an answer that the limit of tokens has ended."""
CUT_REASONS = frozenset(
    {CUT, "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"}
)
END_REASONS = CUT_REASONS.union(
    ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete", "completed", "repetition")
)
"""The finish_reasons of an answer, by the names of several providers; after any other one nobody knows what
the model would have answered."""
TOOL_REASONS = frozenset({"tool_calls", "function_call", "tool_use"})
"""Further ones, of an answer to a request that offered tools."""
LONGEST_REASON = 64  # characters
SERVED_BY = ("served_model", "system_fingerprint", "provider")
"""Fields of an answer with what a server says of itself in its replies, and columns of samples."""
SERVED_COUNTS = ("cached_tokens", "reasoning_tokens")
"""The same with what it counts beside the tokens of prompt and output, of which these are a part."""


@dataclass(frozen=True)
class Query:
    """One request to a model."""

    kind: str  # lm-eval's request type: generate_until, loglikelihood or loglikelihood_rolling; or TOKENS
    arguments: tuple[Any, ...]  # (context, lm-eval's generation settings), (context, continuation) or (text,)
    seed: int = 0
    whole: bool = False  # whether a prompt that does not fit is an error; else, as in lm-eval, it is cut

    def check_cut(self, cut: int) -> None:
        """Raise a `PromptTooLongError` if tokens of a prompt that must stay whole would be cut."""
        if self.whole and cut:
            raise PromptTooLongError(f"{cut:,} tokens of the prompt do not fit beside the answer")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    response: Any  # text, (log-likelihood, is-greedy) or log-likelihood, by the query; None with an error
    finish_reason: str | None = None  # one of `END_REASONS` where the engine tells
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None  # "class: message": a row without scores, while other samples continue
    prompt_cut: int | None = None  # tokens cut from its beginning because they did not fit; None if unknown
    seconds: float | None = None  # from when the engine got the query until the answer; None if unknown
    first_token_seconds: float | None = None  # the same until its first token
    cached_tokens: int | None = None  # of those of the prompt
    reasoning_tokens: int | None = None  # of those of the output
    served_model: str | None = None  # what answered, by the words of the server; so are the next two
    system_fingerprint: str | None = None
    provider: str | None = None


Asked = tuple[Sequence[Any], Callable[[list[Any]], Answer]]
"""A query made ready for an engine that sends requests one by one: the requests, several for a text longer
than the context and none for what cannot be asked, and what makes the answer of the replies to them."""


def unaskable(error: Exception) -> Asked:
    """A query that cannot be asked."""
    answer = Answer(None, error=error_text(error))
    return (), lambda _: answer


@dataclass(frozen=True)
class EngineSpec:
    """A model and how to run it: what a replica loads."""

    model: str
    revision: str | None = None  # commit on the hub; None for a folder
    options: dict[str, Any] = field(default_factory=dict)
    template_arguments: dict[str, Any] = field(default_factory=dict)  # if the engine applies the template

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the replica; libraries read them when they are imported."""
        return dict(self.options.get(ENV, {}))

    @property
    def python(self) -> str | None:
        """The interpreter of the replica; None for that of lldeg."""
        return self.options.get(PYTHON)

    @property
    def image(self) -> str | None:
        """The container image of the replica, or of the server; None for none that is known."""
        return self.options.get(IMAGE)

    @property
    def lora(self) -> str | None:
        """Folder of the adapter that every query uses."""
        return self.options.get(LORA)

    @property
    def commits(self) -> dict[str, str]:
        """Commits of other repositories, by the option that names them; see `EngineKind.repositories`."""
        return dict(self.options.get(COMMITS, {}))

    @property
    def arguments(self) -> dict[str, Any]:
        """The options that go to the engine as they are."""
        return {key: value for key, value in self.options.items() if key not in OWN_OPTIONS}


NodeGroup = tuple[int, str, int]
"""Nodes that run one engine together: how many, and address and port of the first, which has rank 0."""


class EngineEndedError(Exception):
    """The engine answers no more."""

    answers: Sequence[Answer | None] = ()  # to the queries of the same call, as far as there are any


class EngineOptionError(EngineEndedError):
    """The engine refuses its options or its model; trying again would not help."""


class EngineAwayError(EngineEndedError):
    """The engine cannot be reached, and the time for retries is over; what it was asked is still missing."""


class EngineDiedError(Exception):
    """The engine can answer no more, or could not be loaded now; its replica has to go."""


class UnfitNodeError(Exception):
    """This node can never run the replica; another may."""


REFUSALS = frozenset({"NotImplementedError", "TypeError", "ValidationError", "ValueError"})
"""Classes of what an engine raises for options or a model that it cannot run."""
HUB_REFUSALS = frozenset({"DisabledRepoError", "RepositoryNotFoundError", "RevisionNotFoundError"})
"""What huggingface_hub raises for a gated or an absent model; all else that it raises may pass."""
REFUSED = re.compile(
    "gated repo|is not a valid (model|git) identifier|does not appear to have|no file named", re.IGNORECASE
)
"""The same in the words of transformers, whose class for it, OSError, is also that of a lost connection."""
PASSING = frozenset({"HTTPError", "MemoryError", "OSError"})
FOR_NOW = re.compile(
    "(?i)out of ?memory|free memory on device|address already in use|"
    "couldn't connect|too many requests|connection reset"
)
"""Words of errors that another attempt may not meet: others use the memory or the port, the hub is busy."""


def load_failure(error: BaseException, refusals: Collection[str] = REFUSALS) -> Exception:
    """What an error met in loading a model means: a refusal, or something that another attempt may not meet.

    What it was raised from and what pydantic has caught in it count, too. `refusals` are classes of refusals.
    """
    causes, classes = [error], set()
    for cause in causes:
        classes |= {kind.__name__ for kind in type(cause).__mro__}
        details = cause.errors() if isinstance(cause, ValidationError) else ()
        inner = (cause.__cause__, *(detail.get("ctx", {}).get("error") for detail in details))
        causes += [one for one in inner if one is not None]
    return failure_of(error_text(error), classes, refusals)


def failure_of(words: str, classes: Collection[str], refusals: Collection[str] = REFUSALS) -> Exception:
    """The same, of an error of which only the words and the names of its classes are known."""
    passing = PASSING.intersection(classes) or FOR_NOW.search(words)
    absent = HUB_REFUSALS.intersection(classes) or REFUSED.search(words)
    refused = absent or (not passing and set(refusals).intersection(classes))
    return EngineOptionError(words) if refused else EngineDiedError(words)


def end_reason(reason: object, *, tools: bool = False) -> str | None:
    """A finish_reason of an answer: lower case, and "length" by whichever name the limit of tokens ended it.

    An AnswerWithheldError if it is not the reason of an answer (`END_REASONS`), or of one to a request that
    offered tools.
    """
    if reason is None:
        return None
    word = reason.lower() if isinstance(reason, str) else ""
    if tools and word in TOOL_REASONS:
        return "stop"
    if word not in END_REASONS:
        raise AnswerWithheldError(f"the answer ended with finish_reason {str(reason)[:LONGEST_REASON]}")
    return CUT if word in CUT_REASONS else word


def log_likelihood(value: Any) -> float:
    """A value as the logarithm of a probability.

    A ValueError if it is none: not a number, not finite, or above 0 by more than rounding explains.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"a log-likelihood is {type(value).__name__} instead of a number")  # noqa: TRY004
    number = float(value)
    if not isfinite(number) or number > ROUNDING:
        raise ValueError(f"a log-likelihood is {number:g}, but must be finite and at most 0")
    return number


def check_tokens(response: Any, top: int) -> None:
    """Raise a ValueError or TypeError if a response is not one to a request for `TOKENS`."""
    tokens, values = response
    if len(tokens) != len(values) or len(tokens) % (top + 1):
        raise ValueError(f"{len(tokens)} tokens have {len(values)} log-probabilities")
    for value in values[:: top + 1]:
        log_likelihood(value)


def token_count(value: Any) -> int | None:
    """A number of tokens as a column of Parquet holds it; None for what is none."""
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return value if known else None


class Engine(Protocol):
    """A loaded model."""

    target_in_flight: int  # requests to keep in flight so that the engine never waits for work
    dtype: str | None = None  # the number format that it computes in, if that is known
    log_likelihoods: str | None = None  # which way it comes to them, if it has several

    @property
    def problem(self) -> str | None:
        """What keeps the engine from answering now; None if nothing does."""
        return None

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries, in order; may be called from several threads at once.

        Raises:
            EngineDiedError: the engine is gone; none of the queries counts as answered.
            EngineEndedError: it is away, or turns out to refuse its options; has the answers given before.
        """

    def close(self) -> None:
        """Free the model."""
