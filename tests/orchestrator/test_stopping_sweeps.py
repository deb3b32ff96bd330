"""On real Ray: served models that stop early, the end of a stopped sweep, and finishing it."""

import json

import pytest
import yaml
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import identities, planned
from standin.server import StandInServer, completion

pytestmark = pytest.mark.ray

KEY = "sk-0123456789abcdef"
ITEMS, SEEDS = 200, 2
PLANNED = 2 * ITEMS * SEEDS


FORGOTTEN = {"good": 0.0, "bad": 0.5}
"""Which share of the answers a server does not know."""


def forgetful(name):
    """A server that knows only some of the answers."""

    def behave(_, body):
        known = hash_of(body) % 100 >= 100 * FORGOTTEN[name]
        return completion(body, None if known else "no idea")

    return StandInServer(behave)


def hash_of(body):
    """The same for the same item, whatever the seed."""
    return sum(map(ord, body["prompt"])) * 7919


@pytest.fixture(scope="module")
def servers():
    """The baseline's, and one that has forgotten half."""
    servers = {name: forgetful(name) for name in FORGOTTEN}
    yield servers
    for server in servers.values():
        server.end()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, servers):
    """A sweep over both, in four looks."""
    folder = tmp_path_factory.mktemp("stopping")
    write_task(folder / "pack", "asked", questions(ITEMS), **GENERATE)
    return write_sweep(
        folder,
        model="small",
        baseline="good",
        engine={"kind": "lm-eval:local-completions", "tokenizer_backend": "None", "num_concurrent": 2},
        variants={name: {"engine": {"base_url": server.url}} for name, server in servers.items()},
        tasks=["asked"],
        sampling={"temperatures": [0.7], "seeds": SEEDS},
    )


@pytest.fixture(scope="module")
def submit(sweep, command):
    """Submits the sweep; returns status and output."""

    def run(*options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_API_KEY", KEY)
            status, out, err = command.run(
                "submit", sweep, "--run-dir", sweep.parent / "run", *options, cwd=sweep.parent
            )
        return status, out + err

    return run


@pytest.fixture(scope="module")
def stopped(submit, sweep, servers, command):
    """What the stopped sweep said and left, and how many requests it cost."""
    status, said = submit("--until-degraded", "--set", "stopping.looks=4")
    run = sweep.parent / "run"
    analyzed = command.run("analyze", run, "--strict", cwd=sweep.parent)
    asked = sum(len(server.bodies) for server in servers.values())
    return status, said, analyzed, asked, json.loads((run / "looks.json").read_text())


def test_a_served_variant_is_asked_no_more_once_it_is_degraded(stopped):
    """The sweep is complete with fewer requests than planned: each of them is paid for."""
    status, said, _, asked, looks = stopped
    (comparison,) = looks["comparisons"]
    assert status == 0, said
    assert "not needed" in said
    assert (comparison["verdict"], comparison["stopped"]) == ("degraded", True)
    assert asked < PLANNED


def test_the_analysis_of_a_stopped_sweep_is_complete(stopped):
    """Exit status 1 for the verdict, not 3, and in agreement with looks.json (--strict)."""
    status, out, err = stopped[2]
    assert status == 1, out + err
    assert "DEGRADED" in out


def test_the_status_of_a_stopped_sweep_is_complete(stopped, sweep, command):
    """Samples that are not needed are not missing."""
    status, out, _ = command.run("status", sweep.parent / "run", "--format", "json", cwd=sweep.parent)
    told = json.loads(out)
    assert (status, told["state"], told["missing"]) == (0, "complete", 0)
    assert told["variants"]["bad"]["not_needed"] > 0


def test_a_submit_with_nothing_to_do_tells_what_is_not_needed(stopped, submit, sweep, command):
    """The submit before it may have died after the deciding block, with a status that knew less."""
    run = sweep.parent / "run"
    (run / "logs" / "status.json").unlink()
    assert submit()[0] == 0
    assert command.run("status", run, cwd=sweep.parent)[0] == 0


def test_a_dry_run_of_a_stopped_sweep_plans_nothing(stopped, submit, sweep):
    """What is not needed is not missing, no engine would be loaded, and the looks stay as they are."""
    status, said = submit("--dry-run")
    assert (status, "no engine to load" in " ".join(said.split())) == (0, True), said
    assert json.loads((sweep.parent / "run" / "looks.json").read_text()) == stopped[4]


def test_finishing_answers_the_rest_and_keeps_the_verdict(stopped, submit, sweep):
    """Every planned sample is there then; the look that decided stays the same."""
    status, said = submit("--finish")
    run = sweep.parent / "run"
    assert status == 0, said
    assert identities(run) == planned(run)
    assert json.loads((run / "looks.json").read_text()) == stopped[4]


def test_a_bit_in_every_block_is_no_second_draw_in_silence(stopped, submit, sweep, command, monkeypatch):
    """A variant that was degraded at a look answers better when its samples are redrawn: said for good."""
    run = sweep.parent / "run"
    for path in (run / "samples" / "variant=bad").rglob("*.parquet"):
        content = path.read_bytes()
        path.write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])
    monkeypatch.setitem(FORGOTTEN, "bad", 0.0)
    status, said = submit()
    assert (status, "generated again" in " ".join(said.split())) == (0, True), said
    assert submit()[0] == 0
    for options, expected in (((), 3), (("--gate", "certified"), 3), (("--strict",), 2)):
        status, out, err = command.run("analyze", run, *options, cwd=sweep.parent)
        assert (status, "generated again" in " ".join((out + err).split())) == (expected, True), out + err
    assert "DEGRADED" not in out


@pytest.mark.slow
def test_a_weekly_gate_blocks_one_version_and_passes_the_next(sweep, servers, command, monkeypatch, tmp_path):
    """Each is asked until its policy is decided, at a level of its own; the baseline answers once."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    run, policy = tmp_path / "gate", {"margin": 0.1, "tasks": {"asked": "certified"}}
    asked_before, statuses = len(servers["good"].bodies), []
    for name, url in (("bad", servers["bad"].url), ("next", servers["good"].url)):
        content = yaml.safe_load(sweep.read_text())
        content["variants"] = {key: one for key, one in content["variants"].items() if key != "bad"}
        content["variants"][name] = {"engine": {"base_url": url}}
        content["stopping"] = {"looks": 4}
        path, rules = sweep.parent / f"{name}.yaml", tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(content))
        rules.write_text(json.dumps(policy | {"variants": [name]}))
        status, out, err = command.run(
            "submit", path, "--until-decided", "--policy", rules, "--run-dir", run, cwd=tmp_path
        )
        assert (status, "level of its own" in " ".join(out.split())) == (0, name == "next"), out + err
        statuses.append(command.run("analyze", run, "--policy", rules, "--strict", cwd=tmp_path)[0])
    assert statuses == [1, 0]
    looks = json.loads((run / "looks.json").read_text())["comparisons"]
    assert all(entry["stopped"] for entry in looks)
    used = sum(entry["share_used"] for entry in looks if entry["variant"] == "next")
    assert len(servers["good"].bodies) - asked_before < (1 + used + 0.3) * ITEMS * SEEDS
