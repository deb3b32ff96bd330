"""What is measured of every answer beside its scores: how long it is, whether it was cut, how it repeats.

One registry. An entry names the column of samples that a value is read from, which becomes a column of every
run directory; the worker that knows the value fills it in (`workers.answer_block`). All else follows from
here: what is read and paired, tested and shown, and which names a policy may use.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.engines.base import CUT_REASONS, GENERATE
from stats import fidelity

GRAM = 4  # words in a row
_WORDS = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af]|\w+|[^\w\s]")  # each sign of Chinese and the like


def looping(text: str) -> float:
    """How much a text repeats itself: the share of its runs of four words that occurred before, 0 to 1.

    This is seq-rep-4 of Welleck et al. (2020), 1 − distinct/all, with words and punctuation marks as tokens.
    Prose has about .02, a table or a proof up to .3, and an answer that is stuck more than .8.
    """
    words = _WORDS.findall(text)
    count = len(words) - GRAM + 1
    return 1.0 - len(set(zip(*(words[i:] for i in range(GRAM)), strict=False))) / count if count > 0 else 0.0


@dataclass(frozen=True)
class Measurement:
    """One number per answer."""

    name: str  # in files, policies and Python
    title: str  # for people
    # of samples; empty where it is computed from how the baseline's answers are scored, or of whole blocks
    column: str
    type: pa.DataType  # of that column
    unit: str  # of a value; "share" of what is true or false of an answer, or ranges from 0 to 1
    within: float  # largest change that counts as none, unless a policy says otherwise
    relative: bool = False  # whether means are compared by their ratio, else by their difference
    better: Literal["lower", "higher"] | None = None  # direction; None where neither is better by itself
    bounds: tuple[float, float] | None = None  # least and greatest possible value
    of_text: bool = True  # whether only an answer of generated text has it
    # Whether items are independent in it, as a test needs: requests that share a batch wait for each other
    tested: bool = True
    value: Callable[[pa.Array], pa.Array] = lambda column: column  # of entries that are not null

    def values(self, column: pa.Array) -> NDArray[np.float32]:
        """Values of the entries of the column, NaN where unknown; shape (answers,)."""
        numbers = pc.if_else(pc.is_valid(column), self.value(column), None).cast(pa.float32())
        return np.asarray(numbers.to_numpy(zero_copy_only=False))


SHARE, SECONDS, CALLED = (0.0, 1.0), pa.float32(), "called"
_described = partial(Measurement, column="", type=SECONDS, within=0.0, relative=True, tested=False)
MEASUREMENTS = (
    Measurement("output_tokens", "output tokens", "output_tokens", pa.int32(), "tokens", 0.05, relative=True),
    Measurement(
        "reasoning_tokens", "reasoning tokens", "reasoning_tokens", pa.int32(), "tokens", 0.05, relative=True
    ),
    Measurement(
        "prompt_tokens", "prompt tokens", "prompt_tokens", pa.int32(), "tokens", 0.05, relative=True,
        of_text=False,
    ),
    Measurement(
        "cut", "cut by the limit", "finish_reason", pa.string(), "share", 0.01, better="lower", bounds=SHARE,
        value=lambda reasons: pc.is_in(pc.utf8_lower(reasons.cast(pa.string())), pa.array([*CUT_REASONS])),
    ),
    Measurement("looping", "looping", "looping", pa.float32(), "share", 0.01, better="lower", bounds=SHARE),
    Measurement(
        "empty", "empty", "response", pa.string(), "share", 0.01, better="lower", bounds=SHARE,
        value=lambda texts: pc.equal(pc.utf8_trim_whitespace(texts.cast(pa.string())), ""),
    ),
    Measurement(CALLED, "tool called", CALLED, pa.float32(), "share", 0.01, bounds=SHARE),
    Measurement(
        "valid_calls", "calls valid", "valid_calls", pa.float32(), "share", 0.01, better="higher",
        bounds=SHARE,
    ),
    Measurement(
        "seconds", "seconds", "seconds", SECONDS, "s", 0.05, relative=True, better="lower", of_text=False,
        tested=False,
    ),
    Measurement(
        "first_token_seconds", "seconds to first token", "first_token_seconds", SECONDS, "s", 0.05,
        relative=True, better="lower", tested=False,
    ),
    Measurement(fidelity.KL, "KL divergence", "", SECONDS, "nats", 0.01, better="lower"),
    Measurement(fidelity.LOG_RATIO, "log-probability ratio", "", SECONDS, "nats", 0.01, better="lower"),
    Measurement(
        fidelity.PERPLEXITY_RATIO, "perplexity ratio", "", SECONDS, "times", 0.01, better="lower"
    ),
    Measurement(
        fidelity.OTHER_TOP, "other likeliest token", "", SECONDS, "share", 0.01, better="lower", bounds=SHARE
    ),
    Measurement(
        fidelity.FIRST_DIVERGENCE, "first divergent token", "", SECONDS, "tokens", 0.05, relative=True,
        better="higher",
    ),
    _described("samples_per_second", "samples per second", unit="samples/s", better="higher"),
    _described("tokens_per_second", "tokens per second", unit="tokens/s", better="higher"),
    _described("cost", "cost of 1,000 samples", unit="money", better="lower"),
    _described("load_seconds", "seconds to load", unit="s", better="lower"),
    _described("peak_gib", "memory, GiB", unit="GiB", better="lower"),
)  # fmt: skip


def of_answers(output_type: str | None) -> list[Measurement]:
    """Those that answers to a task have themselves, by lm-eval's word for what is asked of a model."""
    return [one for one in MEASUREMENTS if one.column and (output_type == GENERATE or not one.of_text)]


BY_NAME = {one.name: one for one in MEASUREMENTS}
COLUMNS = {one.column: one.type for one in MEASUREMENTS if one.column}
"""Columns of samples with their types."""
