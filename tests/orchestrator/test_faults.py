"""On real Ray: replicas that die, prompts that kill, engines that refuse, storage that fails.

One sweep has it all at once, a variant for each fault, and every test looks at its own.
"""

import json
import os
import signal

import pytest
from standin.command import finish, wait_for
from standin.engine import DEADLY, KIND
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import block_files, identities, planned, samples

pytestmark = pytest.mark.ray

KILLERS_ITEM = 5


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The sweep of faults: 96 ordinary items, and 6 of which one kills the engine of one variant."""
    folder = tmp_path_factory.mktemp("faults")
    write_task(folder / "pack", "ordinary", questions(96), **GENERATE)
    docs = [*questions(KILLERS_ITEM), {"question": f"{DEADLY} Item 5", "answer": "5"}]
    write_task(folder / "pack", "with_killer", docs, **GENERATE)
    obstructed = folder / "run" / "samples" / "variant=stumbles" / "task=ordinary"
    return write_sweep(
        folder,
        baseline="plain ü/1",
        engine={"kind": KIND},
        variants={
            "plain ü/1": {},
            "killed": {"engine": {"pids": str(folder / "pids"), "hold": str(folder / "hold"), "free": 1}},
            "dies": {"engine": {"dies": True}},
            "refuses": {"engine": {"refuse": True}},
            "stumbles": {"engine": {"obstruct": str(obstructed)}},
        },
        tasks=["ordinary", "with_killer"],
        cluster={"cpus_per_replica": 1},
    )


@pytest.fixture(scope="module")
def run(sweep):
    """Where the sweep's answers are."""
    return sweep.parent / "run"


@pytest.fixture(scope="module")
def ended(sweep, run, command):
    """The sweep run to its end, with every replica of `killed` killed after the first block."""
    hold = sweep.parent / "hold"
    hold.touch()
    process = command.start("submit", sweep, "--run-dir", run, cwd=sweep.parent)
    wait_for(lambda: block_files(run, "killed"), process)
    victims = list((sweep.parent / "pids").iterdir())
    for pid in victims:
        os.kill(int(pid.name), signal.SIGKILL)
    hold.unlink()
    return finish(process)


@pytest.fixture(scope="module")
def errors(ended, run):
    """Per variant, the rows with an error."""
    return {
        variant: [row for row in samples(run) if row["variant"] == variant and row["error"] is not None]
        for variant in ("plain ü/1", "killed", "dies", "stumbles")
    }


def events(run, kind, variant):
    """Entries of the event log."""
    lines = (run / "logs" / "events.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [event for event in found if (event["event"], event["variant"]) == (kind, variant)]


def present(run, variant):
    """The identities of one variant."""
    return {key: count for key, count in identities(run).items() if key[0] == variant}


def test_after_a_killed_replica_every_sample_stands_once(ended, run, errors):
    """SIGKILL in mid-sweep costs only time: another replica answers what was held, nothing twice."""
    assert len(events(run, "died", "killed")) >= 1
    assert present(run, "killed") == planned(run, ["killed"])
    assert errors["killed"] == []


def test_a_prompt_that_kills_the_engine_becomes_one_error_row(ended, run, errors):
    """It is isolated, and its row says that the engine died."""
    (row,) = errors["dies"]
    assert (row["task"], row["item"]) == ("with_killer", KILLERS_ITEM)
    assert row["error"].startswith("EngineDied: ")
    assert (row["response"], row["scores"]) == (None, None)


def test_the_others_beside_a_prompt_that_kills_are_answered(ended, run):
    """Every other sample of the variant stands once, although its engine died again and again."""
    assert present(run, "dies") == planned(run, ["dies"])
    assert len(events(run, "died", "dies")) >= 3


def test_a_refusing_engine_ends_in_exit_2_with_its_sentence(ended):
    """The status is 2, and the one sentence names the variant and the engine's own words."""
    status, _, err = ended
    assert status == 2
    assert "Error: The engine cannot run refuses: ValueError: this engine cannot run this model." in err
    assert "Traceback" not in err


def test_a_refusing_engine_is_not_loaded_again(ended, run):
    """What the engine refuses once it would refuse again."""
    assert len(events(run, "refused", "refuses")) == 1
    assert block_files(run, "refuses") == []


def test_a_refusing_engine_does_not_keep_the_others_from_finishing(ended, run, errors):
    """The ordinary variant, whose name needs encoding, is complete."""
    assert present(run, "plain ü/1") == planned(run, ["plain ü/1"])
    assert errors["plain ü/1"] == []


def test_a_storage_that_comes_back_loses_nothing(ended, run, errors):
    """The replica keeps its answers, tries again, and says so in its log; nobody has to answer twice."""
    logs = [log.read_text() for log in (run / "logs").glob("replica-*-stumbles.log")]
    assert any("storage error, retrying" in log for log in logs)
    assert events(run, "died", "stumbles") == events(run, "failed", "stumbles") == []
    assert present(run, "stumbles") == planned(run, ["stumbles"])
    assert errors["stumbles"] == []


def test_no_file_outlives_the_command(ended, command):
    """Ray's session is removed, too."""
    assert list(command.ray_folder.iterdir()) == []


def test_no_process_outlives_the_command(ended, command):
    """Neither Ray nor a replica is left, whatever died in between."""
    assert command.left_after(15) == []
