"""Asking a server that misbehaves: what is asked again, what is refused, and when it counts as away."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import pytest
from standin.server import HANG, RESET, StandInServer, reply

from orchestrator.engines import http_client as module
from orchestrator.engines.base import EngineAwayError, EngineOptionError
from orchestrator.engines.http_client import Server, TryAgainError
from orchestrator.errors import RequestRefusedError, ServerBusyError

pytestmark = pytest.mark.ray

FINE = reply({"choices": ["fine"]})
KEY = "sk-0123456789abcdef"
PASSING = {
    "busy": reply(b"slow down", 429),
    "busy for a while": reply(b"slow down", 429, Retry_After="0.01"),
    "busy until a date": reply(b"slow down", 429, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"),
    "timeout of a gateway": reply(b"", 408),
    "broken": reply({"error": "oops"}, 500),
    "no backend": reply(b"<html>Bad gateway</html>", 502),
    "overloaded": reply(b"", 529),
    "connection reset": RESET,
    "body cut off": reply(b'{"choices": [', Content_Length=500),
    "JSON cut off": reply(b'{"choices": [{"text": "abc'),
    "a web page": reply(b"<html>Welcome</html>", Content_Type="text/html"),
    "nothing": reply(b""),
    "bytes that are no text": reply(b"\xff\xfe\x00\x9f", Content_Type="application/json; charset=nonsense"),
    "a number": reply(3),
    "an error that says it is fine": reply({"error": {"code": 502, "message": "upstream"}}),
}


class Clock:
    """Stands for time and for asyncio in the module: who sleeps makes time go by."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += max(0.0, seconds)
        await asyncio.sleep(0)

    def __getattr__(self, name):
        return getattr(asyncio, name)


@pytest.fixture
def clock(monkeypatch):
    """Minutes of patience go by at once."""
    clock = Clock()
    monkeypatch.setattr(module, "asyncio", clock)
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def serve():
    """Starts a server that behaves so; returns it, and our side of it."""
    opened = []

    def start(behave, *, url=None, **options):
        stand_in = StandInServer(behave)
        opened.append(stand_in.end)
        options = {"headers": {}, "concurrency": 4, "timeout": 60, "patience": 300, "verify": True} | options
        server = Server(url or stand_in.url, **options)
        opened.append(server.close)
        return stand_in, server

    yield start
    for end in reversed(opened):
        end()


@pytest.fixture
def ask(serve):
    """Starts a server that behaves so; returns it, and a function that asks it."""

    def start(behave, **options):
        stand_in, server = serve(behave, **options)
        return stand_in, lambda body: server.run(server.ask(body))[0]

    return start


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING.keys())
def test_what_may_pass_is_asked_again(ask, clock, trouble):
    """Whatever is wrong for two times, the third answer counts."""
    stand_in, post = ask(lambda number, _: trouble if number < 3 else FINE)
    assert post({"n": 1}) == {"choices": ["fine"]}
    assert stand_in.bodies == [{"n": 1}] * 3


def test_what_a_server_fails_on_is_told_until_it_answers(serve, clock):
    """Whoever watches learns why nothing comes, and that it is over."""
    told = []

    def behave(number, _):
        told.append(server.trouble)
        return reply(b"slow down", 429) if number == 1 else FINE

    stand_in, server = serve(behave)
    server.run(server.ask({}))
    assert told == [None, f"retrying requests to {stand_in.url}: HTTP 429: slow down"]
    assert server.trouble is None


def test_an_answer_that_does_not_come_is_asked_for_again(ask):
    """After the timeout the request is sent once more."""
    stand_in, post = ask(lambda number, _: HANG if number == 1 else FINE, timeout=0.3)
    assert post({}) == {"choices": ["fine"]}
    assert len(stand_in.bodies) == 2


def test_pauses_grow_to_a_bound(ask, clock):
    """A server that fails is left alone longer and longer, up to a quarter of a minute or so."""
    _, post = ask(lambda number, _: reply(b"", 500) if number < 12 else FINE)
    post({})
    pauses = [seconds for seconds in clock.slept if seconds > 0]
    assert 0.25 <= pauses[0] <= 0.75
    assert all(7.5 <= seconds <= 22.5 for seconds in pauses[-3:])


