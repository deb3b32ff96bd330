"""On the real model: choices that share their context have the log-likelihoods of each choice alone."""

import json

import pytest
from standin.command import ROOT
from standin.files import CHOOSE, write_sweep, write_task
from standin.rows import samples

from orchestrator.engines.base import ALONE, SHARED

pytestmark = pytest.mark.model

QUICKSTART = ROOT / "configs" / "tasks" / "quickstart"
PACK = ("lldeg_calendar", "lldeg_products")
WORDS, LIMIT, MOST = "words", 8, 1e-4
CHOICES = ["five", "six and seven", "six and eight and nine", "six and eight and ten"]
LISTED = [
    {"question": f"{'One two three four. ' * times}Then comes", "answer": 0, "choices": CHOICES}
    for times in (1, 5, 8, 20)
]
"""Choices of one token, and of several that begin alike; contexts within a block of the cache, or longer."""
FLOAT32 = {
    "kind": "vllm",
    "dtype": "float32",
    "max_model_len": 512,
    "max_num_seqs": 64,
    "enforce_eager": True,
    "block_size": 32,
    "kv_cache_memory_bytes": 1 << 28,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, model_folder, command):
    """A sweep in both ways, and its warnings."""
    folder = tmp_path_factory.mktemp("likelihoods")
    write_task(folder / "pack", WORDS, LISTED, **CHOOSE)
    path = write_sweep(
        folder,
        model=str(model_folder),
        baseline="shared",
        variants={"shared": {"engine": FLOAT32}, "alone": {"engine": {**FLOAT32, "share_contexts": False}}},
        include_path=[str(QUICKSTART), "pack"],
        tasks=[*({"task": task, "limit": {"first": LIMIT}} for task in PACK), WORDS],
        cluster={"replicas": 1},
    )
    status, _, err = command.run("submit", path, "--run-dir", folder / "run", cwd=folder)
    assert status == 0, err
    return folder / "run"


@pytest.fixture(scope="module")
def pairs(run):
    """The rows of each item, shared and alone."""
    rows = {"shared": {}, "alone": {}}
    for row in samples(run):
        rows[row["variant"]][row["task"], row["item"]] = row
    assert rows["shared"].keys() == rows["alone"].keys()
    return [(row, rows["alone"][place]) for place, row in rows["shared"].items()]


def test_every_log_likelihood_is_that_of_the_choice_alone(pairs):
    """In float32, up to the rounding of sums in another order; none is an error."""
    assert len(pairs) == LIMIT * len(PACK) + len(LISTED)
    for pair in pairs:
        shared, alone = (json.loads(row["response"]) for row in pair)
        assert [value for value, _ in shared] == pytest.approx([value for value, _ in alone], abs=MOST)
        assert [greedy for _, greedy in shared] == [greedy for _, greedy in alone]


def test_so_is_every_score(pairs):
    """Acc and acc_norm of all items whose best choices are further apart than the rounding."""
    compared = 0
    for shared, alone in pairs:
        values = sorted(value for value, _ in json.loads(alone["response"]))
        if values[-1] - values[-2] > MOST:
            assert shared["scores"] == alone["scores"]
            compared += 1
    assert compared > len(pairs) / 2


def test_the_tokens_of_a_row_are_those_of_its_choices(pairs):
    """However many of them were computed."""
    for shared, alone in pairs:
        counts = [(row["prompt_tokens"], row["output_tokens"], row["prompt_cut"]) for row in (shared, alone)]
        assert counts[0] == counts[1]


def test_the_manifest_says_the_way_and_analyze_that_two_differ(run, command, tmp_path):
    """It is a part of what determines an answer."""
    known = json.loads((run / "manifest.json").read_text())["software"].values()
    assert {entry["log_likelihoods"] for entry in known} == {SHARED, ALONE}
    command.run("analyze", run, "--out", tmp_path, cwd=tmp_path)
    verdicts = json.loads((tmp_path / "verdicts.json").read_text())
    assert "mixed-software" in verdicts["warning_codes"]
