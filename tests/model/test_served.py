"""On a real vLLM server: lldeg against lm-eval itself, sample by sample; chat; a kill of the server."""

import json
import urllib.request
from dataclasses import dataclass

import jsonschema
import numpy as np
import pytest
from standin.command import ROOT, finish, wait_for
from standin.files import write_sweep
from standin.real_server import NAME, RealServer
from standin.reference import evaluate
from standin.rows import block_files, contents, identities, planned, samples

pytestmark = pytest.mark.model

QUICKSTART = ROOT / "configs" / "tasks" / "quickstart"
GENERATING, CHOOSING = "lldeg_sums", "lldeg_calendar"
LIMIT, ITEMS, SEEDS = 4, 4, 2


@dataclass(frozen=True)
class Outcome:
    """How a submit ended, and what it left."""

    status: int
    err: str
    rows: list
    scored: list = ()


@pytest.fixture(scope="module")
def server(model_folder, tmp_path_factory):
    """A server with the real model."""
    server = RealServer(model_folder, tmp_path_factory.mktemp("server") / "log")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def write(server, model_folder, tmp_path_factory):
    """Writes sweeps of the server's model, each in a folder of its own."""

    def write(**keys):
        return write_sweep(
            tmp_path_factory.mktemp("sweep"),
            model=NAME,
            include_path=str(QUICKSTART),
            **keys,
        )

    return write


@pytest.fixture(scope="module")
def completions(server, model_folder):
    """The engine of a variant that completes text."""
    return {
        "kind": "lm-eval:local-completions",
        "base_url": f"{server.url}/v1/completions",
        "tokenizer": str(model_folder),
        "max_length": 512,
        "patience": 900,  # a busy machine takes its time to start a server
    }


@pytest.fixture(scope="module")
def outcome(server, write, completions, command):
    """Both kinds of task through lldeg."""
    path = write(
        baseline="served",
        engine=completions,
        variants={"served": {}},
        tasks=[{"task": task, "limit": {"first": LIMIT}} for task in (GENERATING, CHOOSING)],
        sampling={"temperatures": [0.0, 0.7], "seeds": 2},
        fidelity={"top": 5},
    )
    server.wait()
    status, _, err = command.run("submit", path, "--run-dir", path.parent / "run", cwd=path.parent)
    return Outcome(status, err, samples(path.parent / "run"), samples(path.parent / "run", "fidelity"))


@pytest.fixture(scope="module")
def reference(outcome, completions):
    """The same through lm_eval.simple_evaluate, with the class that lm-eval has for such servers."""
    from lm_eval.api.registry import get_model

    arguments = {name: value for name, value in completions.items() if name not in {"kind", "patience"}}
    lm = get_model("local-completions")(model=NAME, **arguments)
    return evaluate(lm, [QUICKSTART], [GENERATING, CHOOSING], LIMIT)


@pytest.fixture(scope="module")
def killed(server, write, completions, outcome, command):
    """Chat and text on the same server, which is killed after the first block and started again."""
    kind, address = "lm-eval:local-chat-completions", f"{server.url}/v1/chat/completions"
    chat = {"kind": kind, "base_url": address, "patience": completions["patience"]}
    path = write(
        baseline="text",
        variants={"text": {"engine": completions}, "chat": {"engine": chat}},
        tasks=[{"task": GENERATING, "limit": ITEMS}],
        prompt={"apply_chat_template": True},
        sampling={"temperatures": [0.0, 0.7], "seeds": SEEDS},
        cluster={"cpus_per_replica": 0.5},
    )
    run = path.parent / "run"
    process = command.start("submit", path, "--run-dir", run, cwd=path.parent)
    wait_for(lambda: block_files(run), process)
    server.kill()
    before = contents(block_files(run))
    server.start()
    status, _, err = finish(process)
    return Outcome(status, err, samples(run)), run, before


def greedy(rows, task):
    """Rows of a task at temperature 0, by item."""
    return {row["item"]: row for row in rows if row["task"] == task and row["temperature"] == 0}


def own(struct):
    """The fields of a row's struct that its task has."""
    return {name: value for name, value in struct.items() if value is not None}


