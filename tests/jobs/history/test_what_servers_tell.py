"""What a server says of itself, and how many tokens it reads of equal prompts: by date, and at a gate."""

import json
import shutil

import numpy as np
import pytest
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.runs import MadeTask, make_run
from standin.server import StandInServer, reply

N = 40
RIGHT = [[1] * 30 + [0] * 10]
TOLD = {"served_model": "m-1", "system_fingerprint": "fp_a", "provider": "P", "prompt_tokens": 20}
CHANGES = {
    "served_model": ("m-2", "served model: m-1 → m-2"),
    "system_fingerprint": ("fp_b", "system fingerprint: fp_a → fp_b"),
    "provider": ("Q", "provider: P → Q"),
    "prompt_tokens": (21, "prompt tokens: as many as the reference → 1 prompt token more"),
}


def asked(models, **told):
    """A task with the same answers of all models, of which the last one's server tells something."""
    own = TOLD | told
    *others, last = models
    silent = {"prompt_tokens": 20, "output_tokens": 5}
    measured = {
        name: dict.fromkeys(others, [silent.get(name)] * N)
        | {last: value if isinstance(value, list) else [value] * N}
        for name, value in {"output_tokens": 5, **own}.items()
    }
    return MadeTask({(name, 0.0): RIGHT for name in models}, measured=measured)


def days(folder, models, told):
    """A run a day; the last model's server tells this on each."""
    for number, own in enumerate(told, 1):
        make_run(folder / f"2026-{1 + number // 28:02}-{1 + number % 28:02}", {"t": asked(models, **own)})
    return folder


def changes_in(folder):
    """By date, what history.json says that changed."""
    (series,) = json.loads((folder / "analysis" / "history.json").read_text())["series"]
    return {point["date"][:10]: point["changes"] for point in series["points"] if point["changes"]}


@pytest.mark.parametrize(
    "models", [("reference", "provider"), ("provider",)], ids=["reference", "oldest run"]
)
@pytest.mark.parametrize("column", CHANGES)
def test_a_change_is_named_on_its_day(lldeg, tmp_path, models, column):
    """The fourth of six, and only that; no alarm, as the answers are the same."""
    value, said = CHANGES[column]
    folder = days(tmp_path, models, [{}] * 3 + [{column: value}] * 3)
    ended = lldeg("history", folder)
    assert ended.status == 0
    assert f"2026-01-05: {said}" in " ".join(ended.out.split())
    assert {date: list(changes) for date, changes in changes_in(folder).items()} == {"2026-01-05": [column]}


def test_longer_answers_are_named_on_their_day(lldeg, tmp_path):
    """Tokens grow by 30 % on the fourth of six days; it is no alarm, and nothing else has changed."""
    long = [10 + number for number in range(N)]
    grown = [round(1.3 * tokens) for tokens in long]
    folder = days(tmp_path, ("provider",), [{"output_tokens": long}] * 3 + [{"output_tokens": grown}] * 3)
    ended = lldeg("history", folder)
    assert ended.status == 0
    said = "2026-01-05: output tokens changed: 29.5 → 38.35, +30.00 % [29.68, 30.33], since 2026-01-05"
    assert said in " ".join(ended.out.split())
    (series,) = json.loads((folder / "analysis" / "history.json").read_text())["series"]
    changed = {one["measurement"]: (one["changed"], one["since"]) for one in series["measurements"]}
    day = "2026-01-05T00:00:00+00:00"
    assert changed == {"output_tokens": (day, day), "empty": (None, None)}
    assert "output tokens" in (folder / "analysis" / "history.svg").read_text()


