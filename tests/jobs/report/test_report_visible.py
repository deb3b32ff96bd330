"""Untrusted text is shown as what it is."""

import unicodedata

import pytest
from hostile import HOSTILE

from jobs.report.texts import clip, shown, visible


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_invisible_or_acting_is_left(kind):
    """No control, format or surrogate character but newline and tab survives, whatever the attack."""
    left = {
        char
        for char in visible(HOSTILE[kind])
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    }
    assert left <= {"\n", "\t"}


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("a\u200bb", "a⟨U+200B⟩b"),
        ("a\x1b[0m", "a␛[0m"),
        ("\x7f", "␡"),
        ("\ud800", "⟨U+D800⟩"),
    ],
)
def test_a_hidden_character_becomes_a_sign(text, sign):
    """What is hidden is shown, not dropped: it may be all that differs between two answers."""
    assert visible(text) == sign


@pytest.mark.parametrize(
    "text", ["שלום", "नमस्ते", "日本語", "naïve café", "👍🏽", "a\n\tb", "{{ 7 * 7 }} <b>&amp;"]
)
def test_ordinary_text_stays(text):
    """Scripts of the world, emoji, line breaks and markup characters are left as they are."""
    assert visible(text) == text


def test_a_long_text_keeps_its_ends_and_says_what_is_missing():
    """A megabyte is cut in the middle; both ends stay, the count of what was left out stands there."""
    text = shown("begin" + "x" * 1_000_000 + "end", 300)
    assert text.startswith("begin")
    assert text.endswith("end")
    assert "999,708 characters omitted" in text
    assert len(text) < 400


def test_a_text_at_the_limit_is_whole():
    """Nothing is cut that fits."""
    assert clip("abc", 3) == "abc"
