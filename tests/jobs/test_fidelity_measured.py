"""A run whose variants scored the baseline's answers: measured, compared with the control, shown."""

import json

import numpy as np
import pyarrow as pa
import pytest
from analyze_runner import run_analyze
from standin.runs import MadeTask, make_run

import lldeg
from orchestrator.rundir.schema import FIDELITY
from orchestrator.rundir.store import RunStore
from stats.fidelity import choice_fidelity, text_fidelity

ITEMS, PLACES, TOP = 60, 5, 2
RIGHT = [1, 0] * (ITEMS // 2)
VARIANTS = {"base": 0.0, "control": 0.01, "v": 0.8}
"""By name, how far its log-probabilities are from the baseline's."""


def scores(variant, item):
    """Tokens and log-probabilities of an answer, flat."""
    draw = np.random.default_rng([item, len(variant)])
    first = np.log(0.6) - VARIANTS[variant] * draw.uniform(0.5, 1.5, PLACES)
    values = np.column_stack([first, first, np.log(0.9 - np.exp(first))])
    tokens = np.tile([7, 7, 8], (PLACES, 1))
    swapped = values[:, 2] > values[:, 1]
    tokens[swapped, 1:] = [8, 7]
    values[swapped, 1:] = values[swapped, :0:-1]
    return tokens.ravel().tolist(), values.ravel().tolist()


@pytest.fixture
def run(tmp_path):
    """A run of three variants, of which one is the control, on a text task and one with choices."""
    texts = {name: json.dumps([[-1.0, True], [-2.0 - far, False]]) for name, far in VARIANTS.items()}
    folder = make_run(
        tmp_path / "run",
        {
            "text": MadeTask({(name, 0.0): [RIGHT] for name in VARIANTS}),
            "choices": MadeTask(
                {(name, 0.0): [[(text, 1)] * ITEMS] for name, text in texts.items()}, sampled=False
            ),
        },
        variants={"base": {}, "control": {"control": True}, "v": {}},
    )
    store = RunStore(folder)
    store.write_manifest({**store.read_manifest(), "fidelity": {"top": TOP, "samples": ITEMS - 10}})
    for variant in VARIANTS:
        rows = []
        for item in range(ITEMS - 10):  # not all of them were chosen
            tokens, values = scores(variant, item)
            rows.append({"item": item, "temperature": 0.0, "tokens": tokens, "logprobs": values})
        store.fidelity.write_block(variant, "text", "b", pa.Table.from_pylist(rows, schema=FIDELITY))
    return folder


def expected(variant):
    """The mean of each number over all items of both tasks, by hand."""
    numbers = []
    for item in range(ITEMS - 10):
        sides = [
            [np.array(one).reshape(-1, TOP + 1) for one in scores(name, item)] for name in ("base", variant)
        ]
        numbers.append(text_fidelity(*zip(*sides, strict=True)))
    likelihoods = [np.array([-1.0, -2.0 - VARIANTS[name]]) for name in ("base", variant)]
    numbers += [choice_fidelity(*likelihoods)] * ITEMS
    return np.nanmean(numbers, axis=0)


def changes(comparison):
    """What changed, by measurement."""
    return {one.measurement: one for one in comparison.changes}


def test_texts_and_choices_are_measured_together(run):
    """Every number, over the items that have it."""
    found = {one.variant: changes(one) for one in lldeg.analyze(run).comparisons}
    names = ("kl", "log_ratio", "perplexity_ratio", "other_top", "first_divergence")
    for variant in ("control", "v"):
        means = [found[variant][name].variant_mean for name in names]
        assert means == pytest.approx(expected(variant), rel=1e-3, abs=1e-6)
    counts = [found["v"][name].items for name in names]
    assert counts == [2 * ITEMS - 10] * 4 + [ITEMS - 10]


def test_the_control_takes_the_baselines_place(run):
    """What is far has changed beside it; the control itself is described, and is within the tolerance."""
    control, variant = (changes(one) for one in lldeg.analyze(run).comparisons)
    assert variant["kl"].baseline_mean == pytest.approx(control["kl"].variant_mean)
    assert (variant["kl"].verdict, variant["other_top"].verdict) == ("changed", "changed")
    assert (control["kl"].verdict, control["kl"].baseline_mean) == ("within", 0.0)
    assert np.isnan(control["kl"].p)


def test_without_a_control_nothing_is_tested_for_a_change(run):
    """Any rounding is more than 0; what is small can still be shown to be within the tolerance."""
    (run / "sweep.yaml").write_text("{name: run, baseline: base}")
    control, variant = (changes(one) for one in lldeg.analyze(run).comparisons)
    assert (control["kl"].verdict, variant["kl"].verdict) == ("within", "described")
    named = [changes(one)["kl"].verdict for one in lldeg.analyze(run, control="control").comparisons]
    assert named == ["within", "changed"]


def test_the_tables_tell_the_unit(run, tmp_path):
    """In nats, not in points; and a policy may limit it."""
    ran = run_analyze(run, out=tmp_path / "out")
    assert "within 0.01 nats" in " ".join(ran.text.split())
    assert ran.verdicts["comparisons"][1]["changes"][-5]["unit"] == "nats"
    policy = {"tasks": {"*": "not-degraded"}, "measurements": {"kl": {"within": 0.02}}}
    decision = lldeg.analyze(run, policy=policy).decision
    assert [case.status for case in decision.cases if case.demand.measurement] == ["pass", "blocked"]


@pytest.mark.parametrize("content", [None, b"PAR1"])
def test_scores_that_are_not_there_make_a_run_incomplete(run, tmp_path, content):
    """Half of a pass, or a damaged file: what was not measured has not stayed the same."""
    (file,) = (path for path in (run / "fidelity").rglob("*.parquet") if "variant=v" in str(path))
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    ran = run_analyze(run, out=tmp_path / "out")
    assert ran.code == 3
    assert "(50 by v); the run is incomplete" in " ".join(ran.verdicts["warnings"])


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_probability_that_is_no_number_is_not_known(run, value):
    """It does not keep the rest from being measured."""
    store, rows = RunStore(run), []
    for item in range(ITEMS - 10):
        tokens, values = scores("v", item)
        if item < 5:
            values = [value] * len(values)
        rows.append({"item": item, "temperature": 0.0, "tokens": tokens, "logprobs": values})
    store.fidelity.write_block("v", "text", "b", pa.Table.from_pylist(rows, schema=FIDELITY))
    found = changes(lldeg.analyze(run).comparisons[1])
    assert (found["kl"].items, found["kl"].verdict) == (2 * ITEMS - 15, "changed")


def test_a_run_without_scores_has_none_of_these(run):
    """The choices alone are not asked for them."""
    store = RunStore(run)
    manifest = store.read_manifest()
    del manifest["fidelity"]
    store.write_manifest(manifest)
    assert not {"kl", "log_ratio"} & changes(lldeg.analyze(run).comparisons[1]).keys()
