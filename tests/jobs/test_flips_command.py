"""`lldeg flips` against the same counts made with pandas from the raw Parquet, and on lm-eval folders."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from standin.runs import MadeTask, make_run
from typer.testing import CliRunner

from jobs.commands.flips import flips
from jobs.reruns.plots import success_histogram, temperature_curves
from jobs.reruns.summary import summarize
from jobs.scores.read import read_reruns
from orchestrator.errors import UserError

SEEDS = 4
TEMPERATURES = (0.3, 0.8)


def _scores(rng, items, shift):
    """Scores of one model: at temperature 0 once, at the others SEEDS times."""
    ability = rng.beta(0.5, 0.5, items)

    def ask(temperature):
        chance = np.clip(ability - shift - 0.1 * temperature, 0, 1)
        return (rng.random((SEEDS, items)) < chance).astype(float).tolist()

    return {0.0: ask(0.0)[:1], **{temperature: ask(temperature) for temperature in TEMPERATURES}}


def _reword(folder, rng):
    """Give every sample a wording of its own, one of three."""
    for path in (folder / "samples").rglob("*.parquet"):
        table = pq.ParquetFile(path).read()
        words = pa.array([f"wording {w}" for w in rng.integers(0, 3, table.num_rows)])
        pq.write_table(table.set_column(table.schema.get_field_index("response"), "response", words), path)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of two variants on two tasks."""
    rng = np.random.default_rng(1)
    tasks = {}
    for name, items in (("sums", 60), ("words", 40)):
        scores = {
            (variant, temperature): reruns
            for variant, shift in (("base", 0.0), ("cheap", 0.1))
            for temperature, reruns in _scores(rng, items, shift).items()
        }
        tasks[name] = MadeTask(scores)
    folder = make_run(tmp_path_factory.mktemp("flips") / "run", tasks)
    _reword(folder, rng)
    return folder


@pytest.fixture(scope="module")
def raw(run_folder):
    """All samples as one data frame, scores as numbers."""
    frame = pd.read_parquet(run_folder / "samples")
    return frame.assign(
        score=frame["scores"].map(lambda s: s["acc,none"]), temperature=frame["temperature"].round(3)
    )


@pytest.fixture(scope="module")
def report(run_folder):
    """The summary under test."""
    return summarize(read_reruns([str(run_folder)]))


