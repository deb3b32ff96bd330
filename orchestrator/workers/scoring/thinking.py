"""Reasoning models think before they answer; as in lm-eval, only what follows the thoughts is scored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engines.base import GENERATE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lm_eval.api.instance import Instance

    from orchestrator.sweep.tasks import Answered


def thoughtless(think_end_token: str | None) -> Callable[[Answered], Answered]:
    """What takes the thoughts out of answers before they are scored; without an end token, nothing does."""

    def without_thoughts(sample: Answered) -> Answered:
        pairs = zip(sample.requests, sample.responses, strict=True)
        return replace(sample, responses=[_after(think_end_token, *pair) for pair in pairs])

    return (lambda sample: sample) if think_end_token is None else without_thoughts


def _after(think_end_token: str | None, request: Instance, texts: Sequence[str]) -> list[str]:
    """What follows the thoughts, up to the task's stop strings; a text without their end is all answer.

    These are two calls of lm-eval's own function, because some versions cut at stop strings first.
    """
    from lm_eval.models.utils import postprocess_generated_text  # noqa: PLC0415 - slow, in the replica only

    if request.request_type != GENERATE:
        return list(texts)
    answers = [postprocess_generated_text(text, None, think_end_token) for text in texts]
    return [postprocess_generated_text(answer, request.args[1].get("until"), None) for answer in answers]
