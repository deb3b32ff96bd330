"""Chat templates: a conversation as the text the model was trained to see."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.config.schema import PromptConfig
from orchestrator.config.variants import Variant
from orchestrator.rundir.identity import digest

DEFAULT = "default"  # the name of the template that is used unless another is asked for
PLAIN = "plain"  # the rendering of prompts without a chat template


class ChatMessages:
    """A conversation as it is, for servers that apply the chat template themselves."""

    name = "messages"

    def __call__(self, chat: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
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
        templates = self._tokenizer.chat_template
        if not templates:
            raise ValueError(f"the tokenizer of {model} has no chat template")
        known = {DEFAULT: templates} if isinstance(templates, str) else templates
        if (chosen or DEFAULT) not in known:
            named = ", ".join(sorted(known))
            raise ValueError(
                f"the tokenizer of {model} has no chat template '{chosen or DEFAULT}'; it has {named}"
            )
        self._template = known[chosen or DEFAULT]
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


Template = ChatTemplate | ChatMessages | None
"""Renders a conversation as text; None for prompts that are no conversations."""


def chat_templates(
    variants: Mapping[str, Variant], prompt: PromptConfig
) -> tuple[dict[str, Template], dict[str, str], list[str]]:
    """The ways to render prompts by name, the name each variant uses, and mistakes; equal ones are one."""
    if not prompt.apply_chat_template:
        return {PLAIN: None}, dict.fromkeys(variants, PLAIN), []
    templates: dict[str, Template] = {}
    renderings: dict[str, str] = {}
    problems: list[str] = []
    for name, variant in variants.items():
        if not variant.model:
            continue  # already reported
        try:
            template = _chat_template(variant, prompt)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            problems.append(f"variants.{name}: its chat template could not be loaded: {reason}")
            continue
        templates[template.name] = template
        renderings[name] = template.name
    return templates, renderings, problems


def _chat_template(variant: Variant, prompt: PromptConfig) -> ChatTemplate | ChatMessages:
    if variant.kind.takes_messages(variant.options):
        return ChatMessages()
    tokenizer, asked = variant.tokenizer, prompt.apply_chat_template
    return ChatTemplate(
        tokenizer.name,
        tokenizer.revision,
        trust_remote_code=tokenizer.trusted,
        arguments=prompt.template_arguments,
        chosen=asked if isinstance(asked, str) else None,
    )
