"""On real Ray: servers that refuse a prompt, and leave in mid-sweep, for a while or for good.

One sweep has a variant for each; it is submitted again when both servers are back.
"""

import json
import threading

import pytest
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import identities, planned, samples
from standin.server import RESET, StandInServer, completion, reply

pytestmark = pytest.mark.ray

KEY = "sk-0123456789abcdef"
ITEMS, REFUSED, OVERLOADED, BUSY, LEAVES_AT = 48, 7, 11, 13, 60
SECONDS_AWAY = 4.0


def leaving(seconds=None):
    """A server that refuses one prompt, breaks down in the middle, and comes back after some seconds.

    It refuses another prompt the first time only. What it refuses in any case it answers once it is `mended`.
    """
    seen = set()

    def behave(number, body):
        if number == LEAVES_AT:
            threading.Thread(target=server.go).start()
            if seconds is not None:
                threading.Timer(seconds, server.come).start()
            return RESET
        if body["prompt"].endswith(f" {OVERLOADED}") and (key := str(body)) not in seen:
            seen.add(key)
            return reply({"error": {"message": "overloaded"}}, 400)
        if body["prompt"].endswith(f" {REFUSED}") and not server.mended:
            return reply({"error": {"message": "too long"}}, 400)
        return completion(body)

    server = StandInServer(behave)
    server.mended = False
    return server


def busy():
    """A server that is always too busy for one prompt, until it is `mended`."""

    def behave(_, body):
        if body["prompt"].endswith(f" {BUSY}") and not server.mended:
            return reply({"error": {"message": "slow down"}}, 429)
        return completion(body)

    server = StandInServer(behave)
    server.mended = False
    return server


@pytest.fixture(scope="module")
def servers():
    """One for each variant."""
    servers = {"away": leaving(SECONDS_AWAY), "gone": leaving(), "busy": busy()}
    yield servers
    for server in servers.values():
        server.end()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, servers):
    """The sweep of both servers."""
    folder = tmp_path_factory.mktemp("served")
    write_task(folder / "pack", "asked", questions(ITEMS), **GENERATE)
    ways = {name: {"base_url": server.url} for name, server in servers.items()}
    ways["gone"]["patience"] = ways["busy"]["patience"] = 2
    return write_sweep(
        folder,
        model="small",
        baseline="away",
        engine={
            "kind": "lm-eval:local-completions",
            "tokenizer_backend": "None",
            "num_concurrent": 4,
            "extra_body": {"route": "fast", "stop": "omit"},
        },
        variants={name: {"engine": engine} for name, engine in ways.items()},
        tasks=["asked"],
        sampling={"temperatures": [0.0, 0.7], "seeds": 3},
    )


@pytest.fixture(scope="module")
def run(sweep):
    """Where the answers are."""
    return sweep.parent / "run"