@pytest.fixture
def run(tmp_path):
    """Runs the command; returns its output folder."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(flips)

    def invoke(*arguments):
        out = tmp_path / "out"
        done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(out)])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return out

    return invoke


def _cell(report, variant, temperature, task=None):
    return next(
        c
        for c in report["cells"]
        if (c["variant"], c["temperature"], c["task"]) == (variant, temperature, task)
    )


@pytest.mark.slow
def test_success_counts_are_those_of_pandas(run, run_folder, raw):
    """Every variant, task, temperature and item."""
    cells = json.loads((run(run_folder) / "success_counts.json").read_text())
    found = {
        (c["variant"], c["task"], round(c["temperature"], 3), int(item)): count
        for c in cells
        for item, count in c["items"].items()
    }
    grouped = raw.groupby(["variant", "task", "temperature", "item"], observed=True)["score"].sum()
    assert found == {
        (v, t, round(float(temperature), 3), item): count
        for (v, t, temperature, item), count in grouped.astype(int).to_dict().items()
    }


@pytest.mark.parametrize("task", [None, "sums", "words"])
def test_histogram_and_flip_rate_are_those_of_pandas(report, raw, task):
    """Histogram of successes, accuracy, and disagreement over all pairs of seeds."""
    rows = raw[(raw.variant == "cheap") & (raw.temperature == np.float32(0.8).round(3))]
    rows = rows if task is None else rows[rows.task == task]
    table = rows.pivot_table(index=["task", "item"], columns="seed", values="score", observed=True)
    cell = _cell(report, "cheap", 0.8, task)
    counts = table.sum(axis=1).value_counts().reindex(range(SEEDS + 1), fill_value=0)
    assert cell["stability"]["histogram"] == counts.tolist()
    assert cell["accuracy"]["value"] == pytest.approx(table.to_numpy().mean())
    pairs = [(table[i] != table[j]).mean() for i in range(SEEDS) for j in range(i)]
    assert cell["flip_rate"]["value"] == pytest.approx(np.mean(pairs))


def test_text_changes_are_those_of_pandas(report, raw):
    """Pairs of runs whose wording differs and whose score does not."""
    rows = raw[(raw.variant == "base") & (raw.temperature == np.float32(0.3).round(3))]
    texts = rows.pivot(index=["task", "item"], columns="seed", values="response")
    scores = rows.pivot(index=["task", "item"], columns="seed", values="score")
    pairs = [(i, j) for i in range(SEEDS) for j in range(i)]
    changed = sum(((texts[i] != texts[j]) & (scores[i] == scores[j])).sum() for i, j in pairs)
    churn = _cell(report, "base", 0.3)["churn"]
    assert (churn["changed_same_score"], churn["items"]) == (changed, 100 * len(pairs))


def test_flips_against_the_baseline_are_those_of_pandas(report, raw):
    """Flips in both directions, seed by seed."""
    rows = raw[raw.temperature == np.float32(0.8).round(3)]
    table = rows.pivot(index=["task", "item", "seed"], columns="variant", values="score")
    entry = next(a for a in report["against"] if a["task"] is None and a["temperature"] == 0.8)
    assert entry["flips"]["worse"] == ((table.base == 1) & (table.cheap == 0)).sum()
    assert entry["flips"]["better"] == ((table.base == 0) & (table.cheap == 1)).sum()
    assert entry["flip_rate"]["value"] == pytest.approx((table.base != table.cheap).mean())


def test_variance_components_are_those_of_pandas(report, raw):
    """The textbook's nested analysis of variance, by mean squares."""
    rows = raw[(raw.variant == "base") & (raw.temperature > 0) & (raw.task == "sums")]
    cells = rows.groupby(["item", "temperature"])["score"].mean()
    items = cells.groupby("item").mean()
    within = rows.groupby(["item", "temperature"])["score"].var(ddof=1).mean()
    between_cells = SEEDS * cells.groupby("item").var(ddof=1).mean()
    between_items = SEEDS * 2 * items.var(ddof=1)
    found = next(s for s in report["sources"] if (s["variant"], s["task"]) == ("base", "sums"))["variance"]
    assert found["seed"]["value"] == pytest.approx(within)
    assert found["temperature"]["value"] == pytest.approx(max(0.0, (between_cells - within) / SEEDS))
    assert found["item"]["value"] == pytest.approx(max(0.0, (between_items - between_cells) / (2 * SEEDS)))


def test_two_directories_are_twice_the_runs(tmp_path):
    """The same seed in two directories counts as two runs, for the question is whether answers repeat."""
    for name, scores in (("one", [1, 1, 0]), ("two", [1, 0, 0])):
        make_run(tmp_path / name, {"sums": MadeTask({("base", 0.0): [scores]})})
    reruns = read_reruns([str(tmp_path / "one"), str(tmp_path / "two")])
    cell = _cell(summarize(reruns), "base", 0.0)
    assert cell["stability"]["histogram"] == [1, 1, 1]


def test_unanswered_items_are_left_out_and_counted(tmp_path):
    """An item that one seed failed on is missing, not wrong."""
    task = MadeTask({("base", 0.5): [[1, 1, None], [1, 0, 1]]})
    cell = _cell(summarize(read_reruns([str(make_run(tmp_path / "run", {"sums": task}))])), "base", 0.5)
    assert (cell["items"], cell["missing"], cell["stability"]["flipping"]) == (2, 1, 1)


def test_graded_scores_do_not_flip(run, tmp_path):
    """A task whose scores are not binary is refused by name."""
    folder = make_run(tmp_path / "run", {"essay": MadeTask({("base", 0.5): [[0.3, 0.9], [0.4, 0.9]]})})
    with pytest.raises(UserError, match="not binary: essay"):
        run(folder)


