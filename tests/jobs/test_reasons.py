"""The words of verdicts: each code has one sentence, which names the numbers behind it."""

from types import SimpleNamespace

import numpy as np
import pytest

from jobs.text.meaning import notes
from jobs.text.reasons import SENTENCES, with_reasons
from stats.comparison import TaskScores, compare
from stats.results import Settings
from stats.verdict import Code, Verdict

SETTINGS = Settings()


def reasons(worse, better, items, **options):
    """The comparison of a task on which some items flip, and its reasons."""
    baseline, variant = np.ones(items), np.ones(items)
    baseline[worse : worse + better] = 0.0
    variant[:worse] = 0.0
    found = with_reasons(compare([TaskScores("t", baseline, variant, **options)]), SETTINGS)
    return found, found.reasons


def test_every_code_has_a_sentence():
    """And there is no sentence without a code."""
    assert set(SENTENCES) == set(Code)


def test_every_reason_has_a_code():
    """Sentences and codes are parallel, over all tasks and on each."""
    found, _ = reasons(6, 3, 60, missing=5)
    assert len(found.reasons) == len(found.reason_codes) > 3
    assert len(found.tasks[0].reasons) == len(found.tasks[0].reason_codes)


def test_damage_within_the_margin_says_both():
    """That it is significant, and that it is acceptable."""
    _, said = reasons(150, 60, 100_000)
    assert said[0].startswith("Significantly worse: p = ")
    assert said[1].startswith("The drop is within the margin of 1.00 points: non-inferiority p = ")


def test_what_would_decide_is_named():
    """In items; and that clusters can be too few for any p-value."""
    found, said = reasons(6, 3, 60)
    assert f"about {found.items_needed:,} items would be enough to decide" in said[-1]
    _, said = reasons(100, 0, 400, clusters=np.arange(400) % 4)
    assert any("4 clusters" in reason and "0.0625" in reason for reason in said)
    assert "too few to detect any drop" in said[-1]


@pytest.mark.parametrize(("certified", "said"), [(0, False), (1, False), (2, True)])
def test_several_certificates_are_spoken_of(certified, said):
    """One certificate needs no caveat."""
    one = SimpleNamespace(comparison=SimpleNamespace(verdict=Verdict.CERTIFIED, reason_codes=()))
    analysis = SimpleNamespace(results=[one] * certified, settings=Settings(), plan=None)
    assert bool(notes(analysis)) == said
