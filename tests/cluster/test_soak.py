"""One trial of the many that benchmarks/soak.py runs."""

import os
import subprocess
import sys

import pytest
from standin.command import ROOT

pytestmark = pytest.mark.ray

SEED = 11  # kills a node, then the driver, then a replica


def test_kills_at_random_moments_leave_what_an_undisturbed_sweep_leaves(command):
    """Every key once, no row an error, the same final tables."""
    ended = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "soak.py", "--trials", "1", "--first", str(SEED)],
        env=os.environ | {"LLDEG_TEST": command.mark},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " x node" in ended.stdout
    assert ended.stdout.rstrip().endswith("not as undisturbed: none")
