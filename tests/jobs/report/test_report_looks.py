"""The picture of a run that stopped early: every path between its boundaries."""

import json

import pytest
from standin.runs import make_run, tell
from standin.sequential_runs import a_sweep, make_stopped_run

import lldeg
from jobs.report.plots import look_plot
from jobs.report.server import Catalog

RATES = {
    "bad": {"worse": 0.3, "better": 0.05},
    "same": {"worse": 0.02, "better": 0.02},
    "slow": {"worse": 0.1, "better": 0.18},
}
NUMBERS = ("share", "items", "missing", "worse", "better", "drop", "level", "statistic", "boundary")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A degraded, a certified and an undecided variant, with their report."""
    folder = tmp_path_factory.mktemp("looks")
    owed = {("slow", 0.0): 0.45}
    run = make_stopped_run(folder / "run", a_sweep(RATES, {"sums": 400}, {0.0: 1}), margin=0.06, owed=owed)
    found = lldeg.analyze(run.path, out=str(folder / "out"))
    return run, found.verdicts, folder / "out" / "report.html"


def by_variant(verdicts):
    """The plots by variant."""
    return {entry["variant"]: look_plot(entry) for entry in verdicts["comparisons"]}


def last_down(plot, name):
    """How far down the last of some points is drawn, in percent."""
    return float(plot["lines"][name].split()[-1].split(",")[1])


def test_every_path_is_drawn(stopped, parsed):
    """One picture per comparison, with a point for every look that had evidence."""
    _, verdicts, report = stopped
    page = parsed(report)
    drawn = [
        attributes for tag, attributes in page.elements if tag == "svg" and attributes.get("class") == "path"
    ]
    assert len(drawn) == len(verdicts["comparisons"]) == 3
    for entry in verdicts["comparisons"]:
        assert len(by_variant(verdicts)[entry["variant"]]["path"]) == len(entry["looks"])


def test_a_decision_is_drawn_beyond_its_boundary(stopped):
    """Above that for damage, below that of the certificate, and in between without a verdict."""
    plots = by_variant(stopped[1])
    bad, same, slow = plots["bad"], plots["same"], plots["slow"]
    assert last_down(bad, "path") <= last_down(bad, "degraded")
    assert last_down(same, "path") >= last_down(same, "certified")
    assert last_down(slow, "degraded") < last_down(slow, "path") < last_down(slow, "certified")


def test_lines_stay_inside_of_the_picture(stopped):
    """All coordinates are percentages of its width and height."""
    for plot in by_variant(stopped[1]).values():
        for line in plot["lines"].values():
            numbers = line.replace(",", " ").split()
            assert all(0.0 <= float(number) <= 100.0 for number in numbers)


def test_every_number_of_a_look_is_in_the_page(stopped, parsed):
    """Read back out of the page, each is that of verdicts.json to the last digit."""
    _, verdicts, report = stopped
    numbers = parsed(report).numbers
    for entry in verdicts["comparisons"]:
        for place, look in enumerate(entry["looks"]):
            for name in NUMBERS:
                key = (entry["variant"], json.dumps(entry["temperature"]), None, f"looks.{place}.{name}")
                assert [json.loads(value) for value in numbers[key]] == [look[name]]


def test_a_run_that_answers_everything_has_no_looks(report, tmp_path):
    """Neither the section nor a link to it."""
    task = tell(["a", "b"], base=[[("x", 1), ("y", 1)]], v=[[("x", 1), ("z", 0)]])
    page = report(make_run(tmp_path / "run", {"t": task})).page
    assert not [
        1 for _, attributes in page.elements if "looks" in (attributes.get("id"), attributes.get("href"))
    ]


def test_view_shows_the_same(stopped):
    """`lldeg view` decides by the looks, too."""
    run, verdicts, _ = stopped
    (cached,) = Catalog([str(run.path)]).runs().values()
    content = cached.analyze()[0]
    assert content["verdicts"]["comparisons"] == verdicts["comparisons"]
    assert len(content["looks"]) == 3
