"""`lldeg analyze` refuses to test a baseline on items that its own runs chose."""

import json

import pytest
from standin.runs import MadeTask, make_run

from jobs.scores.read import read_scores
from orchestrator.errors import UserError


def _run(folder, seeds):
    """A run with a subset that seed 0 at temperature 0.5 chose."""
    scores = {(variant, 0.5): [[1, 0]] * seeds for variant in ("base", "cheap")}
    make_run(folder, {"sums": MadeTask(scores)})
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["variants"]["base"]
    entry["revision"] = "abc"
    origin = {"model": entry["model"], "revision": "abc", "runs": [[0.5, 1]]}
    manifest["subset"] = {"digest": "x", "chosen_by": origin}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return str(folder)


def test_a_run_with_a_choosing_seed_is_refused(tmp_path):
    """Seed 1 chose the items and is among the seeds of the run."""
    with pytest.raises(UserError, match=r"seed 1 at temperature 0\.5 chose this subset"):
        read_scores([_run(tmp_path / "run", seeds=2)])


def test_a_run_of_fresh_seeds_is_read(tmp_path):
    """Seed 0 alone did not choose."""
    assert read_scores([_run(tmp_path / "run", seeds=1)]).models == ("base", "cheap")
