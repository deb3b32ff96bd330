"""The README does what it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from orchestrator.config.schema import SweepConfig

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FEWER = shlex.quote('tasks=[{"task": "lldeg_quickstart", "limit": 2}]')
LESS = "engine.kv_cache_memory_bytes=134217728"  # which would be cleared for each variant


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.S | re.M)


def run(command: str, folder: Path) -> int:
    """The exit status of a command that is run in a folder."""
    program, *arguments = shlex.split(command)
    binary = Path(sys.executable).parent / program
    done = subprocess.run([binary, *arguments], cwd=folder, capture_output=True, timeout=600, check=False)
    assert b"Error" not in done.stderr, done.stderr
    return done.returncode


def test_is_read_in_a_minute():
    """The README stays under 600 words."""
    assert len(README.split()) < 600


def test_links_lead_somewhere():
    """Every file the README links to exists."""
    links = re.findall(r"\]\(([^):#]+)[^):]*\)", README)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert missing == []


def test_the_example_sweep_is_valid():
    """The YAML in the README is a configuration that lldeg takes."""
    (example,) = blocks("yaml")
    assert SweepConfig.model_validate(yaml.safe_load(example)).baseline == "bf16"


def test_opens_with_a_verdict_on_results_that_a_reader_has(lldeg, tmp_path):
    """The first command runs as it stands on two folders of another tool, and finds the worse one."""
    for name, right in (("BASE", 90), ("VARIANT", 30)):
        (tmp_path / name).mkdir()
        rows = [json.dumps({"example_id": i, "reward": float(i < right), "prompt": "p"}) for i in range(100)]
        (tmp_path / name / "results.jsonl").write_text("\n".join(rows))
        (tmp_path / name / "metadata.json").write_text(json.dumps({"env_id": "math", "model": name.lower()}))
    program, *arguments = shlex.split(blocks("bash")[0])
    assert (program, lldeg(*arguments).status) == ("lldeg", 1)


def test_the_example_prints_what_is_shown(lldeg, tmp_path):
    """The second command, on the scores that come with the repository, prints the table below it."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    program, *arguments = shlex.split(blocks("bash")[1])
    done, (table,) = lldeg(*arguments), blocks("text")
    assert (program, done.status) == ("lldeg", 1)
    printed = [line.split() for line in done.out.splitlines()]
    assert [row for row in table.splitlines()[1:] if row.split() not in printed] == []


@pytest.mark.model
def test_the_sweep_runs(tmp_path):
    """The commands of the sweep run as they stand, one after the other, on a few items a task."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    submit, analyze = blocks("bash")[2].splitlines()
    assert run(f"{submit} --set {FEWER} --set {LESS}", tmp_path) == 0
    assert run(analyze, tmp_path) in {0, 1}  # 1 is the verdict that something is degraded
    assert (tmp_path / "runs/quickstart/analysis/verdicts.json").is_file()
