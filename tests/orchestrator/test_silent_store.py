"""An object store that takes connections and says nothing ends a command in one sentence."""

import socket

import pytest

from orchestrator.errors import UserError
from orchestrator.rundir import location

pytestmark = pytest.mark.ray

LINES = [
    ["status"], ["logs"], ["stop"], ["analyze"], ["history"], ["view"], ["flips"],
    ["subset", "--out", "items.json"], ["export", "--to", "lm-eval", "--out", "new"],
    ["import", "--out", "new"],
]  # fmt: skip


@pytest.fixture(scope="module")
def silent():
    """The end of a URL whose store is a port that nobody reads from."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"/runs/x?scheme=http&endpoint_override=127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Half a second in place of half a minute, and credentials that are not asked for."""
    monkeypatch.setattr(location, "SECONDS_TO_ANSWER", 0.5)
    monkeypatch.setattr(location, "S3_ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_a_silent_store_is_named(lldeg, silent, line):
    """By every command that reads a run, and nothing is written."""
    name, *options = line
    result = lldeg(name, f"s3://bucket{silent}", *options)
    assert result.status == 2
    assert "does not answer: nothing came from its store in 0.5 s" in result.err


@pytest.mark.parametrize("scheme", ["s3://bucket", "gs://anonymous@bucket"])
def test_any_store_is_waited_for_only_so_long(silent, scheme):
    """Whichever library asks it."""
    with pytest.raises(UserError, match="does not answer"):
        location.open_location(scheme + silent)


def test_only_the_first_answer_is_waited_for(monkeypatch):
    """Later silence is for whoever reads to bear; replicas try again when they have something to write."""
    url = "memory://once/x"
    location.open_location(url)
    monkeypatch.setattr(location, "Thread", lambda **_: pytest.fail("asked again"))
    location.open_location(url)
    location.open_location("memory://another/x", must_answer=False)
