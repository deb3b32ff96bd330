"""On real Ray: the conversations that ship with lldeg, asked of servers whose tool calls have been broken."""

import importlib.util
import json
from pathlib import Path

import pytest
from standin.files import write_sweep
from standin.rows import samples
from standin.server import StandInServer, reply

pytestmark = pytest.mark.ray

PACK = Path(__file__).parents[2] / "configs" / "tasks" / "tool_calls"
TASK = "lldeg_tool_calls"
ROWS = [json.loads(line) for line in (PACK / f"{TASK}.jsonl").read_text("utf-8").splitlines()]
CALLING = {"one_call": 40, "nested": 40, "two_calls": 40, "no_call": 0, "after_a_call": 0}
"""Conversations of each kind that are to end in a call."""
LAST = json.dumps


def said(calls, text=None):
    """A message of the assistant."""
    return {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}


def right(row):
    """The calls of the reference, or words."""
    return said(row["reference"], None if row["reference"] else "Nothing to call.")


def without_parser(row):
    """A server without a tool parser: the calls of nested arguments stay in the text."""
    if row["kind"] != "nested":
        return right(row)
    return said([], "".join(f"<tool_call>{LAST(one['function'])}</tool_call>" for one in row["reference"]))


def numbers_as_texts(row):
    """A server that writes the minutes of a meeting as a text."""
    if row["kind"] != "nested":
        return right(row)
    (one,) = row["reference"]
    arguments = json.loads(one["function"]["arguments"])
    arguments["minutes"] = str(arguments["minutes"])
    return said([{**one, "function": {**one["function"], "arguments": json.dumps(arguments)}}])


def eager(row):
    """A server that calls the first tool that is offered where words were due."""
    name = row["tools"][0]["function"]["name"]
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return right(row) if row["kind"] != "no_call" else said([call])


WAYS = {"reference": right, "parser": without_parser, "numbers": numbers_as_texts, "eager": eager}
COUNTED = {  # by hand, of 200: correct, made, valid
    "reference": (200, 120, 200),
    "streamed": (200, 120, 200),
    "parser": (160, 80, 200),
    "numbers": (160, 120, 160),
    "eager": (160, 160, 160),
}