def test_a_server_is_given_the_pause_it_asks_for(ask, clock):
    """Retry-After decides when the request is sent again."""
    _, post = ask(lambda number, _: reply(b"", 429, Retry_After="17") if number == 1 else FINE)
    post({})
    assert 17 in clock.slept


def test_the_pause_a_server_asks_for_holds_for_all(ask, clock):
    """The next request waits too; it would only be told the same."""
    times = []

    def behave(number, _):
        times.append(clock.now)
        return reply(b"", 429, Retry_After="17") if number == 1 else FINE

    _, post = ask(behave, concurrency=1)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(post, [{"n": 1}, {"n": 2}]))
    assert len(times) == 3
    assert min(times[1:]) >= times[0] + 17


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2),
        ("1.5", 1.5),
        ("3600", 300),
        ("1e12", 300),
        ("0", 0.1),
        ("-4", 0.1),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        (None, None),
    ],
)
def test_a_pause_is_a_number_of_seconds(header, seconds):
    """What names none leaves the pause to us; none is so short that the server would be flooded."""
    assert module._seconds(header) == seconds


@pytest.mark.parametrize("status", [400, 413, 422, 451])
def test_a_refused_request_is_not_asked_again(ask, status):
    """It would be refused again; the reason is the server's own words."""
    stand_in, post = ask(lambda *_: reply({"error": "too long"}, status))
    with pytest.raises(RequestRefusedError, match=f"HTTP {status}: .*too long"):
        post({})
    assert len(stand_in.bodies) == 1


@pytest.mark.parametrize("status", [301, 307, 401, 402, 403, 404, 405])
def test_a_server_that_will_never_answer_is_named(ask, status):
    """No right to ask, no such model, another address: one sentence with the address, at once."""
    stand_in, post = ask(lambda *_: reply({"detail": "not here"}, status, Location="http://127.0.0.1:1/"))
    with pytest.raises(
        EngineOptionError, match=rf"{stand_in.url} refuses requests: HTTP {status}: .*not here"
    ):
        post({})
    assert len(stand_in.bodies) == 1


def test_a_key_that_is_revoked_in_between_ends_it(ask):
    """No later request would be answered."""
    _, post = ask(lambda number, _: FINE if number == 1 else reply(b"revoked", 401))
    post({})
    with pytest.raises(EngineOptionError, match="revoked"):
        post({})


@pytest.mark.parametrize("status", [403, 404])
def test_a_gateway_that_loses_its_server_is_asked_again(ask, clock, status):
    """Where something was answered, "not found" is a server that restarts."""
    _, post = ask(lambda number, _: FINE if number in {1, 4} else reply(b"default backend", status))
    post({"n": 1})
    assert post({"n": 2}) == {"choices": ["fine"]}


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://127.0.0.1/", ""])
def test_what_is_no_address_is_refused(ask, url):
    """The sentence says what an address is."""
    with pytest.raises(EngineOptionError, match="http://"):
        Server(url, headers={}, concurrency=1, timeout=1, patience=1, verify=True)


@pytest.mark.parametrize("url", ["http://", "http://:80/", "http://127.0.0.1:port/"])
def test_an_address_that_cannot_be_is_refused(ask, url):
    """Patience would not mend it."""
    _, post = ask(lambda *_: FINE, url=url)
    with pytest.raises(EngineOptionError):
        post({})


def test_a_server_that_never_comes_is_away(ask, clock):
    """With patience at its end, the sentence names the address and the last trouble."""
    stand_in, post = ask(lambda *_: FINE)
    stand_in.go()
    with pytest.raises(EngineAwayError, match=rf"{stand_in.url} does not answer: .*Connect"):
        post({})
    assert 300 <= clock.now - 1000 < 360


def test_a_server_that_breaks_down_is_away(ask, clock):
    """It answered once and only fails since then: nothing is wrong with the request."""
    _, post = ask(lambda number, _: FINE if number == 1 else reply(b"out of memory", 500))
    post({"n": 1})
    with pytest.raises(EngineAwayError, match="out of memory"):
        post({"n": 2})