def test_everything_is_answered(outcome):
    """The command ended well, and no row is an error."""
    assert outcome.status == 0, outcome.err
    assert [row["error"] for row in outcome.rows if row["error"] is not None] == []
    assert len(outcome.rows) == LIMIT * 3 + LIMIT  # sums at 0, and at 0.7 twice


def test_its_answers_are_scored_token_by_token(outcome, model_folder):
    """The tokens are those of the text, and at temperature 0 mostly the likeliest."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    answers = {(row["item"], row["temperature"], row["seed"]): row["response"] for row in outcome.rows}
    assert len(outcome.scored) == 2 * LIMIT
    for row in outcome.scored:
        assert row["error"] is None
        tokens, values = (np.array(row[name]).reshape(-1, 6) for name in ("tokens", "logprobs"))
        assert tokenizer.decode(tokens[:, 0]) == answers[row["item"], row["temperature"], row["seed"]]
        assert (values[:, 0] <= values[:, 1] + 1e-4).all()
        assert np.nansum(np.exp(values[:, 1:]), axis=1).max() < 1 + 1e-4
        if row["temperature"] == 0:
            assert np.mean(tokens[:, 0] == tokens[:, 1]) > 0.8


@pytest.mark.parametrize("task", [GENERATING, CHOOSING])
def test_prompts_and_scores_are_lm_evals(outcome, reference, task):
    """prompt_hash and every metric of every item agree with simple_evaluate."""
    rows = greedy(outcome.rows, task)
    assert rows.keys() == {item for name, item in reference if name == task}
    for item, row in rows.items():
        logged = reference[task, item]
        assert row["prompt_hash"] == logged[0]["prompt_hash"]
        assert own(row["scores"]) == {
            f"{metric},{sample['filter']}": float(sample[metric])
            for sample in logged
            for metric in sample["metrics"]
        }


def test_answers_are_lm_evals(outcome, reference):
    """Text and filtered answers at temperature 0."""
    for item, row in greedy(outcome.rows, GENERATING).items():
        logged = reference[GENERATING, item]
        assert row["response"] == logged[0]["resps"][0][0]
        assert own(row["filtered"]) == {sample["filter"]: sample["filtered_resps"][0] for sample in logged}


def test_likelihoods_are_lm_evals(outcome, reference):
    """Each option's value, and whether it is the likeliest text."""
    for item, row in greedy(outcome.rows, CHOOSING).items():
        values = json.loads(row["response"])
        (logged,) = reference[CHOOSING, item]
        expected = [option[0] for option in logged["resps"]]
        assert [value for value, _ in values] == pytest.approx([value for value, _ in expected], rel=1e-6)
        assert [likeliest for _, likeliest in values] == [bool(likeliest) for _, likeliest in expected]


def test_the_parity_has_both_right_and_wrong_answers(outcome):
    """Else agreement would show little."""
    for task in (GENERATING, CHOOSING):
        rows = greedy(outcome.rows, task).values()
        (metric, *_) = own(next(iter(rows))["scores"])
        assert 0 < sum(row["scores"][metric] for row in rows) < LIMIT


def test_tokens_and_reasons_are_the_servers(outcome):
    """They come from usage and finish_reason."""
    for row in greedy(outcome.rows, GENERATING).values():
        assert row["prompt_tokens"] > 10
        assert 1 <= row["output_tokens"] <= 5
        assert row["finish_reason"] in {"stop", "length"}


def test_the_seed_reaches_the_sampler(outcome):
    """At 0.7 two seeds say different things."""
    texts = [
        {
            row["item"]: row["response"]
            for row in outcome.rows
            if (row["temperature"] > 0, row["seed"]) == (True, seed)
        }
        for seed in (0, 1)
    ]
    assert texts[0].keys() == texts[1].keys() != set()
    assert texts[0] != texts[1]


def test_a_server_killed_in_mid_sweep_loses_nothing(killed):
    """Started again, it answers the rest; every sample stands once, without an error."""
    outcome, run, before = killed
    assert outcome.status == 0, outcome.err
    assert identities(run) == planned(run)
    assert [row["error"] for row in outcome.rows if row["error"] is not None] == []
    assert 0 < len(before) < len(block_files(run))
    assert before.items() <= contents(block_files(run)).items()


