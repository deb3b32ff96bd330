"""What every engine can do: answer lm-eval's request types with given sampling parameters."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from typing import Any, Protocol

from pydantic import ValidationError

from orchestrator.errors import AnswerWithheldError, PromptTooLongError, error_text

GENERATE, LOGLIKELIHOOD, ROLLING = "generate_until", "loglikelihood", "loglikelihood_rolling"
DEFAULT_KIND = "vllm"
ENV, LORA, PYTHON, COMMITS = "env", "lora", "python", "commits"
OWN_OPTIONS = frozenset({"kind", ENV, LORA, PYTHON, COMMITS})
"""Engine options that lldeg itself reads: the kind, the replica's variables and Python, an adapter, and the
commits (which it adds itself) of repositories that other options name."""
MOST_TOKENS = 2**31 - 1  # that a column holds
ROUNDING = 1e-3  # by which the logarithm of a probability of 1 may come out above 0
CUT = "length"
"""The finish_reason of an answer that the limit of tokens has ended."""
CUT_REASONS = frozenset({CUT, "max_tokens", "max_output_tokens", "model_length"})
END_REASONS = CUT_REASONS | {
    *("stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete", "completed", "repetition")
}
"""The finish_reasons of an answer, by the names of several providers; after any other one nobody knows what
the model would have answered."""
TOOL_REASONS = frozenset({"tool_calls", "function_call", "tool_use"})
"""Further ones, of an answer to a request that offered tools."""
LONGEST_REASON = 64  # characters


@dataclass(frozen=True)
class Query:
    """One request to a model.

    Attributes:
        kind: lm-eval's request type: generate_until, loglikelihood or loglikelihood_rolling.
        arguments: lm-eval's arguments: (context, generation settings), (context, continuation) or (text,).
            Generation settings are lm-eval's: until, max_gen_toks, temperature, do_sample, top_p, …
        seed: seed of the sampler.
        whole: whether a prompt that does not fit is an error; else its beginning is cut, as lm-eval does.
    """

    kind: str
    arguments: tuple[Any, ...]
    seed: int = 0
    whole: bool = False

    def check_cut(self, cut: int) -> None:
        """Allow tokens of the prompt to be cut.

        Raises:
            PromptTooLongError: the prompt must stay whole.
        """
        if self.whole and cut:
            raise PromptTooLongError(f"{cut:,} tokens of the prompt do not fit beside the answer")


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        response: text, (log-likelihood, is-greedy), or a log-likelihood, after the kind of the query; None
            with an error.
        finish_reason: one of `END_REASONS` where the engine tells; None otherwise.
        prompt_tokens: tokens read.
        output_tokens: tokens written.
        prompt_cut: tokens cut from the beginning of the prompt because they did not fit; None if unknown.
        error: None, or "class: message"; such a sample becomes a row without scores, and the others continue.
    """

    response: Any
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    prompt_cut: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A query made ready for an engine that sends requests one by one.

    Attributes:
        query: what was asked.
        requests: what is sent; several for a text longer than the context, none for a query that cannot be
            asked.
        read: makes the answer from what came back for each of the requests.
        cut: tokens cut from the beginning of the prompt, so that it fits; None if that is not known.
    """

    query: Query
    requests: Sequence[Any]
    read: Callable[[list[Any]], Answer]
    cut: int | None = None

    @classmethod
    def failed(cls, query: Query, error: Exception) -> "Prepared":
        """A query that cannot be asked."""
        answer = Answer(None, error=error_text(error))
        return cls(query, (), lambda _: answer)


@dataclass(frozen=True)
class EngineSpec:
    """A model and how to run it: what a replica loads.

    Attributes:
        revision: commit of the model on the hub; None for a folder.
        template_arguments: arguments of the chat template, for an engine that applies it itself.
    """

    model: str
    revision: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    template_arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """Environment variables of the replica."""
        return dict(self.options.get(ENV, {}))

    @property
    def python(self) -> str | None:
        """The interpreter of the replica; None for that of lldeg."""
        return self.options.get(PYTHON)

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
    """The engine answers no more.

    Attributes:
        answers: those it had given to the queries of the same call, None where there is none; may be empty.
    """

    answers: Sequence[Answer | None] = ()


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
    "out of ?memory|free memory on device|address already in use|"
    "couldn't connect|too many requests|connection reset",
    re.IGNORECASE,
)
"""Words of errors that another attempt may not meet: others use the memory or the port, the hub is busy."""


def load_failure(
    error: BaseException, refusals: Collection[str] = REFUSALS
) -> EngineOptionError | EngineDiedError:
    """What an error met in loading a model means: a refusal, or something that another attempt may not meet.

    Args:
        error: what the engine raised.
        refusals: classes of its refusals.
    """
    classes = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    return failure_of(error_text(error), classes, refusals)


def failure_of(
    words: str, classes: Collection[str], refusals: Collection[str] = REFUSALS
) -> EngineOptionError | EngineDiedError:
    """The same, of an error of which only the words and the names of its classes are known."""
    if HUB_REFUSALS.intersection(classes) or REFUSED.search(words):
        return EngineOptionError(words)
    passing = PASSING.intersection(classes) or FOR_NOW.search(words)
    refused = not passing and set(refusals).intersection(classes)
    return EngineOptionError(words) if refused else EngineDiedError(words)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and what pydantic has caught in a validator."""
    while error is not None:
        yield error
        for detail in error.errors() if isinstance(error, ValidationError) else ():
            yield from _causes(detail.get("ctx", {}).get("error"))
        error = error.__cause__


def end_reason(reason: object, *, tools: bool = False) -> str | None:
    """A finish_reason of an answer: lower case, and "length" by whichever name the limit of tokens ended it.

    Args:
        reason: None where the engine tells none.
        tools: whether the request offered tools.

    Raises:
        AnswerWithheldError: it is not the reason of an answer (`END_REASONS`).
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

    Raises:
        ValueError: it is not one: not a number, not finite, or above 0 by more than rounding explains.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"a log-likelihood is {type(value).__name__} instead of a number")  # noqa: TRY004
    number = float(value)
    if not isfinite(number) or number > ROUNDING:
        raise ValueError(f"a log-likelihood is {number:g}, but must be finite and at most 0")
    return number


def token_count(value: Any) -> int | None:
    """A number of tokens as a column of Parquet holds it; None for what is none."""
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return value if known else None


class Engine(Protocol):
    """A loaded model.

    Attributes:
        target_in_flight: requests to keep in flight so that the engine never waits for work.
        dtype: the number format that it computes in; None if that is not known.
    """

    target_in_flight: int
    dtype: str | None = None

    @property
    def problem(self) -> str | None:
        """What keeps the engine from answering now; None if nothing does."""
        return None

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries, in order; may be called from several threads at once.

        Raises:
            EngineDiedError: the engine is gone; none of the queries counts as answered.
            EngineAwayError: the engine is away; the exception has the answers it gave before.
            EngineOptionError: the engine turns out to refuse its options or its model; likewise.
        """

    def close(self) -> None:
        """Free the model."""
