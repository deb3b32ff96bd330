"""On the real model: the baseline's own answers scored by every variant, against full distributions."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from standin.command import ROOT, finish, wait_for
from standin.files import write_sweep
from standin.rows import samples

import lldeg
from jobs.round_weights import round_folder
from stats.fidelity import NAMES, coarse_divergence

pytestmark = pytest.mark.model

TASKS, CHOICES, LIMIT, SCORED, TOP = ("lldeg_sums", "lldeg_spelling"), "lldeg_products", 10, 10, 20
ENGINE = {
    "kind": "vllm",
    "dtype": "float32",
    "max_model_len": 256,
    "max_num_seqs": 64,
    "enforce_eager": True,
    "block_size": 32,
    "kv_cache_memory_bytes": 1 << 28,
}
PASSES = [(0.0, None), (1.0, 0)]
"""What is scored: of two seeds the first."""


def place(row):
    """What a row is about."""
    return row["task"], row["item"], round(row["temperature"], 5), row["seed"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, model_folder, command):
    """A sweep that was killed while variants scored answers, and submitted again."""
    folder = tmp_path_factory.mktemp("fidelity")
    round_folder(model_folder, folder / "int4", bits=4, group_size=64)
    path = write_sweep(
        folder,
        model=str(model_folder),
        baseline="base",
        engine=ENGINE,
        variants={
            "base": {},
            "control": {"engine": {"max_num_seqs": 48}, "control": True},
            "int4": {"model": str(folder / "int4")},
        },
        include_path=str(ROOT / "configs" / "tasks" / "quickstart"),
        tasks=[{"task": task, "limit": LIMIT} for task in (*TASKS, CHOICES)],
        sampling={"temperatures": [0.0, 1.0], "seeds": 2},
        fidelity={"items": SCORED, "top": TOP},
        cluster={"replicas": 1},
    )
    run = folder / "run"
    process = command.start("submit", path, "--run-dir", run, cwd=folder)
    wait_for(lambda: list(run.glob("fidelity/variant=control/*/*.parquet")), process)
    command.end_all()
    finish(process)
    status, out, err = command.run("submit", path, "--run-dir", run, cwd=folder)
    assert status == 0, err
    assert "is complete" in out + err
    return run


@pytest.fixture(scope="module")
def distributions(run, model_folder):
    """Log-probabilities of all tokens of the baseline's answers by model and place, from transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    answers = {place(row): row["response"] for row in samples(run) if row["variant"] == "base"}
    places = {place(row) for row in samples(run, "fidelity")}
    prompts = {
        (task, row["item"]): row["prompt"]
        for task in TASKS
        for row in pq.read_table(run / "items" / f"{task}.parquet").to_pylist()
    }
    found = {}
    for name, folder in (("base", model_folder), ("int4", run.parent / "int4")):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for one in places:
            head = tokenizer(prompts[one[:2]]).input_ids
            tail = tokenizer(answers[one], add_special_tokens=False).input_ids
            with torch.inference_mode():
                logits = model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1].double()
            found[name, one] = tail, torch.log_softmax(logits, -1).numpy()
    return found


def test_every_answer_is_scored_once_by_everyone(run):
    """After a kill, too: each variant, the chosen items, the first seed of each temperature."""
    rows = samples(run, "fidelity")
    keys = [row["sample_key"] for row in rows]
    assert len(keys) == len(set(keys)) == 3 * SCORED * len(PASSES)
    assert all(row["error"] is None for row in rows)
    asked = {
        name: {place(row) for row in rows if row["variant"] == name} for name in ("base", "control", "int4")
    }
    assert asked["base"] == asked["control"] == asked["int4"]
    assert {(temperature, seed) for *_, temperature, seed in asked["base"]} == set(PASSES)
    assert {task for task, *_ in asked["base"]} == set(TASKS)


