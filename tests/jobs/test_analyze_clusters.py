"""`lldeg analyze --cluster` on score tables, and the exact tests of few clusters."""

import numpy as np
import pytest
from analyze_runner import run_analyze


def write_scores(path, models):
    """One table of models × 6 cases × 3 prompts with graded scores; prompt ids read case|prompt."""
    rows = [
        f"{model},case{case}|p{prompt},{scores[case][prompt]:.6f}"
        for model, scores in models.items()
        for case in range(6)
        for prompt in range(3)
    ]
    path.write_text("\n".join(["model,prompt_id,score", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path):
    """A variant that is worse on every prompt by amounts that fit no lattice, and one that is not worse."""
    rng = np.random.default_rng(1)
    base = rng.uniform(0.5, 1.0, (6, 3))
    models = {"base": base, "bad": base - rng.uniform(0.1, 0.4, (6, 3)), "same": base[::-1]}
    return write_scores(tmp_path / "scores.csv", models)


def test_a_cluster_is_what_stands_before_a_character(table, tmp_path):
    """`--cluster prompt_id:|` makes the prompts of a case a cluster: 6 of them, p = 2^−6, and exact."""
    found = run_analyze(table, "--cluster", "prompt_id:|", out=tmp_path / "out").comparison("bad")
    assert (found["clusters"], found["method"]) == (6, "exact")
    assert found["p_pooled"] == pytest.approx(2.0**-6, rel=1e-9)


def test_few_clusters_are_adjusted_by_all_their_signs(table, tmp_path):
    """Of the 64 sign vectors a whole number makes one of the two variants as bad as `bad` is."""
    found = run_analyze(table, "--cluster", "prompt_id:|", out=tmp_path / "out").comparison("bad")
    assert 64 * found["p_adjusted"] == pytest.approx(round(64 * found["p_adjusted"]), abs=1e-9)
    assert found["p_pooled"] <= found["p_adjusted"] <= 2 * found["p_pooled"]


def test_prompts_themselves_may_be_the_clusters(table, tmp_path):
    """Any column of the table will do, prompt_id too."""
    found = run_analyze(table, "--cluster", "prompt_id", out=tmp_path / "out").comparison("bad")
    assert found["clusters"] == 18


def test_an_unknown_cluster_column_names_those_that_exist(table, tmp_path):
    """The sentence lists the columns and says how a part of one can be taken."""
    for asked in ("case", "case:|"):
        ran = run_analyze(table, "--cluster", asked, out=tmp_path / "out")
        assert ran.code == 2
        assert "prompt_id" in ran.error
        assert "COLUMN:CHARACTER" in ran.error


def test_the_adjustment_is_named(table, tmp_path):
    """The terminal says by what p was adjusted and over how many comparisons, and when it was not."""
    both = " ".join(run_analyze(table, out=tmp_path / "a").text.split())
    assert "p adjusted by maxt over 2 comparisons" in both
    none = " ".join(run_analyze(table, "--adjust", "none", out=tmp_path / "b").text.split())
    assert "p unadjusted," in none


@pytest.mark.parametrize("options", [(), ("--cluster", "passage"), ("--cluster", "passage", "--policy")])
def test_a_passage_with_two_prompts_certifies_nothing(tmp_path, options):
    """A hundred grades of which 30 change by a hundredth prove no drop below a point, 99 passages no more."""
    changes = np.random.default_rng(1).permutation(np.repeat([0.01, -0.01, 0.0], [15, 15, 70]))
    scores = {"base": np.full(100, 0.5), "v": 0.5 + changes}
    rows = [f"{m},{i},{min(i, 98)},{values[i]:.2f}" for m, values in scores.items() for i in range(100)]
    table, policy = tmp_path / "scores.csv", tmp_path / "policy.yaml"
    table.write_text("\n".join(["model,prompt_id,passage,score", *rows]) + "\n")
    policy.write_text("tasks: {'*': certified}\n")
    judged = (policy,) if "--policy" in options else ("--gate", "certified")
    ran = run_analyze(table, *options, *judged, out=tmp_path / "out")
    found = ran.comparison("v")
    assert (ran.code, found["verdict"]) == (3, "inconclusive")
    assert found["clusters"] == (99 if options else None)
