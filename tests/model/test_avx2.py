"""On the real model: the quickstart on a CPU that has AVX2 and nothing above it, or passes for one.

vLLM's own AVX2 kernels run here whatever the machine; see `standin/avx2`.
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from standin.command import ROOT, Command
from standin.machine import AVX2
from standin.rows import identities, planned, samples

pytestmark = pytest.mark.model

QUICKSTART = ROOT / "configs" / "quickstart.yaml"
VARIANTS = {
    name: entry
    for name, entry in yaml.safe_load(QUICKSTART.read_text())["variants"].items()
    if name in {"bf16", "kv-fp8"}
}
FEW = (
    *("--set", 'tasks=[{"task": "lldeg_sums", "limit": 4}]'),
    *("--set", f"variants={json.dumps(VARIANTS)}"),
)


@dataclass(frozen=True)
class Outcome:
    """How a submit ended, what it said, and where the run is."""

    run: Path
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def beside():
    """Runs `lldeg ...` on a machine without AVX-512."""
    folder = Path(tempfile.mkdtemp(prefix="lldeg-"))
    command = Command(folder, {"PYTHONPATH": os.pathsep.join(map(str, (AVX2, ROOT)))})
    yield command
    command.end_all()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def outcome(beside, model_folder, tmp_path_factory):
    """The quickstart on a few items."""
    folder = tmp_path_factory.mktemp("avx2")
    return Outcome(folder / "run", *beside.run("submit", QUICKSTART, *FEW, "--run-dir", "run", cwd=folder))


def test_the_sweep_is_complete(outcome):
    """Every variant that this CPU can run has answered everything."""
    assert outcome.status == 0, outcome.err
    assert identities(outcome.run) == planned(outcome.run)
    assert {row["variant"] for row in samples(outcome.run)} == {"bf16"}
    assert [row["error"] for row in samples(outcome.run) if row["error"]] == []


def test_the_screen_says_what_the_machine_decided(outcome):
    """The number format, and the variant that is left out."""
    assert "Engines compute in float32" in outcome.out
    assert "kv-fp8 is skipped" in outcome.out


def test_the_manifest_says_it_too(outcome):
    """As the engine's option, and as the reason for the gap."""
    manifest = json.loads((outcome.run / "manifest.json").read_text())
    assert {entry["engine"]["dtype"] for entry in manifest["variants"].values()} == {"float32"}
    assert list(manifest["skipped"]) == ["kv-fp8"]


def test_an_fp8_kv_cache_is_refused_before_anything_runs(beside, tmp_path):
    """Asked for by itself it ends the command with one sentence."""
    asked = ("--set", "engine.kv_cache_dtype=fp8", "--run-dir", tmp_path / "run")
    status, _, err = beside.run("submit", QUICKSTART, *FEW, *asked, cwd=tmp_path)
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert "kv_cache_dtype: fp8 needs a GPU or a CPU with AVX-512 or AMX" in err
    assert not (tmp_path / "run").exists()