def test_the_estimate_lacks_what_it_is_said_to_lack(run, distributions):
    """At temperatures 0 and 1: the divergence of the full distributions less that within the rest."""
    rows = {(row["variant"], place(row)): row for row in samples(run, "fidelity")}
    estimates, exact = [], []
    for one in {one for _, one in rows}:
        tails, full = zip(*(distributions[model, one] for model in ("base", "int4")), strict=True)
        sides = [rows[model, one] for model in ("base", "int4")]
        tokens = tuple(np.array(side["tokens"]).reshape(-1, TOP + 1) for side in sides)
        values = tuple(np.array(side["logprobs"]).reshape(-1, TOP + 1) for side in sides)
        assert tokens[0][:, 0].tolist() == tokens[1][:, 0].tolist() == tails[0]
        for number, estimate in enumerate(coarse_divergence(tokens, values)):
            p, q = (side[number] for side in full)
            assert values[0][number] == pytest.approx(p[tokens[0][number]], abs=2e-3)
            rest = np.ones(p.size, dtype=bool)
            rest[np.intersect1d(tokens[0][number], tokens[1][number])] = False
            inner = [side[rest] - np.logaddexp.reduce(side[rest]) for side in (p, q)]
            lacking = np.exp(p[rest]).sum() * (np.exp(inner[0]) @ (inner[0] - inner[1]))
            whole = np.exp(p) @ (p - q)
            assert estimate == pytest.approx(whole - lacking, abs=2e-4)
            estimates.append(estimate)
            exact.append(whole)
    assert len(exact) > 60
    print(f"{sum(estimates) / sum(exact):.4f} of {np.mean(exact):.4f} nats, {len(exact)} places")
    assert 0.8 * sum(exact) <= sum(estimates) <= sum(exact)


def test_the_analysis_has_the_numbers_of_the_full_distributions(run, distributions):
    """Means over items, of perplexity and likeliest tokens exactly; the choices' by their log-likelihoods."""
    texts = [row for row in samples(run, "fidelity") if row["variant"] == "int4"]
    for temperature, _ in PASSES:
        expected = []
        for one in (place(row) for row in texts if place(row)[2] == temperature):
            (tail, p), (_, q) = (distributions[model, one] for model in ("base", "int4"))
            ratio = np.mean([p[i, token] - q[i, token] for i, token in enumerate(tail)])
            expected.append((ratio, np.exp(ratio), np.mean(p.argmax(1) != q.argmax(1))))
        if temperature == 0.0:
            answers = {
                (row["variant"], row["item"]): np.array([value for value, _ in json.loads(row["response"])])
                for row in samples(run)
                if row["task"] == CHOICES
            }
            for item in {item for _, item in answers}:
                p, q = (answers[name, item] for name in ("base", "int4"))
                p, q = (one - np.logaddexp.reduce(one) for one in (p, q))
                ratio = p.max() - q[p.argmax()]
                expected.append((ratio, np.exp(ratio), float(p.argmax() != q.argmax())))
        (result,) = (
            one for one in lldeg.analyze(run).comparisons
            if (one.variant, one.temperature) == ("int4", temperature)
        )  # fmt: skip
        found = {one.measurement: one for one in result.changes}
        means = [found[name].variant_mean for name in ("log_ratio", "perplexity_ratio", "other_top")]
        assert means == pytest.approx(np.mean(expected, axis=0), rel=0.02, abs=1e-3)


def test_the_control_is_the_noise_floor(run):
    """It is 0 up to rounding and not tested; what has damage has changed beside it."""
    found = {
        (one.variant, change.measurement): change
        for one in lldeg.analyze(run).comparisons
        if one.temperature == 1.0
        for change in one.changes
        if change.measurement in NAMES
    }
    floor, damaged = found["control", "kl"], found["int4", "kl"]
    assert abs(floor.variant_mean) < 1e-5
    assert (floor.baseline_mean, floor.verdict) == (0.0, "within")
    assert np.isnan(floor.p)
    assert damaged.baseline_mean == floor.variant_mean
    assert (damaged.verdict, damaged.change > 0.01) == ("changed", True)
