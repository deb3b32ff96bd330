"""Prompts: how a conversation is rendered, what is built of it, and how long that is.

Where prompts are asked they are counted exactly. Here one is tokenized only if it may be too long by its
bytes, of which every token has at least one, and the tokens of a task are estimated from some of its prompts.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance

from orchestrator.config.load import Variant
from orchestrator.config.schema import PromptConfig
from orchestrator.engines.base import GENERATE, LOGLIKELIHOOD, MOST_TOKENS
from orchestrator.engines.kind import Tokenizer
from orchestrator.rundir.identity import digest

if TYPE_CHECKING:
    from orchestrator.engines.tokenization import Encoding

DEFAULT = "default"  # the name of the template that is used unless another is asked for
PLAIN = "plain"  # the rendering of prompts without a chat template
MEASURED = 32  # requests of a task from which its tokens are estimated, by the bytes of all of them
SPECIAL = 16  # bytes, more than the special tokens that a tokenizer adds
BYTES_PER_TOKEN = 4  # of English, where there is no tokenizer
AS_STATED = (None, "default", "llama3")
"""Kinds of rotary embeddings with which the context is as long as the configuration of a model says."""


class ChatMessages:
    """A conversation as it is, for servers that apply the chat template themselves."""

    name = "messages"

    def __call__(
        self,
        chat: Sequence[dict[str, str]],
        add_generation_prompt: bool = True,
        tools: Sequence[Any] = (),  # go beside the messages
    ) -> str:
        """The conversation as JSON."""
        return json.dumps(list(chat), ensure_ascii=False)


class ChatTemplate:
    """The chat template of a model's tokenizer, called the way lm-eval's model classes call it.

    Its name is a digest of what decides the rendering: equal names render equal text. A ValueError if the
    tokenizer has no (such) chat template, or it does not use one of the arguments.
    """

    def __init__(
        self, tokenizer: Tokenizer, arguments: Mapping[str, Any] | None = None, chosen: str = DEFAULT
    ) -> None:
        from transformers import AutoTokenizer  # noqa: PLC0415 - four seconds, for chat prompts only

        model, revision, trusted = tokenizer
        self._tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=trusted)
        templates = self._tokenizer.chat_template
        if not templates:
            raise ValueError(f"the tokenizer of {model} has no chat template")
        known = {DEFAULT: templates} if isinstance(templates, str) else templates
        if chosen not in known:
            named = ", ".join(sorted(known))
            raise ValueError(f"the tokenizer of {model} has no chat template '{chosen}'; it has {named}")
        self._template = known[chosen]
        self._arguments = dict(arguments or {})
        for name in self._arguments:
            if not re.search(rf"\b{re.escape(name)}\b", self._template):
                raise ValueError(f"the chat template of {model} does not use '{name}'")
        own = [self._arguments] if self._arguments else []
        self.name = digest([self._template, self._tokenizer.special_tokens_map, *own])

    def __call__(
        self, chat: Sequence[dict[str, str]], add_generation_prompt: bool = True, tools: Sequence[Any] = ()
    ) -> str:
        """Render a conversation; a model without a system role gets it without its system message.

        A ValueError if the template does not write the tools that may be called.
        """
        if tools and not re.search(r"\btools\b", self._template):
            raise ValueError("the chat template has no place for tools")
        from jinja2.exceptions import TemplateError  # noqa: PLC0415

        def rendered(turns: Sequence[dict[str, str]]) -> str:
            text = self._tokenizer.apply_chat_template(
                list(turns),
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
                **({"tools": list(tools)} if tools else {}),
                **self._arguments,
            )
            return str(text)

        try:
            return rendered(chat)
        except TemplateError:
            return rendered([turn for turn in chat if turn["role"] != "system"])


Template = ChatTemplate | ChatMessages | None
"""Renders a conversation as text; None for prompts that are no conversations."""


def chat_templates(
    variants: Mapping[str, Variant], prompt: PromptConfig, problems: list[str]
) -> tuple[dict[str, Template], dict[str, str]]:
    """The ways to render prompts by name, and the name each variant uses; equal ones are one."""
    asked = prompt.apply_chat_template
    if not asked:
        return {PLAIN: None}, dict.fromkeys(variants, PLAIN)
    templates: dict[str, Template] = {}
    renderings: dict[str, str] = {}
    chosen = asked if isinstance(asked, str) else DEFAULT
    for name, variant in variants.items():
        if not variant.identity:
            continue  # no such model, as already reported
        try:
            template = (
                ChatMessages()
                if variant.kind.takes_messages
                else ChatTemplate(variant.kind.tokenizer, prompt.template_arguments, chosen)
            )
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            problems.append(f"variants.{name}: its chat template could not be loaded: {reason}")
            continue
        templates[template.name] = template
        renderings[name] = template.name
    return templates, renderings


class Lengths:
    """The prompts of a task for a variant, every item asked once.

    Attributes:
        requests: to ask all of the items.
        repeats: how often each request is made where tokens are drawn.
        tokens: of all their prompts, estimated.
        answer: most tokens of an answer; 0 for log-likelihoods.
        room: tokens that a prompt may have; None if that is unknown.
        too_long: items with a prompt that does not fit.
        excess: tokens by which the longest prompt is too long.
    """

    def __init__(
        self, items: Sequence[Sequence[Instance]], encoding: "Encoding | None", answer: int, room: int | None
    ) -> None:
        requests = [request for item in items for request in item]
        sample = requests[:: -(-len(requests) // MEASURED)]
        density = sum(_tokens(one, encoding) for one in sample) / max(1, sum(map(_size, sample)))
        fits = MOST_TOKENS if room is None or encoding is None else room
        excesses = [
            max((_tokens(one, encoding) - fits for one in item if _size(one) + SPECIAL > fits), default=0)
            for item in items
        ]
        self.items, self.requests, self.repeats = len(items), len(requests), items[0][0].repeats or 1
        self.tokens = density * sum(map(_size, requests))
        self.answer, self.room = answer, None if encoding is None else room
        self.too_long, self.excess = sum(excess > 0 for excess in excesses), max(0, *excesses)


def encoding_and_room(variant: Variant, request: str, answer: int) -> tuple["Encoding | None", int | None]:
    """The tokenization of a variant, and the tokens that a prompt may have; each None if it is unknown.

    A request of lm-eval's type leaves room for its answer; the name of a served model may be its server's.
    """
    tokenizer, context = variant.kind.tokenizer, None
    is_known = tokenizer.revision is not None or Path(tokenizer.name).is_dir()
    encoding = _encoding(*tokenizer) if is_known or not variant.kind.served else None
    if encoding is not None and not variant.kind.served:
        context = _context(variant.model, variant.revision, tokenizer.trusted)
        context = context and min(context, encoding.tokenizer.model_max_length)
    return encoding, variant.kind.longest_prompt(request, answer, context)


def _text(request: Instance) -> str:
    """A prompt, with the tools that go beside it."""
    settings = request.args[1] if request.request_type == GENERATE else {}
    return str(request.args[0]) + (json.dumps(settings["tools"]) if "tools" in settings else "")


def _size(request: Instance) -> int:
    """Bytes of a prompt, with the continuation of a log-likelihood."""
    text = "".join(request.args) if request.request_type == LOGLIKELIHOOD else _text(request)
    return len(text.encode("utf-8", "replace"))


def _tokens(request: Instance, encoding: "Encoding | None") -> int:
    """Tokens of the same."""
    if encoding is None:
        return _size(request) // BYTES_PER_TOKEN
    if request.request_type == LOGLIKELIHOOD:
        (tokens, _), _ = encoding.pair(*request.args)
        return len(tokens)
    return len(encoding.tok_encode(_text(request)))


@cache
def _encoding(name: str, revision: str | None, trusted: bool) -> "Encoding | None":
    """The tokenization of a model; None if its tokenizer cannot be loaded."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    from orchestrator.engines.tokenization import Encoding  # noqa: PLC0415

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trusted)
        return Encoding(tokenizer, MOST_TOKENS)
    except Exception:  # noqa: BLE001 - somebody else's files and code; lengths are then unknown
        return None


@cache
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
