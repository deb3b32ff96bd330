"""The terminal twin of the page: hostile names do nothing on a terminal and in a Markdown document."""

import dataclasses
import unicodedata

import pytest
from hostile import HOSTILE
from rich.console import Console

from jobs.analysis.analyze import analyze
from jobs.analysis.request import AnalyzeRequest
from jobs.formats.notices import Notice, NoticeCode
from jobs.text.tables import markdown, print_analysis

KINDS = [kind for kind in HOSTILE if kind != "megabyte"]


@pytest.fixture
def named(sampled_run):
    """An analysis in which a variant and a warning carry a hostile text."""
    analysis = analyze([str(sampled_run)], AnalyzeRequest())

    def name(text):
        results = tuple(dataclasses.replace(result, variant=text) for result in analysis.results)
        return dataclasses.replace(analysis, results=results, warnings=(Notice(NoticeCode.CUT_SHORT, text),))

    return name


def acting(text):
    """Characters that a terminal or a reader's eye would obey."""
    return {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs"}} - {"\n"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_control_reaches_the_terminal(named, kind):
    """Escape codes, direction and zero-width characters never reach the terminal."""
    console = Console(width=200, record=True, color_system=None)
    print_analysis(named(HOSTILE[kind]), console)
    assert not acting(console.export_text())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_markdown_holds_no_markup_of_others(named, kind):
    """Pasted into a pull request, a hostile name is text: no tag but our own begins, nothing hides."""
    text = markdown(named(HOSTILE[kind]))
    assert not acting(text)
    own = ("<details>", "</details>", "<summary>", "</summary>", "<!-- -->")
    for tag in own:
        text = text.replace(tag, "")
    assert "<" not in text