def test_lower_is_better_turns_right_and_wrong(tmp_path):
    """Where 0 is the good score, 0 counts as right."""
    task = MadeTask({("base", 0.5): [[0, 0, 1], [0, 1, 1]]}, metrics={"bad,none": False})
    cell = _cell(summarize(read_reruns([str(make_run(tmp_path / "run", {"sums": task}))])), "base", 0.5)
    assert (cell["stability"]["always_right"], cell["stability"]["always_wrong"]) == (1, 1)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--task", "sume", "no task 'sume'"),
        ("--variant", "x", "no variant 'x'"),
        ("--temperature", "9", "no matching answers"),
        ("--metric", "nothing=acc", "matches no task: nothing"),
    ],
)
def test_filters_that_match_nothing_are_refused(run, run_folder, option, value, said):
    """A mistyped filter never ends in an empty table."""
    with pytest.raises(UserError, match=said):
        run(run_folder, option, value)


def test_filters_keep_what_they_name(run, run_folder):
    """One variant, one task, one temperature."""
    out = run(run_folder, "--variant", "cheap", "--task", "words", "--temperature", "0.3")
    cells = json.loads((out / "success_counts.json").read_text())
    assert [(c["variant"], c["task"], c["temperature"]) for c in cells] == [("cheap", "words", 0.3)]


