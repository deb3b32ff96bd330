"""A few of the many trials that benchmarks/soak.py runs, which LLDEG_SOAK=200 makes 200 kills."""

import os
import subprocess
import sys

import pytest
from standin.command import ROOT

pytestmark = pytest.mark.ray

SEED = 11  # kills a node, then the driver, then a replica
KILLS = int(os.environ.get("LLDEG_SOAK", "3"))
SECONDS_FOR_A_KILL = 120


@pytest.fixture
def soak(command):
    """Runs the script; returns what it printed if every trial ended as it should."""

    def run(*arguments, seconds):
        ended = subprocess.run(
            [sys.executable, ROOT / "benchmarks" / "soak.py", *map(str, arguments)],
            env=os.environ | {"LLDEG_TEST": command.mark},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ended.stdout.rstrip().endswith("not as undisturbed: none")
        return ended.stdout

    return run


def test_kills_at_random_moments_leave_what_an_undisturbed_sweep_leaves(soak):
    """Every key at most once, no row an error; the same looks, ledger, decisions and final tables."""
    assert " x node" in soak("--stopping", "--trials", 1, "--first", SEED, seconds=900)


def test_kills_and_a_hostile_server_leave_every_key_once_and_no_false_score(soak):
    """Replicas, nodes, drivers and the server itself die, and the server misbehaves in every known way."""
    told = soak("--hostile", "--kills", KILLS, seconds=900 + KILLS * SECONDS_FOR_A_KILL)
    assert (
        sum(int(word) for word in told.partition("killed: ")[2].splitlines()[0].split() if word.isdigit())
        >= KILLS
    )