def test_chat_is_the_text_with_the_template(killed):
    """The server's own template gives the answers that ours gives, whatever temperature and seed."""
    outcome, _, _ = killed
    said = {
        variant: {
            (row["item"], row["temperature"], row["seed"]): row["response"]
            for row in outcome.rows
            if row["variant"] == variant
        }
        for variant in ("text", "chat")
    }
    assert said["text"] == said["chat"]
    assert len(set(said["chat"].values())) > 3


CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
CLOCK = {"type": "object", "properties": {"hour": {"enum": [7, 8]}}, "required": ["hour"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "A tool", "parameters": schema}}
    for name, schema in (("weather", CITY), ("alarm", CLOCK))
]
REQUESTS = [
    {"messages": [{"role": "user", "content": text}], "tools": TOOLS, "tool_choice": choice}
    for choice, text in (
        ("required", "What is the weather in Oslo?"),
        ("required", "Say hello."),
        ("auto", "Say hello."),
        ({"type": "function", "function": {"name": "alarm"}}, "Say hello."),
    )
]


def asked_directly(address, request, *, stream):
    """Whether a reply of the server to us has calls, and whether all of them are valid."""
    body = {**request, "model": NAME, "temperature": 0, "seed": 0, "max_tokens": 48, "stream": stream}
    post = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(post, timeout=300) as response:
        text = response.read().decode()
    calls = {}
    if stream:
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        deltas = [choice["delta"] for event in events for choice in event["choices"]]
        for part in (part for delta in deltas for part in delta.get("tool_calls") or []):
            name, arguments = calls.get(part["index"], ("", ""))
            own = part["function"]
            calls[part["index"]] = own.get("name") or name, arguments + (own.get("arguments") or "")
    else:
        for call in json.loads(text)["choices"][0]["message"].get("tool_calls") or []:
            calls[len(calls)] = call["function"]["name"], call["function"]["arguments"]
    schemas, valid = {"weather": CITY, "alarm": CLOCK}, True
    for name, arguments in calls.values():
        try:
            jsonschema.Draft202012Validator(schemas[name]).validate(json.loads(arguments))
        except (ValueError, KeyError, jsonschema.ValidationError):
            valid = False
    return bool(calls), valid


def test_tool_calls_of_a_real_parser_are_counted(server, completions, command, tmp_path):
    """Forced, free and named calls, whole and in parts: as they are counted from the server's own replies."""
    address = f"{server.url}/v1/chat/completions"
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "calls.jsonl").write_text("".join(json.dumps(one) + "\n" for one in REQUESTS))
    chat = {
        "kind": "lm-eval:local-chat-completions",
        "base_url": address,
        "patience": completions["patience"],
    }
    path = write_sweep(
        tmp_path, model=NAME, baseline="whole", engine=chat, tasks=["calls"],
        variants={"whole": {}, "parts": {"engine": {"stream": True}}},
        prompt={"apply_chat_template": True}, sampling={"max_gen_toks": 48},
    )  # fmt: skip
    server.wait()
    ways = {"whole": False, "parts": True}
    counted = {
        name: [asked_directly(address, request, stream=stream) for request in REQUESTS]
        for name, stream in ways.items()
    }
    status, _, err = command.run("submit", path, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert status == 0, err
    rows = samples(tmp_path / "run")
    assert [row["error"] for row in rows if row["error"]] == []
    timed = [(row["first_token_seconds"], row["seconds"]) for row in rows if row["variant"] == "parts"]
    assert all(0 < first <= whole for first, whole in timed)
    assert {row["first_token_seconds"] for row in rows if row["variant"] == "whole"} == {None}
    for variant in ways:
        found = {row["item"]: row["scores"] for row in rows if row["variant"] == variant}
        values = [
            (bool(one["call_made,none"]), bool(one["call_valid,none"])) for _, one in sorted(found.items())
        ]
        assert values == counted[variant], variant
        assert sum(made for made, _ in values) >= 3, variant
