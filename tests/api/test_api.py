"""The Python API: the same verdicts as the commands, as values, and errors instead of exits."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binomtest
from standin.runs import MadeTask, make_run

import lldeg


def right_or_wrong(*, worse, better, both, neither):
    """Scores of two models with these counts of items."""
    baseline = [1] * worse + [0] * better + [1] * both + [0] * neither
    variant = [0] * worse + [1] * better + [1] * both + [0] * neither
    return np.array(baseline, float), np.array(variant, float)


def score_table(path, scores):
    """A CSV file as `lldeg analyze` reads it."""
    rows = (f"{item},{score:g}" for item, score in enumerate(scores))
    path.write_text("prompt_id,score\n" + "\n".join(rows) + "\n")
    return path


def test_importing_loads_nothing_heavy():
    """`import lldeg` imports no numerics, no Arrow, no Ray, no lm-eval."""
    script = "import sys, lldeg; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"numpy", "scipy", "pyarrow", "pandas", "ray", "lm_eval", "torch"} & set(ended.stdout.split())


def test_compare_is_mcnemars_exact_test_for_single_runs():
    """Right-or-wrong answers of one run each: the one-sided exact binomial test on the flips."""
    found = lldeg.compare(*right_or_wrong(worse=30, better=12, both=300, neither=158))
    assert found.p_pooled == pytest.approx(binomtest(30, 42, alternative="greater").pvalue, rel=1e-9)
    assert (found.worse, found.better, found.drop) == (30, 12, pytest.approx(18 / 500))
    assert found.verdict == "degraded"


def test_compare_averages_reruns_first():
    """Three identical reruns are the same evidence as one run."""
    baseline, variant = right_or_wrong(worse=9, better=4, both=40, neither=47)
    once = lldeg.compare(baseline, variant)
    thrice = lldeg.compare(np.tile(baseline[:, None], 3), np.tile(variant[:, None], 3))
    assert thrice.p_pooled == pytest.approx(once.p_pooled, rel=1e-9)


def test_compare_counts_missing_answers_against_a_certificate():
    """A variant that fails on 30 % of what the baseline gets right agrees on all pairs: no certificate."""
    baseline, variant = right_or_wrong(worse=0, better=0, both=600, neither=400)
    assert lldeg.compare(baseline, variant).verdict == "certified"
    variant[:180] = np.nan
    found = lldeg.compare(baseline, variant)
    assert (found.verdict, found.missing, found.missing_answers) == ("inconclusive", 180, (0, 180))
    assert lldeg.compare(baseline, variant, missing="drop").verdict == "certified"


def test_compare_takes_clusters():
    """The smallest p-value that G clusters can give is 2^-G."""
    baseline, variant = right_or_wrong(worse=40, better=0, both=0, neither=0)
    found = lldeg.compare(baseline, variant, np.repeat(np.arange(4), 10))
    assert found.p_pooled == pytest.approx(2.0**-4)
    assert found.clusters == 4


@pytest.mark.parametrize(
    ("baseline", "variant", "options"),
    [
        ([1, 0, 1], [1, 0], {}),
        ([], [], {}),
        ([[[1]]], [[[1]]], {}),
        ([1, 0, 2], [1, 0, 1], {}),
        ([1, np.nan], [np.nan, 1], {}),
        ([1, 0], [1, 0], {"clusters": [1]}),
        ([1, 0], [1, 0], {"alpha": 2}),
        ([1, 0], [1, 0], {"margin": 0}),
    ],
)
def test_compare_refuses_what_cannot_be_compared(baseline, variant, options):
    """Bad arrays and settings are errors of one sentence."""
    with pytest.raises(lldeg.UserError, match=r"\w"):
        lldeg.compare(baseline, variant, **options)


def test_analyze_gives_what_the_command_writes(tmp_path):
    """`.verdicts` is verdicts.json, and the table has its numbers."""
    baseline, variant = right_or_wrong(worse=30, better=12, both=300, neither=158)
    paths = [
        score_table(tmp_path / f"{name}.csv", scores) for name, scores in (("a", baseline), ("b", variant))
    ]
    result = lldeg.analyze(paths, out=str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "verdicts.json").read_text()) == result.verdicts
    assert (result.baseline, result.degraded, result.exit_status()) == ("a", ("b",), 1)
    frame = result.to_frame()
    (entry,) = result.verdicts["comparisons"]
    assert frame.loc[0, ["variant", "p_pooled", "worse"]].tolist() == ["b", entry["p_pooled"], 30]
    assert result.to_frame(by_task=True)["task"].tolist() == [entry["tasks"][0]["task"]]


def test_analyze_raises_what_the_command_prints(tmp_path):
    """A path without anything to read is a UserError."""
    with pytest.raises(lldeg.UserError, match="nothing"):
        lldeg.analyze(str(tmp_path / "nothing"))


def test_the_version_is_that_of_the_package():
    """`__version__` is what pip installed."""
    from importlib.metadata import version

    assert lldeg.__version__ == version("lldeg")


def daily(folder):
    """Two dates; on the second the endpoint loses 30 points."""
    for date, right in ((1, 700), (2, 400)):
        sides = {
            ("reference", 0.0): [[1] * 700 + [0] * 300],
            ("v", 0.0): [[1] * right + [0] * (1000 - right)],
        }
        make_run(folder / f"2026-10-0{date}", {"t": MadeTask(sides)})
    return folder


def test_history_is_that_of_the_command(tmp_path):
    """The alarm with its date, the exit status, and history.json."""
    found = lldeg.history(daily(tmp_path / "runs"), out=str(tmp_path / "out"))
    (series,) = found.alarms
    assert (series.model, series.alarm.date.day, found.exit_status) == ("v", 2, 1)
    assert json.loads((tmp_path / "out" / "history.json").read_text()) == found.entry


@pytest.mark.parametrize("alpha", [0.0, 0.6, float("nan")])
def test_history_refuses_a_level_that_is_none(tmp_path, alpha):
    """As the command line does."""
    with pytest.raises(lldeg.UserError):
        lldeg.history(tmp_path, alpha=alpha)


def test_export_writes_what_the_command_writes(tmp_path):
    """Counts of files and rows; a folder with files, or a format that does not exist, is refused."""
    run = daily(tmp_path / "runs") / "2026-10-01"
    done = lldeg.export(run, to="lm-eval", out=tmp_path / "out")
    assert (done.files, done.rows) == (sum(path.is_file() for path in (tmp_path / "out").rglob("*")), 2000)
    with pytest.raises(lldeg.UserError):
        lldeg.export(run, to="lm-eval", out=tmp_path / "out")
    with pytest.raises(lldeg.UserError):
        lldeg.export(run, to="helm", out=tmp_path / "other")
