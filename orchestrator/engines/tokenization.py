"""Text to tokens exactly as lm-eval does it: special tokens, stop strings, truncation, the split of pairs."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import Any, cast

from lm_eval.api.model import TemplateLM
from lm_eval.models import utils
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from orchestrator.engines.base import LOGLIKELIHOOD, Query

DEFAULT_MAX_GEN_TOKS = 256  # lm-eval's own default


def split_pair(lm: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Tokens of a context and of its continuation, for a `TemplateLM`.

    An empty context is replaced by the token that precedes a text without context.
    """
    if context:
        pair: tuple[list[int], list[int]] = lm._encode_pair(context, continuation)
        return pair
    tokens = lm.tok_encode(continuation, add_special_tokens=False)
    prefix = [lm.prefix_token_id]
    return (prefix, tokens[1:]) if tokens[:1] == prefix else (prefix, tokens)


def rolling_windows(lm: Any, text: str, longest: int) -> list[tuple[list[int], list[int]]]:
    """Disjoint windows of at most `longest` tokens and one over a text: of context, and to score."""
    windows = get_rolling_token_windows(
        token_list=lm.tok_encode(text), prefix_token=lm.prefix_token_id, max_seq_len=longest, context_len=1
    )
    return [make_disjoint_window(window) for window in windows]


class Encoding(TemplateLM):  # type: ignore[misc]  # lm-eval is untyped
    """lm-eval's tokenization for a causal model, without a model, of at most `max_length` tokens."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._encode = lru_cache(maxsize=1024)(self._encode_once)
        self._ahead: dict[str, list[int]] = {}

    @property
    def eot_token_id(self) -> int:
        """End-of-text token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Token that precedes a text without context."""
        bos = self.tokenizer.bos_token_id
        return int(bos) if bos is not None else self.eot_token_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokens of a text; a beginning-of-sequence token that is already there is not added again."""
        if add_special_tokens is None and (known := self._ahead.get(string)) is not None:
            return known.copy()
        return list(self._encode(string, add_special_tokens)) if string else []

    def encode_ahead(self, queries: Iterable[Query]) -> None:
        """Encode what the next queries will need as one batch, and forget the last one."""
        texts: dict[str, None] = {}
        with suppress(TypeError, ValueError):  # of a query that is none, which will tell so itself
            for query in queries:
                text, *rest = query.arguments
                pair = query.kind == LOGLIKELIHOOD
                texts |= dict.fromkeys((text.rstrip(), text + rest[0]) if pair and text else (text,))
            asked = [text for text in texts if text and not utils.has_bos_prefix(text, self._prefix)]
            encoded = self.tokenizer(asked, return_attention_mask=False).input_ids if asked else []
            self._ahead = dict(zip(asked, encoded, strict=True))

    def _encode_once(self, string: str, add_special_tokens: bool | None) -> tuple[int, ...]:
        """The reruns of an item, and the choices of a question, ask for the same text again and again."""
        if utils.has_bos_prefix(string, self._prefix):
            add_special_tokens = False
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return tuple(self.tokenizer(string, return_attention_mask=False, **options).input_ids)

    @cached_property
    def _prefix(self) -> str:
        return str(self.tokenizer.decode(self.prefix_token_id))

    @cached_property
    def _end_of_text(self) -> str:
        return str(self.tokenizer.decode(self.eot_token_id) or self.tokenizer.eos_token)

    def generation(
        self, context: str, settings: dict[str, Any]
    ) -> tuple[tuple[list[int], int], int, list[str], dict[str, Any]]:
        """The prompt and how much of it was cut, longest answer, stop strings, other sampling settings."""
        kwargs = cast("dict[str, Any]", utils.normalize_gen_kwargs(settings, DEFAULT_MAX_GEN_TOKS))
        until = utils.handle_stop_sequences(kwargs.pop("until", None), eos=self._end_of_text)
        longest = int(kwargs.pop("max_gen_toks"))
        kwargs.pop("do_sample", None)
        whole = self.tok_encode(context)
        tokens, longest = utils.maybe_truncate(
            whole, max_gen_toks=longest, max_model_len=self.max_length, verbose=False
        )
        return (tokens, len(whole) - len(tokens)), longest, until, kwargs

    def pair(self, context: str, continuation: str) -> tuple[tuple[list[int], int], int]:
        """Tokens of both as far as they fit and how many do not, and where the continuation starts."""
        head, tail = split_pair(self, context, continuation)
        room = self.max_length - 1  # the engine always writes one token
        overflow = max(0, len(head) + len(tail) - room)
        return ((head + tail)[overflow:], overflow), max(len(head) - overflow, 1)

    def answered(self, context: str, answer: str) -> tuple[tuple[list[int], int], int]:
        """The same of a prompt, as it is asked for text, and of an answer to it.

        Each is encoded by itself, so that the tokens of an answer depend on no chat template.
        """
        head, tail = self.tok_encode(context), self.tok_encode(answer, add_special_tokens=False)
        overflow = max(0, len(head) + len(tail) - self.max_length + 1)
        return ((head + tail)[overflow:], overflow), max(len(head) - overflow, 1)

    def windows(self, text: str) -> list[tuple[list[int], int]]:
        """Disjoint windows over a long text, each as tokens and where its scored part starts."""
        pairs = rolling_windows(self, text, self.max_length - 2)
        return [([*context, *scored], len(context)) for context, scored in pairs]

    def _loglikelihood_tokens(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a tokenizer cannot score text")

    loglikelihood_rolling = generate_until = _loglikelihood_tokens
