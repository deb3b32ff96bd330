"""Chat templates: a conversation as the text the model was trained to see."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from orchestrator.rundir.identity import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


DEFAULT = "default"  # the name of the template that is used unless another is asked for


class ChatMessages:
    """A conversation as it is, for servers that apply the chat template themselves."""

    name = "messages"

    def __call__(self, chat: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:  # noqa: ARG002
        """The conversation as JSON."""
        return json.dumps(list(chat), ensure_ascii=False)


class ChatTemplate:
    """The chat template of a model's tokenizer, called the way lm-eval's model classes call it.

    Args:
        model: folder or hub name of the model or tokenizer.
        revision: revision on the hub.
        trust_remote_code: whether the tokenizer may run its own code.
        arguments: further arguments of the template, by name.
        chosen: the one of several templates to use; None for the default.

    Raises:
        ValueError: the tokenizer has no (such) chat template, or it does not use one of the arguments.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        trust_remote_code: bool = False,
        arguments: Mapping[str, Any] | None = None,
        chosen: str | None = None,
    ) -> None:
        from transformers import AutoTokenizer  # noqa: PLC0415 - four seconds, for chat prompts only

        self._tokenizer = AutoTokenizer.from_pretrained(
            model, revision=revision, trust_remote_code=trust_remote_code
        )
        if not self._tokenizer.chat_template:
            raise ValueError(f"the tokenizer of {model} has no chat template")
        self._template = _choose(self._tokenizer.chat_template, chosen or DEFAULT, model)
        self._arguments = dict(arguments or {})
        for name in self._arguments:
            if not re.search(rf"\b{re.escape(name)}\b", self._template):
                raise ValueError(f"the chat template of {model} does not use '{name}'")

    @property
    def name(self) -> str:
        """Digest of what decides the rendering; equal names render equal text."""
        own = [self._arguments] if self._arguments else []
        return digest([self._template, self._tokenizer.special_tokens_map, *own])

    def __call__(self, chat: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation; a model without a system role gets it without its system message."""
        from jinja2.exceptions import TemplateError  # noqa: PLC0415

        try:
            return self._render(chat, add_generation_prompt)
        except TemplateError:
            return self._render([turn for turn in chat if turn["role"] != "system"], add_generation_prompt)

    def _render(self, chat: Sequence[dict[str, str]], add_generation_prompt: bool) -> str:
        rendered = self._tokenizer.apply_chat_template(
            list(chat),
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **self._arguments,
        )
        return str(rendered)


def _choose(templates: str | Mapping[str, str], name: str, model: str) -> str:
    """A tokenizer's template of a name; a tokenizer with one template has the default."""
    known = {DEFAULT: templates} if isinstance(templates, str) else templates
    if name not in known:
        named = ", ".join(sorted(known))
        raise ValueError(f"the tokenizer of {model} has no chat template '{name}'; it has {named}")
    return known[name]