@pytest.fixture(scope="module")
def first(sweep, run, command):
    """The first submit: its status and words, and the rows it left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        status, out, err = command.run("submit", sweep, "--run-dir", run, cwd=sweep.parent)
    return status, out + err, samples(run)


@pytest.fixture(scope="module")
def second(first, sweep, run, servers, command):
    """The second submit, with other numbers of how to send, once the server that had gone is back."""
    servers["gone"].come()
    servers["busy"].mended = True
    servers["busy"].bodies.clear()
    status, out, err = command.run(
        "submit", sweep, "--run-dir", run, "--set", "engine.num_concurrent=8", cwd=sweep.parent
    )
    return status, out + err


def of(rows, variant):
    """The rows of a variant."""
    return [row for row in rows if row["variant"] == variant]


def test_a_server_that_was_away_for_a_while_loses_nothing(first):
    """All its answers are there in the end, but for the prompt it refuses in any case."""
    rows = of(first[2], "away")
    assert len(rows) == ITEMS * 4
    assert {row["item"] for row in rows if row["error"] is not None} == {REFUSED}


def test_a_server_that_does_not_come_back_leaves_its_samples_owed(first, servers):
    """Exit 3, the reason once, no row that says the server was away, and what it had answered is kept."""
    status, said, rows = first
    assert status == 3
    assert said.count(f"gone: {servers['gone'].url} does not answer") == 1
    assert LEAVES_AT - 12 < len(of(rows, "gone")) < LEAVES_AT  # but those refused, or on their way then
    assert {row["item"] for row in of(rows, "gone") if row["error"] is not None} <= {REFUSED}


def test_a_prompt_that_alone_meets_busy_costs_no_other(first):
    """Its rows are errors of their own kind; every other prompt is answered at the first submit."""
    rows = of(first[2], "busy")
    assert len(rows) == ITEMS * 4
    assert {row["item"] for row in rows if row["error"] is not None} == {BUSY}
    assert all(row["error"].startswith("ServerBusyError: HTTP 429") for row in rows if row["item"] == BUSY)


def test_the_next_submit_asks_for_busy_prompts_alone(second, servers):
    """It says so; what was answered is not paid for again."""
    assert "samples that failed will be run again" in " ".join(second[1].split())
    assert len(servers["busy"].bodies) == 4
    assert all(body["prompt"].endswith(f" {BUSY}") for body in servers["busy"].bodies)


def test_a_refused_prompt_is_rows_with_the_servers_words(first):
    """One for each temperature and seed."""
    errors = [row["error"] for row in of(first[2], "away") if row["item"] == REFUSED]
    assert len(errors) == 4
    assert all("HTTP 400" in error and "too long" in error for error in errors)


def test_every_answer_is_to_its_own_question_temperature_and_seed(first):
    """The server was told the seed of the row, and its words and counts are kept."""
    rows = [row for row in first[2] if row["error"] is None]
    for row in rows:
        assert row["response"] == f"{row['item']} at {round(row['temperature'], 2)} with {row['seed'] or 0}"
        assert (row["finish_reason"], row["prompt_tokens"], row["output_tokens"]) == ("stop", 7, 3)


def test_the_key_is_sent_and_stands_in_no_file(first, run, servers):
    """Every server got it; neither rows nor manifest nor logs hold it."""
    assert servers["away"].headers["Authorization"] == f"Bearer {KEY}"
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {"manifest.json", "sweep.yaml", "events.jsonl", "status.json"} <= {file.name for file in files}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_submitting_again_completes_the_run(first, second, run):
    """What was owed is there, everything once; how requests are sent may change in between."""
    status, said = second
    assert status == 0, said
    assert identities(run) == planned(run)


def test_what_went_wrong_is_in_the_logs(first, run):
    """The replica says what it waits for; the events tell which variant ended and why."""
    (log,) = (run / "logs").glob("replica-*-away.log")
    assert "retrying requests to http://127.0.0.1" in log.read_text()
    events = [json.loads(line) for line in (run / "logs" / "events.jsonl").read_text().splitlines()]
    assert [event["variant"] for event in events if event["event"] == "away"] == ["gone"]


def test_other_fields_of_requests_are_another_definition(second, sweep, run, servers, command):
    """Those of the configuration were sent, and the run does not go on with others."""
    body = servers["away"].bodies[0]
    assert (body["route"], "stop" in body) == ("fast", False)
    changed = ("--set", "engine.extra_body.route=cheap")
    status, _, err = command.run("submit", sweep, "--run-dir", run, *changed, cwd=sweep.parent)
    assert status == 2
    assert 'engine.extra_body.route: "fast" → "cheap"' in " ".join(err.split())


def test_errors_are_asked_for_again_when_told(second, sweep, run, servers, command):
    """A plain submit leaves error rows alone; with --retry-errors they are answered, every key once."""
    for server in servers.values():
        server.mended = True
    status, out, err = command.run("submit", sweep, "--run-dir", run, cwd=sweep.parent)
    assert status == 0, out + err
    assert any(row["error"] for row in samples(run))
    status, out, err = command.run("submit", sweep, "--run-dir", run, "--retry-errors", cwd=sweep.parent)
    assert status == 0, out + err
    assert [row["error"] for row in samples(run) if row["error"] is not None] == []
    assert identities(run) == planned(run)
