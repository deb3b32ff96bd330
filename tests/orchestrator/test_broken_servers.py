"""On real Ray: chat servers that answer with what is no answer, in part or altogether, get no certificate."""

import json

import pytest
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import samples
from standin.server import StandInServer, completion, reply

pytestmark = pytest.mark.ray

ITEMS = 60
BUSY = reply({"code": 50001, "msg": "busy"})


def thought(_):
    """All of the text is where the thoughts belong."""
    message = {"role": "assistant", "content": "", "reasoning_content": "The answer is 1."}
    return reply({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def unsafe(body):
    """The right text, and a reason why it should not be there."""
    content = json.loads(completion(body, "1")[2])
    content["choices"][0]["finish_reason"] = "SAFETY"
    return reply(content)


def in_part(body):
    """A third of the prompts is never answered."""
    item = int(body["messages"][0]["content"].split()[-1])
    return BUSY if item % 3 == 0 else completion(body, str(item))


WAYS = {
    "base": lambda body: completion(body, body["messages"][0]["content"].split()[-1]),
    "twin": lambda body: completion(body, body["messages"][0]["content"].split()[-1]),
    "third": in_part,
    "third-again": in_part,
    "silent": thought,
    "silent-again": thought,
    "unsafe": unsafe,
    "broken": lambda _: BUSY,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, command):
    """The run of a sweep with a server for each way to be broken, and how the submit ended."""
    folder = tmp_path_factory.mktemp("broken")
    write_task(folder / "pack", "asked", questions(ITEMS), **GENERATE)
    servers = {name: StandInServer(lambda _, body, way=way: way(body)) for name, way in WAYS.items()}
    sweep = write_sweep(
        folder,
        model="small",
        baseline="base",
        engine={"kind": "lm-eval:local-chat-completions", "num_concurrent": 8, "patience": 2},
        variants={name: {"engine": {"base_url": server.url}} for name, server in servers.items()},
        tasks=["asked"],
        prompt={"apply_chat_template": True},
        analysis={"margin": 0.2},
    )
    try:
        status, out, err = command.run("submit", sweep, "--run-dir", folder / "run", cwd=folder)
    finally:
        for server in servers.values():
            server.end()
    return folder / "run", status, out + err


@pytest.fixture
def analyze(run, command):
    """Analyzes the run with a baseline; returns status, words and verdicts."""
    path, _, _ = run

    def start(baseline, out):
        arguments = ("--baseline", baseline, "--gate", "certified", "--out", out)
        status, said, err = command.run("analyze", path, *arguments, cwd=path.parent)
        file = out / "verdicts.json"
        found = json.loads(file.read_text())["comparisons"] if file.exists() else []
        return status, " ".join((said + err).split()), {entry["variant"]: entry for entry in found}

    return start


def test_what_is_no_answer_is_a_row_with_the_servers_words(run):
    """A server that never answers is refused; of one that does not always, the others are answered."""
    path, status, said = run
    assert status == 2
    refusal = "cannot answer generate_until requests: RequestRefusedError: the reply does not have"
    assert refusal in " ".join(said.split())
    errors = [row["error"] for row in samples(path) if row["variant"] == "third" and row["error"] is not None]
    assert len(errors) == ITEMS // 3
    assert all(error.startswith("RequestRefusedError: ") and "50001" in error for error in errors)
    unsafe = {row["error"] for row in samples(path) if row["variant"] == "unsafe"}
    assert unsafe == {"AnswerWithheldError: the answer ended with finish_reason SAFETY"}


def test_only_what_answered_is_certified(analyze, tmp_path):
    """The twin is; a third of missing answers leaves it open, and who said nothing has no verdict."""
    status, said, found = analyze("base", tmp_path / "out")
    assert status == 3
    assert {name: entry["verdict"] for name, entry in found.items()} == {
        "twin": "certified",
        "third": "inconclusive",
        "third-again": "inconclusive",
    }
    assert found["third"]["failed_answers"] == [0, ITEMS // 3]
    assert "silent at temperature 0 gave only empty answers" in said
    assert f"of unsafe at temperature 0, the provider withheld answers ({ITEMS} of asked)" in said


@pytest.mark.parametrize("baseline", ["silent", "unsafe"])
def test_two_models_that_say_nothing_are_not_alike(analyze, tmp_path, baseline):
    """Whoever they are compared with: there is no verdict, and the gate does not pass."""
    status, said, found = analyze(baseline, tmp_path / "out")
    assert (status, found) == (2, {})
    assert "so there is no verdict" in said


def test_two_models_that_fail_alike_are_not_alike(analyze, tmp_path):
    """What both failed on is missing of both, and counts against a certificate."""
    status, _, found = analyze("third", tmp_path / "out")
    assert (status, found["third-again"]["verdict"]) == (3, "inconclusive")
    assert found["third-again"]["failed_answers"] == [ITEMS // 3] * 2
