"""How long prompts are and what of them does not fit, before anything is asked.

Where prompts are asked they are counted exactly. Here one is tokenized only if it may be too long by its
bytes, of which every token has at least one, and the tokens of a task are estimated from some of its prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config.schema import SamplingConfig
from orchestrator.config.variants import Variant
from orchestrator.engines.base import LOGLIKELIHOOD, MOST_TOKENS
from orchestrator.sweep.tasks import SweepTask, TaskItems

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from orchestrator.engines.tokenization import Encoding
MEASURED = 32
"""Requests of a task from which its tokens are estimated, by the bytes of all of them."""
SPECIAL = 16  # bytes, more than the special tokens that a tokenizer adds
BYTES_PER_TOKEN = 4  # of English, where there is no tokenizer
AS_STATED = (None, "default", "llama3")
"""Kinds of rotary embeddings with which the context is as long as the configuration of a model says."""


@dataclass(frozen=True)
class Lengths:
    """The prompts of a task for a variant, every item asked once.

    Attributes:
        items: how many.
        requests: to ask all of them.
        repeats: how often each request is made where tokens are drawn.
        tokens: of all their prompts, estimated.
        answer: most tokens of an answer; 0 for log-likelihoods.
        room: tokens that a prompt may have; None if that is unknown.
        too_long: items with a prompt that does not fit.
        excess: tokens by which the longest prompt is too long.
    """

    items: int
    requests: int
    repeats: int
    tokens: float
    answer: int
    room: int | None
    too_long: int = 0
    excess: int = 0


@dataclass
class PromptLengths:
    """The lengths of the prompts of a sweep; equal ones are measured once.

    Attributes:
        sampling: of the sweep.
        variants: those that run.
        tasks: leaf tasks by name.
        renderings: per variant, the name of its way to render prompts.
        built: requests by (rendering, task).
    """

    sampling: SamplingConfig
    variants: Mapping[str, Variant]
    tasks: Mapping[str, SweepTask]
    renderings: Mapping[str, str]
    built: Mapping[tuple[str, str], TaskItems]
    _known: dict[tuple[object, ...], Lengths] = field(default_factory=dict)
    _load: Callable[..., Encoding | None] = field(default_factory=lambda: cache(_encoding))
    _read: Callable[..., int | None] = field(default_factory=lambda: cache(_context))

    def of(self, name: str, task: str) -> Lengths:
        """The prompts of a task for a variant."""
        variant, place = self.variants[name], (self.renderings[name], task)
        items = list(self.built[place].requests.values())
        default = variant.options.get("max_gen_toks")
        answer = self.tasks[task].longest_answer(self.sampling, default if isinstance(default, int) else None)
        encoding, context = self._encoding(variant)
        room = variant.kind.longest_prompt(variant.options, items[0][0].request_type, answer, context)
        key = (*place, id(encoding), answer, room)
        if key not in self._known:
            self._known[key] = _measure(items, encoding, answer, room)
        return self._known[key]

    def _encoding(self, variant: Variant) -> tuple[Encoding | None, int | None]:
        """The tokenizer of a variant and the context of its model; each None if it is unknown."""
        tokenizer = variant.tokenizer
        if variant.kind.served:  # its name may be that of no model on the hub
            known = tokenizer.revision is not None or Path(tokenizer.name).is_dir()
            return (self._load(*tokenizer) if known else None), None
        encoding = self._load(*tokenizer)
        context = encoding and self._read(variant.model, variant.revision, tokenizer.trusted)
        if encoding is None or context is None:
            return encoding, None
        return encoding, min(context, encoding.tokenizer.model_max_length)

    def too_long(self) -> Iterator[str]:
        """Prompts that do not fit, a sentence without its full stop for each task."""
        for task in self.tasks:
            found = {variant: self.of(variant, task) for variant in self.variants}
            if variants := [name for name, lengths in found.items() if lengths.too_long]:
                lengths = max((found[name] for name in variants), key=lambda one: one.excess)
                yield (
                    f"task '{task}': {lengths.too_long:,} of {lengths.items:,} prompts do not fit for "
                    f"{', '.join(variants)}, the longest by {lengths.excess:,} tokens"
                )

    def refusals(self) -> Iterator[str]:
        """Why a sweep whose prompts must fit cannot start, sentences without their full stop."""
        yield from (f"{said} (prompt.overflow: refuse)" for said in self.too_long())
        for variant in self.variants:
            if any(self.of(variant, task).room is None for task in self.tasks):
                yield (
                    f"variants.{variant}: nothing says whether its prompts fit (prompt.overflow: refuse): "
                    "set its tokenizer and max_model_len or max_length, or prompt.overflow: error"
                )


def _measure(
    items: Sequence[Sequence[Instance]], encoding: Encoding | None, answer: int, room: int | None
) -> Lengths:
    requests = [request for item in items for request in item]
    sample = requests[:: -(-len(requests) // MEASURED)]
    density = sum(_tokens(request, encoding) for request in sample) / max(1, sum(map(_size, sample)))
    fits = MOST_TOKENS if room is None or encoding is None else room
    excesses = [
        max((_tokens(one, encoding) - fits for one in item if _size(one) + SPECIAL > fits), default=0)
        for item in items
    ]
    return Lengths(
        items=len(items),
        requests=len(requests),
        repeats=items[0][0].repeats or 1,
        tokens=density * sum(map(_size, requests)),
        answer=answer,
        room=None if encoding is None else room,
        too_long=sum(excess > 0 for excess in excesses),
        excess=max(0, *excesses),
    )


def _text(request: Instance) -> str:
    return "".join(request.args) if request.request_type == LOGLIKELIHOOD else request.args[0]


def _size(request: Instance) -> int:
    return len(_text(request).encode("utf-8", "replace"))


def _tokens(request: Instance, encoding: Encoding | None) -> int:
    """Tokens of a prompt, with the continuation of a log-likelihood."""
    if encoding is None:
        return _size(request) // BYTES_PER_TOKEN
    if request.request_type == LOGLIKELIHOOD:
        (tokens, _), _ = encoding.pair(*request.args)
        return len(tokens)
    return len(encoding.tok_encode(request.args[0]))


def _encoding(name: str, revision: str | None, trusted: bool) -> Encoding | None:
    """The tokenization of a model; None if its tokenizer cannot be loaded."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    from orchestrator.engines.tokenization import Encoding  # noqa: PLC0415

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trusted)
        return Encoding(tokenizer, MOST_TOKENS)
    except Exception:  # noqa: BLE001 - somebody else's files and code; lengths are then unknown
        return None


def _context(model: str, revision: str | None, trusted: bool) -> int | None:
    """The context that the configuration of a model states; None if it does not, or makes it longer."""
    from lm_eval.models.utils import resolve_max_length  # noqa: PLC0415 - seconds to import
    from transformers import AutoConfig  # noqa: PLC0415

    try:
        config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trusted)
        rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        stated: int | None = resolve_max_length(config, default=0) or None
        return stated if rope.get("rope_type", rope.get("type")) in AS_STATED else None
    except Exception:  # noqa: BLE001 - likewise
        return None
