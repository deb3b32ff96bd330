"""`lldeg subset`: chosen items against pandas, what is kept against a count by hand, lm-eval as a reader."""

import json

import numpy as np
import pandas as pd
import pytest
import typer
from standin.runs import MadeTask, make_run
from typer.testing import CliRunner

from jobs.commands.subset import subset
from jobs.reruns.summary import choose_items, flips_kept
from jobs.scores.read import read_reruns
from orchestrator.errors import UserError
from orchestrator.sweep.item_subset import read_subset


@pytest.fixture
def run(tmp_path):
    """Runs the command; returns what it printed and the subset it wrote."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(subset)

    def invoke(*arguments):
        done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(tmp_path / "out")])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output, read_subset(tmp_path / "out" / "subset.json")

    return invoke


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Four seeds at two temperatures, one greedy run, one task without seeds, one that never flips."""
    rng = np.random.default_rng(1)

    def seeds(items, shift):
        ability = rng.beta(0.4, 0.4, items)
        return [(rng.random(items) < np.clip(ability - shift, 0, 1)).astype(float).tolist() for _ in range(4)]

    wavering = {}
    for variant, shift in (("base", 0.0), ("cheap", 0.15)):
        for temperature in (0.3, 0.7):
            wavering[variant, temperature] = seeds(80, shift)
        wavering[variant, 0.0] = seeds(80, shift)[:1]
    steady = {(variant, t): [[1.0, 0.0]] * 4 for variant in ("base", "cheap") for t in (0.3, 0.7)}
    choice = {(variant, 0.0): [[1.0, 0.0, 1.0]] for variant in ("base", "cheap")}
    tasks = {
        "sums": MadeTask(wavering),
        "steady": MadeTask(steady),
        "choice": MadeTask(choice, sampled=False),
    }
    return make_run(tmp_path_factory.mktemp("subset") / "run", tasks)


def _table(folder, variant, temperature):
    """Scores by item and seed, from the raw Parquet."""
    frame = pd.read_parquet(folder / "samples")
    rows = frame[
        (frame.variant == variant) & (frame.task == "sums") & np.isclose(frame.temperature, temperature)
    ].assign(score=lambda f: f["scores"].map(lambda s: s["acc,none"]))
    return rows.assign(seed=rows.seed.fillna(0)).pivot(index="item", columns="seed", values="score")


@pytest.mark.parametrize("temperature", [0.3, 0.7])
def test_chosen_items_are_those_of_pandas(run, run_folder, temperature):
    """The baseline's items with different scores over its seeds; the lowest temperature unless told."""
    options = [] if temperature == 0.3 else ["--temperature", "0.7"]
    _, chosen = run(run_folder, *options)
    table = _table(run_folder, "base", temperature)
    assert chosen.items == {"sums": tuple(table.index[table.nunique(axis=1) > 1])}


def test_the_file_names_the_runs_that_chose(run, run_folder):
    """Temperature and seeds, and the model."""
    _, chosen = run(run_folder)
    assert chosen.chosen_by.runs == ((0.3, 0), (0.3, 1), (0.3, 2), (0.3, 3))
    assert chosen.chosen_by.model == "base"


def test_the_report_says_what_is_saved_and_left(run, run_folder):
    """Saved share, tasks without flips, tasks without seeds, and fresh seeds to use."""
    shown, chosen = run(run_folder)
    saved = 100 * (1 - len(chosen.items["sums"]) / 82)
    assert f"{saved:.1f}" in shown
    for sentence in ("No item flips in steady", "all are kept: choice", "seeds: [4, 5, 6, 7]"):
        assert sentence in " ".join(shown.split())


def test_flips_kept_at_another_temperature_are_those_of_pandas(run_folder):
    """Chosen at 0.3, counted at 0.7, seed by seed."""
    cells = read_reruns([str(run_folder)]).cells
    (entry,) = [k for k in flips_kept(cells, choose_items(cells, "base", 0.3)) if k["temperature"] == 0.7]
    base, cheap = _table(run_folder, "base", 0.7), _table(run_folder, "cheap", 0.7)
    chosen = (_table(run_folder, "base", 0.3).nunique(axis=1) > 1).to_numpy()
    worse, better = (base > cheap).to_numpy(), (base < cheap).to_numpy()
    assert entry["worse"] == (worse.sum(), worse[chosen].sum())
    assert entry["better"] == (better.sum(), better[chosen].sum())
    assert entry["share"] == pytest.approx(chosen.sum() / 82)  # "steady" counts too: 2 items, none chosen


def test_at_its_own_temperature_a_run_never_chooses_for_itself(run_folder):
    """Leaving out one run of the baseline in turn, by hand."""
    cells = read_reruns([str(run_folder)]).cells
    (entry,) = [k for k in flips_kept(cells, choose_items(cells, "base", 0.3)) if k["temperature"] == 0.3]
    base, cheap = _table(run_folder, "base", 0.3), _table(run_folder, "cheap", 0.3)
    worse = 0
    for seed in range(4):
        chosen = base.drop(columns=seed).nunique(axis=1) > 1
        worse += ((base[seed] > cheap[seed]) & chosen).sum()
    assert entry["worse"][1] == worse


def test_two_runs_say_nothing_of_their_own_temperature(tmp_path):
    """With two runs none is left to choose when one is left out, so nothing is claimed."""
    task = MadeTask({(v, 0.5): [[1, 0, 1], [1, 1, 0]] for v in ("base", "cheap")})
    cells = read_reruns([str(make_run(tmp_path / "run", {"sums": task}))]).cells
    assert flips_kept(cells, choose_items(cells, "base", None)) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--baseline", "nobody"], "Name the baseline"),
        (["--temperature", "0.9"], r"several only at 0\.3, 0\.7"),
    ],
)
def test_what_is_not_there_is_refused(run, run_folder, options, said):
    """An unknown baseline or temperature, with what there is."""
    with pytest.raises(UserError, match=said):
        run(run_folder, *options)


def test_a_steady_baseline_offers_no_choice(run, tmp_path):
    """Where nothing flips there is nothing to choose; nothing is written."""
    task = MadeTask({("base", 0.5): [[1, 0], [1, 0]]})
    with pytest.raises(UserError, match="nothing to choose"):
        run(make_run(tmp_path / "run", {"sums": task}))


def test_one_run_offers_no_choice(run, tmp_path):
    """One seed is too few."""
    with pytest.raises(UserError, match="several runs of the baseline"):
        run(make_run(tmp_path / "run", {"sums": MadeTask({("base", 0.5): [[1, 0]]})}))


@pytest.mark.slow
def test_lm_eval_takes_the_file(tmp_path):
    """`lm_eval --samples` evaluates the named items only, and is not troubled by the key of ours."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    docs = tmp_path / "docs.jsonl"
    docs.write_text("".join(json.dumps({"q": f"{i}", "a": f"{i}"}) + "\n" for i in range(6)))
    (tmp_path / "toy.yaml").write_text(
        "task: toy\ndataset_path: json\ndataset_kwargs: {data_files: {test: " + str(docs) + "}}\n"
        "test_split: test\noutput_type: generate_until\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\n"
        "metric_list: [{metric: exact_match}]\n"
    )
    content = {"toy": [1, 4], "chosen_by": {"model": "m", "revision": None, "runs": [[0.3, 0]]}}
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    found = simple_evaluate("dummy", tasks=["toy"], samples=content, task_manager=manager, bootstrap_iters=0)
    assert [row["doc"]["q"] for row in found["samples"]["toy"]] == ["1", "4"]
