"""A gate for new versions of an engine, on the real model: passed, blocked, and not shown."""

import json

import pytest
import yaml
from standin.cluster import bare_environment
from standin.command import ROOT
from standin.files import write_sweep

from jobs.round_weights import round_folder

pytestmark = pytest.mark.model

ENGINE = {
    "dtype": "float32",
    "max_model_len": 256,
    "block_size": 32,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 1 << 27,
}
TASKS = ("lldeg_sums", "lldeg_elements")
POLICY = {
    "margin": 0.05,
    "min_items": 20,
    "tasks": {"*": {"require": "not-degraded", "margin": 0.2}},
    "overall": "certified",
}


def test_a_gate_passes_blocks_or_says_that_it_is_not_shown(tmp_path, model_folder, command):
    """Versions in an environment of their own: the same, one with damage, and one that flips both ways."""
    python, mild = bare_environment(tmp_path / "env") / "python", tmp_path / "mild"
    round_folder(model_folder, mild, bits=5, group_size=16)
    models = {"same": model_folder, "broken": f"{model_folder}-int4", "mild": mild}
    versions = {name: {"python": str(python), "model": str(model)} for name, model in models.items()}
    sweep, run, ends = tmp_path / "sweep.yaml", tmp_path / "run", {}
    write_sweep(
        tmp_path,
        model=str(model_folder),
        include_path=str(ROOT / "configs" / "tasks" / "quickstart"),
        tasks=[{"task": task, "limit": 60} for task in TASKS],
        engine=ENGINE,
        variants={"base": {}, **versions},
        sampling={"temperatures": [0.0]},
        stopping={"until": "decided", "seed": 0, "policy": POLICY},
    )
    status, _, err = command.run("submit", sweep, "--run-dir", run, cwd=tmp_path)
    assert status == 0, err
    for name in models:
        rules = tmp_path / f"{name}.yaml"
        rules.write_text(yaml.safe_dump(POLICY | {"variants": [name]}))
        ends[name] = command.run("analyze", run, "--policy", rules, cwd=tmp_path)[0]
    assert ends == {"same": 0, "broken": 1, "mild": 3}
    looks = json.loads((run / "looks.json").read_text())["comparisons"]
    used = {name: max(one["share_used"] for one in looks if one["variant"] == name) for name in models}
    assert used["broken"] < used["same"] < used["mild"] == 1.0
