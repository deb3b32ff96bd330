"""The README does what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from orchestrator.config.schema import SweepConfig

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FINE = {"lldeg analyze": {0, 1}}  # 1 is the verdict that something is degraded
SMALLER = 'tasks=[{"task": "lldeg_quickstart", "limit": 12}]'


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.S | re.M)


def test_is_short():
    """The README stays under 150 lines."""
    assert len(README.splitlines()) < 150


def test_links_lead_somewhere():
    """Every file the README links to exists."""
    missing = [link for link in re.findall(r"\]\(([^):]+)\)", README) if not (ROOT / link).exists()]
    assert missing == []


def test_the_example_sweep_is_valid():
    """The YAML in the README is a configuration that lldeg takes."""
    (example,) = blocks("yaml")
    assert SweepConfig.model_validate(yaml.safe_load(example)).baseline == "bf16"


@pytest.mark.model
def test_commands_run(tmp_path):
    """The commands in the README run as they stand, one after the other, on a few items a task."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    binaries = Path(sys.executable).parent
    for command in [line for block in blocks("bash") for line in block.splitlines()]:
        program, *arguments = command.split()
        if command.startswith("lldeg submit"):
            arguments += ["--set", SMALLER]
        done = subprocess.run(
            [binaries / program, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        allowed = FINE.get(" ".join(command.split()[:2]), {0})
        assert done.returncode in allowed, f"{command}: {done.stdout}{done.stderr}"
    assert (tmp_path / "runs/quickstart/analysis/verdicts.json").is_file()
