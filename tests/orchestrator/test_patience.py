"""Retrying a storage that cannot be reached."""

import pytest

from orchestrator import retry as patience
from orchestrator.retry import patiently


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Pauses of next to nothing."""
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.001)


def failing(times):
    """Something that works after so many failures."""
    errors = iter([ConnectionError(f"away {n}") for n in range(times)])

    def action():
        if error := next(errors, None):
            raise error
        return "done"

    return action


def test_what_works_at_last_is_returned():
    """Each failure before is told, with its class."""
    told = []
    assert patiently(failing(3), told.append) == "done"
    assert told == [f"ConnectionError: away {n}" for n in range(3)]


def test_patience_ends(monkeypatch):
    """A storage that never comes back is an error of its own kind."""
    monkeypatch.setattr(patience, "SECONDS_OF_PATIENCE", 0.0)
    with pytest.raises(ConnectionError, match="away 0"):
        patiently(failing(3), lambda _: None)


def test_only_storages_deserve_patience():
    """A mistake of ours is not tried again."""
    tries = []

    def mistaken():
        tries.append(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        patiently(mistaken, lambda _: None)
    assert tries == [1]
