"""The figures' data, read back from what is drawn, and their files."""

import runpy
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from matplotlib.text import Text
from scipy.stats import norm
from typer.testing import CliRunner

from jobs.commands.configs import shipped_path
from jobs.commands.figures import figures
from jobs.text.figure_style import figure_files
from orchestrator.errors import UserError
from stats.signflip import mcnemar_p

STUDY = SimpleNamespace(**runpy.run_path(str(shipped_path("benchmarks/figures.py"))))
FIGURES = STUDY.FIGURES


@pytest.fixture(scope="module")
def drawn():
    """Every figure by name, drawn once."""
    return {draw.__name__: draw() for draw in FIGURES}


@pytest.mark.slow
@pytest.mark.parametrize("name", [draw.__name__ for draw in FIGURES])
def test_no_text_is_clipped(drawn, name):
    """Every label, tick and legend lies inside of the page."""
    figure = drawn[name]
    figure.draw_without_rendering()  # lays out
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height


@pytest.mark.parametrize("name", [draw.__name__ for draw in FIGURES])
def test_text_is_large_enough_for_half_the_size(drawn, name):
    """No text is under 10 points, so none is under 5 points at half the size."""
    texts = drawn[name].findobj(lambda artist: isinstance(artist, Text) and artist.get_text())
    assert min(text.get_fontsize() for text in texts) >= 10


def test_introduction_shows_equal_losses_and_unequal_evidence(drawn):
    """Both variants lose 1.5 points; the p-values beside them are those of the flips drawn."""
    left, right = drawn["introduction"].axes
    heights = [bar.get_height() for bar in left.patches]
    assert heights == [60.0, 58.5, 58.5]
    worse, better = (np.array([bar.get_height() for bar in c]) for c in right.containers)
    assert (worse + better).tolist() == [30, 30]
    for label, b, c in zip(right.get_xticklabels(), worse, -better, strict=True):
        assert label.get_text().endswith(f"p = {mcnemar_p(int(b), int(c)):.2g}")


def test_paired_power_is_drawn_as_computed(drawn):
    """Two lines per flip rate: solid the exact paired test, dashed the unpaired one."""
    lines = drawn["paired_power"].axes[0].lines[: 2 * len(STUDY.FLIP_RATES)]
    for number, rate in enumerate(STUDY.FLIP_RATES):
        _, *powers = STUDY.power_curves(rate)
        paired, unpaired = lines[2 * number : 2 * number + 2]
        assert (paired.get_linestyle(), unpaired.get_linestyle()) == ("-", "--")
        assert paired.get_ydata() == pytest.approx(powers[0])
        assert unpaired.get_ydata() == pytest.approx(powers[1])
        assert paired.get_xdata()[-1] == pytest.approx(100 * STUDY.DROPS[-1])


def test_unpaired_power_agrees_with_simulation():
    """The z-test for independent proportions on simulated paired answers, within one point."""
    drops, _, unpaired = STUDY.power_curves(0.09)
    place = 40  # a drop of two points
    drop, items, simulations = drops[place], 5_000, 20_000
    chances = [(0.09 + drop) / 2, (0.09 - drop) / 2, 0.6 - (0.09 + drop) / 2, 0.4 - (0.09 - drop) / 2]
    worse, better, both, _ = np.random.default_rng(1).multinomial(items, chances, simulations).T
    first, second = (both + worse) / items, (both + better) / items
    mean = (first + second) / 2
    z = (first - second) / np.sqrt(2 * mean * (1 - mean) / items)
    assert unpaired[place] == pytest.approx((z > norm.isf(0.05)).mean(), abs=0.01)


def test_map_of_p_values_is_drawn_as_computed(drawn):
    """Both panels show the map; cells with fewer flips than the drop are left open."""
    drops, flips, *maps = STUDY.p_value_map()
    for axes, values in zip(drawn["p_values"].axes[:2], maps, strict=True):
        mesh = axes.collections[0].get_array()
        assert np.ma.filled(mesh, np.nan) == pytest.approx(values, nan_ok=True)
    impossible = drops[None, :] > flips[:, None] + 1e-9
    assert (np.isnan(maps[0]) == impossible).all()


def test_map_of_p_values_is_mcnemars():
    """One cell by hand: 5,000 items, 10 % flips, a drop of 1 point."""
    drops, flips, paired, _ = STUDY.p_value_map()
    cell = paired[np.searchsorted(flips, 10.0), np.searchsorted(drops, 1.0)]
    assert cell == pytest.approx(mcnemar_p(275, 225))


@pytest.mark.slow
def test_power_over_tasks_is_drawn_as_computed(drawn):
    """Four lines in each panel, one for each test."""
    both = (STUDY.even_damage(), STUDY.single_damage())
    for axes, powers in zip(drawn["tasks_and_power"].axes, both, strict=True):
        assert [line.get_label() for line in axes.lines] == list(STUDY.TESTS.values())
        for line, field in zip(axes.lines, STUDY.TESTS, strict=True):
            assert line.get_xdata().tolist() == list(STUDY.TASKS)
            assert list(line.get_ydata()) == [found[field] for found in powers]


@pytest.mark.slow
def test_the_joint_test_is_never_far_from_the_best():
    """What the figure is drawn to show: pooled and max-drop each fail somewhere, joint nowhere."""
    even, single = STUDY.even_damage()[-1], STUDY.single_damage()[-1]
    assert even["joint"] > even["pooled"] - 0.1 > even["max-drop"] + 0.5
    assert single["joint"] > single["max-drop"] - 0.1 > single["pooled"] + 0.2


@pytest.mark.parametrize("name", [draw.__name__ for draw in FIGURES])
def test_labels_say_what_the_axes_are(drawn, name):
    """Every panel has a label or names on its horizontal axis, and the first one on its vertical axis."""
    axes = drawn[name].axes
    assert axes[0].get_ylabel()
    assert all(panel.get_xlabel() or panel.get_xticklabels()[0].get_text() for panel in axes[:2])


@pytest.mark.slow
def test_figures_are_the_same_every_time():
    """Drawn twice, the files are the same bytes."""
    first, second = (figure_files(STUDY.tasks_and_power(), "figure") for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_the_command_writes_vector_and_bitmap(tmp_path):
    """Four figures, each as PDF and PNG, and every path printed."""
    app = typer.Typer()
    app.command()(figures)
    done = CliRunner().invoke(app, ["--out", str(tmp_path / "figs")])
    names = {path.name for path in (tmp_path / "figs").iterdir()}
    assert names == {f"{draw.__name__}.{suffix}" for draw in FIGURES for suffix in ("pdf", "png")}
    assert len(done.output.split()) == len(names)


def test_an_unwritable_folder_is_one_sentence(tmp_path, monkeypatch):
    """A file in the way ends in a user's error, before a minute of drawing."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("jobs.commands.figures.run_path", lambda _: pytest.fail("it draws"))
    with pytest.raises(UserError, match="Cannot write"):
        figures(out=str(tmp_path / "file"))
