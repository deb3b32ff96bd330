"""Warnings on screen: each once, and many of one kind not all."""

from jobs.formats.notices import Notice, NoticeCode
from jobs.text.meaning import shown_warnings


def test_many_warnings_of_one_kind_are_counted():
    """Fourteen variants with the same gap are three sentences and a number; other warnings stay."""
    alike = [Notice(NoticeCode.FEWER_RERUNS, f"v{number} has fewer reruns.") for number in range(14)]
    other = Notice(NoticeCode.FEW_ITEMS, "only 9 items pair.")
    shown = shown_warnings([*alike[:7], other, *alike[7:]])
    assert shown[:3] == [notice.text for notice in alike[:3]]
    assert shown[3].startswith("11 more")
    assert shown[4:] == [other.text]


def test_a_single_one_more_is_shown():
    """Four alike are four sentences: a line that says "1 more" would be no shorter."""
    alike = [Notice(NoticeCode.FEWER_RERUNS, f"v{number} has fewer reruns.") for number in range(4)]
    assert shown_warnings(alike) == [notice.text for notice in alike]
