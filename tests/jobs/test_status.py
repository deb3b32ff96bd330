"""`lldeg status`: what is done, owed and failed, and whether a submit is running."""

import json
import time
from math import inf

import pytest
from standin.runs import MadeTask, make_run

from jobs.submit.progress import standing_text
from orchestrator.rundir.lease import exclusive
from orchestrator.rundir.progress import Standing
from orchestrator.rundir.store import RunStore

ESC = "\x1b[31m"


@pytest.fixture
def run(tmp_path):
    """8 samples planned for each of two variants; one of the second is owed and one has an error."""
    scores = {("base", 0.0): [[1.0] * 8], ("other", 0.0): [[1.0] * 6 + [None, "owed"]]}
    return make_run(tmp_path / "run", {"sums": MadeTask(scores)})


def tell(run, **facts):
    """What the last submit told."""
    status = {
        "state": "running",
        "time": time.time(),
        "host": "head",
        "pid": 7,
        "seconds_left": 90.4,
        **facts,
    }
    RunStore(run).write_log("status.json", json.dumps(status).encode())


def variant(**facts):
    """What it told of a variant."""
    return {"lost": 0, "loads": 1, "replicas": 1, "samples_per_second": 2.5, "refusal": None, **facts}


def facts_of(lldeg, run):
    """The command's answer for programs."""
    result = lldeg("status", run, "--format", "json")
    return result.status, json.loads(result.out)


def test_counts_come_from_the_samples(lldeg, run):
    """Done, owed and failed of each variant, without a word of any submit."""
    status, facts = facts_of(lldeg, run)
    assert (status, facts["state"]) == (3, "incomplete")
    assert (facts["planned"], facts["done"], facts["missing"], facts["errors"]) == (16, 15, 1, 1)
    assert {name: entry["missing"] for name, entry in facts["variants"].items()} == {"base": 0, "other": 1}


def test_a_damaged_file_is_named_and_its_samples_are_missing(lldeg, run):
    """In the table and for programs; the other file of the variant still counts."""
    path = min((run / "samples/variant=base/task=sums").iterdir())
    content = path.read_bytes()
    path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    status, facts = facts_of(lldeg, run)
    assert (status, facts["damaged"], facts["variants"]["base"]["missing"]) == (3, [str(path)], 4)
    assert path.name in lldeg("status", run).out.replace("\n", "")


def test_a_complete_run_ends_with_0(lldeg, tmp_path):
    """Nothing owed, nobody at work."""
    run = make_run(tmp_path / "whole", {"sums": MadeTask({("base", 0.0): [[1.0, 0.0]]})})
    status, facts = facts_of(lldeg, run)
    assert (status, facts["state"], facts["missing"]) == (0, "complete", 0)


def test_a_run_at_work_shows_rates_replicas_and_time_left(lldeg, run):
    """They come from the submit that is at work."""
    replica = {"number": 3, "variant": "other", "state": "working", "node": "abcdef123456", "samples": 1200}
    tell(run, variants={"other": variant()}, replicas=[replica], notes=[])
    with exclusive(RunStore(run), on_loss=lambda: None):
        result = lldeg("status", run)
        status, facts = facts_of(lldeg, run)
    assert (result.status, status, facts["state"], facts["seconds_left"]) == (0, 0, "running", 90.4)
    assert facts["variants"]["other"]["samples_per_second"] == 2.5
    assert "about 0:01:30 left" in result.out
    assert "replica 3, other: working on node abcdef12, 1,200 samples" in result.out
    assert "Process 7 on head, last heartbeat" in result.out


def test_of_a_dead_submit_neither_replicas_nor_time_are_told(lldeg, run):
    """Its last words are old; its notes stay true."""
    replica = {"number": 1, "variant": "other", "state": "working", "node": None, "samples": 0}
    tell(run, variants={"other": variant()}, replicas=[replica], notes=["other/sums: 1 sample"])
    result = lldeg("status", run)
    assert result.status == 3
    assert "replica 1" not in result.out
    assert "left" not in result.out
    assert "Note: other/sums: 1 sample" in result.out
    assert "submit again to resume" in result.out


def test_a_refusal_is_told(lldeg, run):
    """With the engine's own words, which cannot steer the terminal."""
    tell(run, variants={"other": variant(refusal=f"no such {ESC}option")}, replicas=[], notes=[])
    result = lldeg("status", run)
    assert "other cannot be run: no such" in result.out
    assert "\x1b" not in result.out


def test_damaged_words_are_no_words(lldeg, run):
    """A status that is no JSON hides nothing else."""
    RunStore(run).write_log("status.json", b"{")
    status, facts = facts_of(lldeg, run)
    assert (status, facts["done"], facts["last_heartbeat"]) == (3, 15, None)


def test_what_is_no_run_is_refused(lldeg, tmp_path):
    """One sentence, status 2."""
    result = lldeg("status", tmp_path / "nothing")
    assert result.status == 2
    assert "is not a run directory" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("standing", "text"),
    [
        ((0.7, 2, 10, 1.5, 3.1, -inf, 2.9), "T 0.7: 2/10 z 1.50, degraded at 3.10"),
        ((0.0, 1, 5, -inf, inf, 1.2, 2.9), "no sign of damage; margin z 1.20, certified at 2.90"),
        ((0.0, 5, 5, -inf, inf, 1.2, 2.9, "certified"), "T 0: 5/5 certified"),
    ],
)
def test_a_look_is_told_with_its_distance_to_the_boundaries(standing, text):
    """Both of them, where there are any, and no infinite numbers."""
    facts = dict(zip(Standing.model_fields, standing, strict=False))
    assert standing_text(Standing(**facts)).endswith(text)


STOPPED = {
    "weights-int4-rounded-group64": [
        {**dict.fromkeys(("statistic", "boundary", "certified_statistic", "certified_boundary"), 2.0),
         "temperature": 0.0, "look": 3, "looks": 10, "verdict": "degraded"}
    ],
    "kv-cache-fp8-e4m3-calibrated": [],
}  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80])
def test_a_narrow_terminal_shows_every_name(lldeg, tmp_path, monkeypatch, columns):
    """Of a run that stops early, whose rows are the widest: names whole, and each look on a line."""
    scores = {
        ("base", 0.0): [[1.0] * 1200],
        **{(name, 0.0): [[1.0] * 700 + ["owed"] * 500] for name in STOPPED},
    }
    run = make_run(tmp_path / "run", {"sums": MadeTask(scores)})
    told = {name: variant(not_needed=500, looks=looks, replicas=0) for name, looks in STOPPED.items()}
    tell(run, variants=told, replicas=[], notes=[])
    monkeypatch.setenv("COLUMNS", str(columns))
    out = lldeg("status", run).out
    assert all(name in out for name in STOPPED)
    assert "complete, 2,600 of 3,600 samples, 1,000 not needed" in " ".join(out.split())
    assert "weights-int4-rounded-group64, last look: T 0: 3/10 degraded" in " ".join(out.split())


def test_an_imported_run_lacks_nothing(lldeg, run):
    """It asks for nothing, so that all that it holds is all there is."""
    manifest = json.loads((run / "manifest.json").read_text())
    for task in manifest["tasks"].values():
        task["reruns"] = []
    (run / "manifest.json").write_text(json.dumps({**manifest, "imported": True}))
    status, facts = facts_of(lldeg, run)
    assert (status, facts["state"]) == (0, "complete")
    assert (facts["planned"], facts["done"], facts["missing"]) == (15, 15, 0)