def test_a_server_that_is_always_busy_is_away(ask, clock):
    """A quota that is used up ends the waiting too."""
    _, post = ask(lambda number, _: FINE if number == 1 else reply(b"quota", 429, Retry_After="3600"))
    post({"n": 1})
    with pytest.raises(EngineAwayError, match="quota"):
        post({"n": 2})


@pytest.mark.parametrize("trouble", [reply(b"oops", 500), RESET, reply(b"<html>")])
def test_a_request_that_the_server_fails_on_is_refused(ask, clock, trouble):
    """It goes on answering what it has answered before: the fault is this request's own."""
    _, post = ask(lambda _, body: trouble if body == {"bad": 1} else FINE)
    post({"good": 1})
    with pytest.raises(RequestRefusedError):
        post({"bad": 1})
    assert clock.now - 1000 >= 300


def test_a_request_waits_its_turn_under_a_rate_limit(serve, clock):
    """Of many that are told "busy" one is answered now and then: whose turn has not come is not at fault."""
    turns = count(1)

    def behave(_, body):
        if "other" in body:
            return FINE if next(turns) % 20 == 0 else reply(b"", 429)
        if clock.now > 2000:
            return FINE
        for _ in range(10):
            with suppress(TryAgainError):
                server.run(server._send({"other": 1}))
        return reply(b"", 429)

    _, server = serve(behave)
    assert server.run(server.ask({"late": 1}))[0] == {"choices": ["fine"]}


def test_a_request_that_alone_meets_busy_is_refused_as_such(ask, clock):
    """Others are answered meanwhile, so the server is not away; nor if several requests meet the same."""
    _, post = ask(lambda _, body: FINE if "other" in body else reply(b"slow down", 429))
    post({"other": 1})
    with ThreadPoolExecutor(3) as pool:
        failures = [call.exception() for call in [pool.submit(post, {"late": n}) for n in range(3)]]
    assert [(type(failure), str(failure)) for failure in failures] == [
        (ServerBusyError, "HTTP 429: slow down")
    ] * 3


def test_a_server_that_was_away_in_between_loses_nothing(ask, monkeypatch):
    """Requests in flight and those to come are answered once it is back, at the address of before."""
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.1)
    left = threading.Event()

    def behave(number, body):
        if number == 5:
            left.set()
        return HANG if number in {5, 6} else reply({"n": body["n"]})

    stand_in, post = ask(behave)
    with ThreadPoolExecutor(20) as pool:
        answers = pool.map(post, [{"n": n} for n in range(20)])
        assert left.wait(20)
        stand_in.go()
        time.sleep(0.5)
        stand_in.come()
        assert list(answers) == [{"n": n} for n in range(20)]


def test_no_more_requests_at_a_time_than_asked_for(ask):
    """Callers share one pool, and use it."""
    full = threading.Barrier(3)

    def behave(*_):
        full.wait(20)
        return FINE

    stand_in, post = ask(behave, concurrency=3)
    with ThreadPoolExecutor(12) as pool:
        assert len(list(pool.map(post, [{}] * 12))) == 12
    assert stand_in.most == 3


def test_headers_are_sent_and_stand_in_no_message(ask):
    """A server that says the key back does not bring it into the run's files."""
    stand_in, post = ask(
        lambda *_: reply({"error": f"wrong key {KEY}"}, 401), headers={"K": f"Bearer {KEY}\n"}
    )
    with pytest.raises(EngineOptionError, match="wrong key …") as refusal:
        post({})
    assert stand_in.headers["K"] == f"Bearer {KEY}"
    assert KEY not in str(refusal.value)


def test_a_header_of_several_lines_is_refused():
    """It could not be sent."""
    with pytest.raises(EngineOptionError, match="header K has line breaks"):
        Server("http://h", headers={"K": "a\nb"}, concurrency=1, timeout=1, patience=1, verify=True)


def test_what_goes_wrong_is_told_in_the_log(ask, clock, capfd):
    """Now and then, with the address."""
    stand_in, post = ask(lambda number, _: reply(b"oops", 500) if number < 9 else FINE)
    post({})
    said = capfd.readouterr().out
    assert f"retrying requests to {stand_in.url}: HTTP 500: oops" in said
    assert 1 < said.count("retrying") < 8
