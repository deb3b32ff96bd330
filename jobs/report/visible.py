"""Makes untrusted text safe to look at: what is invisible or acts on the reader becomes a visible sign.

A page escapes markup by itself, but terminal codes, zero-width and direction characters survive escaping and
can hide or reorder what a model said. They are shown as signs instead of being dropped, because an invisible
character can be the very difference between two answers.
"""

import re

ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls, format and direction characters, invisible fillers, lone surrogates; not newline and tab."""


def visible(text: str) -> str:
    """The text with every character that is invisible or acts on its surroundings replaced by a sign."""
    return ACTING.sub(_sign, text)


def _sign(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def clip(text: str, limit: int) -> str:
    """At most about `limit` characters: a third from the start, the rest from the end, and what was cut.

    The end of a prompt is the question and the end of an answer is what is scored, so more of it is kept.
    """
    if len(text) <= limit:
        return text
    head = limit // 3
    left_out = len(text) - limit
    return f"{text[:head]}\n[… {left_out:,} characters omitted here …]\n{text[head - limit :]}"


def shown(text: str | None, limit: int) -> str | None:
    """A text ready to be shown, or None."""
    return None if text is None else visible(clip(text, limit))