def _lm_eval_folder(folder, texts, scores, *, stamp):
    """Output of one evaluation with --log_samples, for two documents and two filters."""
    folder.mkdir(parents=True)
    config = {"model": "hf", "model_args": "pretrained=tiny", "gen_kwargs": None}
    configs = {
        "gsm": {"output_type": "generate_until", "generation_kwargs": {"do_sample": True, "temperature": 0.6}}
    }
    results = {"model_name": "tiny", "config": config, "configs": configs}
    (folder / f"results_{stamp}.json").write_text(json.dumps(results))
    rows = [
        {
            "doc_id": i,
            "doc": {},
            "filter": name,
            "metrics": ["exact_match"],
            "exact_match": score,
            "resps": [[text]],
        }
        for name in ("strict", "flexible")
        for i, (text, score) in enumerate(
            zip(texts, scores if name == "flexible" else [0.0] * 2, strict=True)
        )
    ]
    (folder / f"samples_gsm_{stamp}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_lm_eval_folders_are_reruns_of_one_model(run, tmp_path):
    """`lldeg flips task_metrics.json dir1 dir2`: the metric's filter is respected, texts are compared."""
    first = _lm_eval_folder(tmp_path / "a", ["1", "2"], [1.0, 0.0], stamp="2024-01-01T00-00-00.1")
    second = _lm_eval_folder(tmp_path / "b", ["1", "3"], [1.0, 1.0], stamp="2024-01-02T00-00-00.1")
    metrics = tmp_path / "task_metrics.json"
    metrics.write_text(json.dumps({"gsm": "exact_match,flexible"}))
    out = run(metrics, first, second)
    (counts,) = json.loads((out / "success_counts.json").read_text())
    assert (counts["variant"], counts["temperature"], counts["items"]) == ("tiny", 0.6, {"0": 2, "1": 1})
    (cell,) = [c for c in json.loads((out / "flips.json").read_text())["cells"] if c["task"] is None]
    assert cell["churn"]["changed"] == 1


def test_histogram_shows_the_counts(report):
    """The bars of each panel are the shares of the histogram, in percent."""
    figure = success_histogram(report)
    cells = [c for c in report["cells"] if c["task"] is None and c["runs"] > 1]
    assert len([axes for axes in figure.axes if axes.get_visible()]) == len(cells)
    for axes, cell in zip(figure.axes, cells, strict=False):
        bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
        shares = 100 * np.array(cell["stability"]["histogram"]) / cell["items"]
        assert [bars[k] for k in range(SEEDS + 1)] == pytest.approx(shares.tolist())


def test_curves_show_accuracy_and_flip_rate(report):
    """One line per variant; heights are the estimates, in percent."""
    left, right = temperature_curves(report).axes
    for axes, field in ((left, "accuracy"), (right, "flip_rate")):
        assert axes.get_xlabel() == "sampling temperature"
        for container, variant in zip(axes.containers, ("base", "cheap"), strict=True):
            cells = [c for c in report["curves"] if c["variant"] == variant and c[field] is not None]
            heights = container.lines[0].get_ydata()
            assert heights == pytest.approx([100 * c[field]["value"] for c in cells])


@pytest.mark.slow
def test_files_are_the_same_every_time(run, run_folder):
    """Vector and bitmap carry no date: two runs write the same bytes."""
    names = ("success_histogram.pdf", "success_histogram.png", "flips.json", "temperature_curves.pdf")
    written = []
    for _ in range(2):
        out = run(run_folder, "--variant", "base")
        written.append([(out / name).read_bytes() for name in names])
    assert written[0] == written[1]


@pytest.mark.slow
def test_no_picture_outlives_its_numbers(run, run_folder):
    """Read again at one temperature, there is no curve left from the first reading."""
    assert (run(run_folder) / "temperature_curves.png").exists()
    assert not (run(run_folder, "--temperature", "0.3") / "temperature_curves.png").exists()


@pytest.mark.slow
def test_an_unknown_temperature_is_no_obstacle(run, tmp_path):
    """Runs imported without a temperature are counted and drawn; a curve they have none."""
    task = MadeTask({("base", None): [[1, 0, 1], [1, 1, 0]]})
    folder = make_run(tmp_path / "run", {"sums": task})
    _give_seeds(folder)
    out = run(folder)
    (cell,) = json.loads((out / "success_counts.json").read_text())
    assert (cell["temperature"], cell["items"]) == (None, {"0": 2, "1": 1, "2": 1})
    assert (out / "success_histogram.png").exists()


def _give_seeds(folder):
    """Number the reruns of every item, where `make_run` sees nothing sampled."""
    for path in (folder / "samples").rglob("*.parquet"):
        table = pq.ParquetFile(path).read()
        seeds = pd.Series(table["item"].to_pylist()).groupby(table["item"].to_pylist()).cumcount()
        place = table.schema.get_field_index("seed")
        pq.write_table(table.set_column(place, "seed", pa.array(seeds, pa.int32())), path)


def test_single_runs_have_one_panel(run_folder):
    """Where nothing was repeated there is no empty picture of flips."""
    reruns = read_reruns([str(run_folder)])
    cells = tuple(
        replace(c, runs=c.runs[:1], seeds=c.seeds[:1], scores=c.scores[:, :1], answers=c.answers[:, :1])
        for c in reruns.cells
    )
    (axes,) = temperature_curves(summarize(replace(reruns, cells=cells))).axes
    assert axes.get_ylabel() == "right answers (%)"


def test_many_variants_stay_apart(run_folder):
    """Twelve lines: no two with the same colour, marker and dashes."""
    report = summarize(read_reruns([str(run_folder)], variant="base"))
    many = [{**c, "variant": f"v{k}"} for k in range(12) for c in report["curves"]]
    axes = temperature_curves({**report, "curves": many}).axes[0]
    looks = {
        (c.lines[0].get_color(), c.lines[0].get_marker(), c.lines[0].get_linestyle()) for c in axes.containers
    }
    assert len(looks) == 12


def test_pictures_clip_nothing(report):
    """All labels lie on the page."""
    for figure in (success_histogram(report), temperature_curves(report)):
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height


def test_score_tables_flip_by_their_scores(run, tmp_path):
    """Without answers there is a flip rate, and nothing about answers that changed with the same score."""
    table = tmp_path / "scores.csv"
    rows = [f"q{i},{rerun},{int((i + rerun) % 3 == 0)}" for i in range(30) for rerun in range(2)]
    table.write_text("prompt_id,rerun,score\n" + "\n".join(rows) + "\n")
    found = json.loads((run(table) / "flips.json").read_text())
    flipping = sum((i % 3 == 0) != ((i + 1) % 3 == 0) for i in range(30))
    assert found["cells"][0]["flip_rate"]["value"] == pytest.approx(flipping / 30)
    assert found["cells"][0]["churn"] is None