def events(message):
    """A message as a stream of two events, the calls whole in the second."""
    calls = [{**call, "index": index} for index, call in enumerate(message.get("tool_calls", []))]
    deltas = [{"role": "assistant", "content": message["content"]}, {"tool_calls": calls}]
    lines = [json.dumps({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    end = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return reply("".join(f"data: {line}\n\n" for line in [*lines, end, "[DONE]"]).encode())


@pytest.fixture(scope="module")
def run(tmp_path_factory, command):
    """The run of a sweep over all conversations; `streamed` asks the reference's server for parts."""
    by_messages = {json.dumps(row["messages"]): row for row in ROWS}

    def behave(_, body):
        message = WAYS[body["model"]](by_messages[json.dumps(body["messages"])])
        if body.get("stream"):
            return events(message)
        return reply({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})

    server, folder = StandInServer(behave), tmp_path_factory.mktemp("calls")
    kind = {"kind": "lm-eval:local-chat-completions", "base_url": server.url, "tokenizer_backend": "None"}
    variants = {name: {"model": name} for name in WAYS}
    variants["streamed"] = {"model": "reference", "control": True, "engine": {"stream": True}}
    sweep = write_sweep(
        folder, baseline="reference", engine=kind, variants=variants, tasks=[TASK],
        include_path=str(PACK), prompt={"apply_chat_template": True},
    )  # fmt: skip
    status, out, err = command.run("submit", sweep, "--run-dir", folder / "run", cwd=folder)
    server.end()
    assert status == 0, out + err
    return folder / "run"


def test_every_answer_is_scored_as_counted_by_hand(run):
    """No row is an error, and a reply that is only a call is no empty answer."""
    rows = samples(run)
    assert [row["error"] for row in rows if row["error"]] == []
    found = {
        variant: tuple(
            sum(row["scores"][f"{metric},none"] for row in rows if row["variant"] == variant)
            for metric in ("call_correct", "call_made", "call_valid")
        )
        for variant in COUNTED
    }
    assert found == COUNTED
    assert all(row["response"] for row in rows)


def test_broken_calls_are_degraded_and_parts_are_not(run, command):
    """The verdict is that of any score, and the default decides by whether the call is right."""
    status, out, err = command.run("analyze", run, "--out", run / "a", "--margin", "0.05", cwd=run)
    assert status == 1, out + err
    comparisons = json.loads((run / "a" / "verdicts.json").read_text("utf-8"))["comparisons"]
    found = {one["variant"]: (one["verdict"], round(one["drop"], 9), one["worse"]) for one in comparisons}
    assert found.pop("streamed") == ("certified", 0.0, 0)
    assert found == dict.fromkeys(("parser", "numbers", "eager"), ("degraded", 0.2, 40))


def test_whether_tools_are_called_is_measured_and_paired(run):
    """Their share is tested two-sided; F1 beside the baseline is that of the verifiers, by hand."""
    verdicts = json.loads((run / "a" / "verdicts.json").read_text("utf-8"))
    shares = {
        one["variant"]: [
            (c["baseline_mean"], c["variant_mean"]) for c in one["changes"] if c["measurement"] == "called"
        ]
        for one in verdicts["comparisons"]
    }
    assert shares == {
        "streamed": [(0.6, 0.6)], "numbers": [(0.6, 0.6)], "parser": [(0.6, 0.4)], "eager": [(0.6, 0.8)],
    }  # fmt: skip
    said = {
        name: next(text for text in verdicts["warnings"] if text.startswith(f"{name} ") and "F1" in text)
        for name in ("parser", "eager")
    }
    assert "in 80 conversations, only the baseline in 40, only the variant in 0" in said["parser"]
    assert f"F1 {2 * 80 / (2 * 80 + 40):.3f} [" in said["parser"]
    assert f"F1 {2 * 120 / (2 * 120 + 40):.3f} [" in said["eager"]


def test_a_policy_holds_how_often_tools_are_called_to_a_tolerance(run, command):
    """As for any measurement: eager and silent servers are blocked, arguments are another matter.

    F1 is 160/200 without a parser and 240/280 of the eager server, of which .9 is not ruled out.
    """
    (policy := run / "policy.yaml").write_text(
        "tasks: {'*': watched}\nmeasurements: {called: {within: 0.05}}\n"
    )
    status, _, err = command.run("analyze", run, "--out", run / "p", "--policy", policy, cwd=run)
    assert status == 1, err
    cases = json.loads((run / "p" / "decision.json").read_text("utf-8"))["cases"]
    found = {case["variant"]: case["status"] for case in cases if case["measurement"] == "called"}
    expected = {"parser": "blocked", "eager": "blocked", "numbers": "pass", "streamed": "pass"}
    assert found == expected
    policy.write_text("tasks: {'*': watched}\nmeasurements: {called: {within: 0.9, f1: 0.9}}\n")
    command.run("analyze", run, "--out", run / "p", "--policy", policy, cwd=run)
    cases = json.loads((run / "p" / "decision.json").read_text("utf-8"))["cases"]
    codes = {case["variant"]: [one["code"] for one in case["reasons"]] for case in cases}
    assert codes["parser"] == ["beyond-tolerance", "within-tolerance"]
    assert codes["eager"] == ["not-within-tolerance", "within-tolerance"]
    assert codes["numbers"] == codes["streamed"] == ["within-tolerance"] * 2


def test_the_conversations_are_what_their_script_writes():
    """Nobody edited them by hand; another seed gives others; of each kind there are 40."""
    spec = importlib.util.spec_from_file_location("tool_calls_generate", PACK / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (PACK / f"{TASK}.jsonl").read_text("utf-8") == module.text() != module.text(1)
    calling = {kind: sum(bool(row["reference"]) for row in ROWS if row["kind"] == kind) for kind in CALLING}
    assert (calling, len(ROWS), len({json.dumps(row["messages"]) for row in ROWS})) == (CALLING, 200, 200)