def test_a_route_that_comes_back_is_named_again(lldeg, tmp_path):
    """Each day is compared with the one before; a second route on one day is a change, too."""
    both = ["P", "Q"] * (N // 2)
    folder = days(tmp_path, ("reference", "provider"), [{}, {"provider": both}, {"provider": "Q"}, {}])
    lldeg("history", folder)
    before_and_now = [tuple(changes["provider"].values()) for changes in changes_in(folder).values()]
    assert before_and_now == [(["P"], ["P", "Q"]), (["Q"], ["P"])]


def test_a_server_that_says_nothing_changes_nothing(lldeg, tmp_path):
    """Nor does a day without its words, before the same ones."""
    silent = dict.fromkeys(TOLD)
    folder = days(tmp_path, ("reference", "provider"), [silent, {}, silent, {}])
    assert lldeg("history", folder).status == 0
    assert changes_in(folder) == {}


@pytest.mark.slow
def test_three_hundred_unchanged_days_say_nothing(lldeg, tmp_path):
    """No alarm, no change, though answers are of another length on every day."""
    rng = np.random.default_rng(0)
    lengths = rng.poisson(30, (300, N)).tolist()
    told = [{"output_tokens": tokens, "looping": rng.random(N).tolist()} for tokens in lengths]
    folder = days(tmp_path, ("provider",), told)
    assert lldeg("history", folder).status == 0
    assert changes_in(folder) == {}
    (series,) = json.loads((folder / "analysis" / "history.json").read_text())["series"]
    changed = {one["measurement"]: one["changed"] for one in series["measurements"]}
    assert changed == dict.fromkeys(("output_tokens", "looping", "empty"))


# in one run ---------------------------------------------------------------------------------------------


def analyzed(lldeg, folder, *options, kind="lm-eval:local-chat-completions", sweep=None, **told):
    """`lldeg analyze` of a run of which the variant's server tells something."""
    task = asked(("base", "v"), **told)
    make_run(
        folder,
        {"t": MadeTask({key: [[1] * N] for key in task.scores}, measured=task.measured)},
        **sweep or {},
    )
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"dtype": "v"', f'"kind": "{kind}"'))
    return lldeg("analyze", folder, "--margin", "0.2", *options)


def test_another_template_is_said_with_the_items(lldeg, tmp_path):
    """Two items of 40 have three tokens more: the models are not all that differs."""
    tokens = [23 if item in {3, 7} else 20 for item in range(N)]
    ended = analyzed(lldeg, tmp_path / "run", prompt_tokens=tokens)
    verdicts = json.loads((tmp_path / "run" / "analysis" / "verdicts.json").read_text())
    (said,) = [
        text
        for text, code in zip(verdicts["warnings"], verdicts["warning_codes"], strict=True)
        if code == "prompt-tokens-differ"
    ]
    assert "2 of 40 items of t have 3 prompt tokens more than in the baseline" in said
    assert "(items 3, 7)" in said
    assert ended.status == 0


@pytest.mark.parametrize(
    ("options", "same", "other"), [(("--gate", "certified"), 0, 3), (("--strict",), 0, 2), ((), 0, 0)]
)
def test_a_gate_does_not_pass_another_template(lldeg, tmp_path, options, same, other):
    """Certified scores on other prompts certify nothing; an alarm needs no equal prompts."""
    assert analyzed(lldeg, tmp_path / "same", *options).status == same
    ended = analyzed(lldeg, tmp_path / "other", *options, prompt_tokens=19)
    assert ended.status == other
    assert ("1 prompt token fewer" in ended.out + ended.err) == (other != same or not options)


def test_a_policy_does_not_pass_another_template(lldeg, tmp_path):
    """The release is not judged."""
    (policy := tmp_path / "policy.yaml").write_text("tasks: {t: {require: certified, margin: 0.2}}\n")
    assert analyzed(lldeg, tmp_path / "same", "--policy", policy).status == 0
    assert analyzed(lldeg, tmp_path / "other", "--policy", policy, prompt_tokens=21).status == 3


def test_models_that_may_differ_are_not_held_to_it(lldeg, tmp_path):
    """An engine of our own gets the tokens that lldeg makes; and another model has a tokenizer of its own."""
    other = {"variants": {"base": None, "v": {"other_template": True}}}
    for name, told in (("own", {"kind": "vllm"}), ("other", {"sweep": other})):
        ended = analyzed(lldeg, tmp_path / name, "--gate", "certified", prompt_tokens=21, **told)
        assert ended.status == 0, ended.err


def test_cut_and_uncounted_prompts_are_not_compared(lldeg, tmp_path):
    """What was cut has fewer tokens for that reason, and no server has to count."""
    for name, told in (
        ("cut", {"prompt_tokens": 12, "prompt_cut": 9}),
        ("uncounted", {"prompt_tokens": None}),
    ):
        ended = analyzed(lldeg, tmp_path / name, "--gate", "certified", **told)
        assert ended.status == 0, ended.err


# from servers to the page -------------------------------------------------------------------------------


def changed_by(day, name):
    """What a provider that changes one thing on the fourth day says of itself; the others never do."""
    own = {"model": f"m-{name}", "system_fingerprint": "fp_1", "provider": "P1"}
    usage = {"prompt_tokens": 20, "completion_tokens": 20}
    if day == 4:
        own |= {"fingerprint": {"system_fingerprint": "fp_2"}, "route": {"provider": "P2"}}.get(name, {})
        usage |= {"template": {"prompt_tokens": 21}, "length": {"completion_tokens": 26}}.get(name, {})
    return own | {"usage": usage}


@pytest.mark.ray
def test_each_change_of_a_provider_is_named_on_its_day(command, tmp_path):
    """Build, template, route, lengths or calls of tools on the fourth day; two are copies of the first."""
    day = 1
    call = {"function": {"name": "act", "arguments": "{}"}}

    def answer(_, body):
        said = {"content": "one"}
        if "tools" in body:
            said = {"content": None, "tool_calls": [call]}
            if day == 4 and body["model"] == "tools":
                said = {"content": f"<tool_call>{json.dumps(call['function'])}</tool_call>"}
            if day == 4 and body["model"] == "arguments":
                said["tool_calls"] = [{"function": {"name": "act", "arguments": "{"}}]
        choice = {"index": 0, "finish_reason": "stop", "message": said}
        return reply({"choices": [choice], **changed_by(day, body["model"])})

    names = ("reference", "fingerprint", "template", "route", "length", "tools", "arguments")
    server = StandInServer(answer)
    write_task(tmp_path / "pack", "asked", questions(30), **GENERATE)
    calls = [
        {
            "messages": [{"role": "user", "content": f"Act {number}."}],
            "tools": [{"function": call["function"]}],
        }
        for number in range(30)
    ]
    (tmp_path / "pack" / "calls.jsonl").write_text("".join(json.dumps(one) + "\n" for one in calls))
    sweep = write_sweep(
        tmp_path, baseline="reference", tasks=["asked", "calls"], prompt={"apply_chat_template": True},
        engine={
            "kind": "lm-eval:local-chat-completions", "base_url": server.url, "tokenizer_backend": "None",
        },
        variants={name: {"model": name} for name in names},
    )  # fmt: skip
    for day in (1, 4):
        run = tmp_path / "runs" / f"2026-11-0{day}"
        status, _, err = command.run("submit", sweep, "--run-dir", run, cwd=tmp_path)
        assert status == 0, err
    server.end()
    for day in (2, 3):
        shutil.copytree(tmp_path / "runs" / "2026-11-01", tmp_path / "runs" / f"2026-11-0{day}")
    status, out, err = command.run("history", tmp_path / "runs", cwd=tmp_path)
    assert status == 0, err
    history = json.loads((tmp_path / "runs" / "analysis" / "history.json").read_text())
    found = {
        one["model"]: {
            **{name: point["date"] for point in one["points"] for name in point["changes"]},
            **{own["measurement"]: own["changed"] for own in one["measurements"] if own["changed"]},
        }
        for one in history["series"]
    }
    columns = {"fingerprint": "system_fingerprint", "template": "prompt_tokens", "route": "provider",
               "length": "output_tokens", "tools": "called", "arguments": "valid_calls"}  # fmt: skip
    assert found == {name: {column: "2026-11-04T00:00:00+00:00"} for name, column in columns.items()}
    assert out.count("\n2026-11-04: ") == 6
