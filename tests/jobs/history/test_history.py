"""`lldeg history` on folders of runs: dates, references, the alarm, and its files."""

import json
import shutil
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from standin.runs import OWED, MadeTask, make_run

pytestmark = pytest.mark.slow  # many runs each

N = 1000


def scores(right):
    """One rerun of N items, so many of them right, always the first ones."""
    return [[1] * right + [0] * (N - right)]


def day(folder, date, models, **details):
    """The run of a date: answers to one task, by model; the first model is the baseline."""
    task = MadeTask({(name, 0.0): found for name, found in models.items()}, **details)
    return make_run(folder / f"daily-2026-10-{date:02}", {"t": task})


@pytest.fixture
def daily(tmp_path):
    """Five dates with a reference and an endpoint, which loses 15 points from the fourth on."""
    for date in range(1, 6):
        right = 700 if date < 4 else 550
        day(tmp_path / "runs", date, {"reference": scores(700), "provider": scores(right)})
    return tmp_path / "runs"


def entry_of(folder):
    """history.json."""
    return json.loads((folder / "analysis" / "history.json").read_text())


def test_a_silent_change_is_found(lldeg, daily):
    """Exit status 1, the date of the alarm and the date since when the evidence counts."""
    ended = lldeg("history", daily)
    (series,) = entry_of(daily)["series"]
    assert ended.status == 1
    assert (
        "ALARM on 2026-10-04: worse than the reference, based on the evidence since 2026-10-04."
        in " ".join(ended.out.split())
    )
    assert (series["model"], series["reference"]) == ("provider", "reference")
    assert series["alarm"].startswith("2026-10-04")
    assert series["since"].startswith("2026-10-04")
    assert [point["drop"] for point in series["points"]] == pytest.approx([0, 0, 0, 0.15, 0.15])


def test_an_unknown_direction_is_said(lldeg, tmp_path):
    """An alarm about a metric of which nobody says what is worse names the option, once for all dates."""
    for date in (1, 2):
        models = {"reference": scores(700), "provider": scores(700)}
        run = day(tmp_path / "runs", date, models, metrics={"custom,none": True})
        text = (run / "manifest.json").read_text()
        (run / "manifest.json").write_text(text.replace('"higher_is_better": true', ""))
    assert lldeg("history", tmp_path / "runs").status == 0
    (warning,) = entry_of(tmp_path / "runs")["warnings"]
    assert "nothing says whether higher or lower is better" in warning


def test_no_change_is_no_alarm(lldeg, tmp_path):
    """Exit status 0; a difference that stays the same is no new evidence."""
    rng = np.random.default_rng(0)
    base = rng.random(N) < 0.7
    other = np.where(rng.random(N) < 0.05, ~base, base)
    for date in range(1, 13):
        models = {"reference": [base.astype(int).tolist()], "provider": [other.astype(int).tolist()]}
        day(tmp_path / "runs", date, models)
    assert lldeg("history", tmp_path / "runs").status == 0


def test_single_models_are_compared_with_their_first_date(lldeg, tmp_path):
    """A daily run of the endpoint alone: the oldest run is the reference."""
    for date, right in ((1, 700), (2, 700), (3, 500)):
        day(tmp_path / "runs", date, {"provider": scores(right)})
    ended = lldeg("history", tmp_path / "runs")
    (series,) = entry_of(tmp_path / "runs")["series"]
    assert ended.status == 1
    assert series["reference"] == "provider on 2026-10-01"
    assert len(series["points"]) == 2


def test_a_run_elsewhere_may_be_the_reference(lldeg, tmp_path):
    """`--reference RUN`: its baseline is what every date is compared with."""
    reference = make_run(tmp_path / "old", {"t": MadeTask({("bf16", 0.0): scores(700)})})
    for date in (1, 2):
        day(tmp_path / "runs", date, {"provider": scores(500)})
    ended = lldeg("history", tmp_path / "runs", "--reference", reference)
    (series,) = entry_of(tmp_path / "runs")["series"]
    assert (ended.status, len(series["points"])) == (1, 2)
    assert series["points"][0]["reference_score"] == pytest.approx(0.7)


def test_other_documents_under_the_same_numbers_are_refused(lldeg, tmp_path, monkeypatch):
    """Answers to other questions are not compared."""
    day(tmp_path / "runs", 1, {"provider": scores(700)})
    monkeypatch.setattr("standin.runs.digest", lambda text: f"other {text}")
    day(tmp_path / "runs", 2, {"provider": scores(700)})
    ended = lldeg("history", tmp_path / "runs")
    assert ended.status == 2
    assert "different documents" in ended.err


def first_evidence(folder):
    """By model, the evidence after the first date."""
    return {s["model"]: s["points"][0]["log_evidence"] for s in entry_of(folder)["series"]}


def test_the_level_is_shared_by_series(lldeg, tmp_path):
    """Two endpoints from the first date on: each has half of the level."""
    alone, both = tmp_path / "alone", tmp_path / "both"
    for date in (1, 2):
        day(alone, date, {"reference": scores(700), "a": scores(690)})
        day(both, date, {"reference": scores(700), "a": scores(690), "b": scores(700)})
    lldeg("history", alone)
    lldeg("history", both)
    assert first_evidence(both)["a"] == pytest.approx(first_evidence(alone)["a"] - np.log(2))


def test_a_reference_run_uses_no_level(lldeg, tmp_path):
    """The oldest run of a single model is no look: the next one has the level of a first date."""
    single, paired = tmp_path / "single", tmp_path / "paired"
    for date, right in ((1, 700), (2, 690), (3, 690)):
        day(single, date, {"a": scores(right)})
        day(paired, date, {"reference": scores(700), "a": scores(690)})
    lldeg("history", single)
    lldeg("history", paired)
    assert first_evidence(single) == first_evidence(paired)


def test_an_endpoint_that_comes_later_changes_nothing_before(lldeg, tmp_path):
    """An alarm that has been raised is not taken back, and the level of the dates before is used up."""
    alone, both = tmp_path / "alone", tmp_path / "both"
    for date in (1, 2, 3):
        models = {"reference": scores(700), "a": scores(690)}
        day(alone, date, models)
        day(both, date, models | ({"b": scores(700)} if date == 3 else {}))
    lldeg("history", alone)
    lldeg("history", both)
    assert first_evidence(both)["a"] == first_evidence(alone)["a"]


def test_a_newest_run_without_answers_is_not_a_pass(lldeg, tmp_path):
    """A job that has stopped measuring must not look healthy: exit status 3."""
    for date in (1, 2):
        day(tmp_path / "runs", date, {"reference": scores(700), "provider": scores(700)})
    day(tmp_path / "runs", 3, {"reference": scores(700), "provider": [[None] * N]})
    assert lldeg("history", tmp_path / "runs").status == 3


def test_a_date_without_any_answer_hides_no_alarm(lldeg, daily):
    """On which the server was down: it is the newest run, or an older one that stays in the folder."""
    shutil.rmtree(daily / "daily-2026-10-05" / "samples")
    ended = lldeg("history", daily)
    assert (ended.status, "ALARM on 2026-10-04" in ended.out) == (1, True)
    assert any("daily-2026-10-05 has no samples" in warning for warning in entry_of(daily)["warnings"])
    shutil.rmtree(daily / "daily-2026-10-04")
    assert lldeg("history", daily).status == 3


def test_clusters_are_the_units(lldeg, tmp_path):
    """A hundred items that fail together are one flip, not a hundred."""
    clusters = [number // 100 for number in range(N)]
    for date in (1, 2):
        models = {"reference": scores(700), "provider": scores(500)}
        day(tmp_path / "runs", date, models, clusters=clusters)
    assert lldeg("history", tmp_path / "runs").status == 0
    assert lldeg("history", tmp_path / "runs", "--cluster", "none").status == 1


def test_the_picture_is_valid_and_shows_names_as_text(lldeg, tmp_path):
    """history.svg is XML, whatever the model is called."""
    for date in (1, 2):
        day(tmp_path / "runs", date, {"reference": scores(700), "$x <b>": scores(700)})
    assert lldeg("history", tmp_path / "runs").status == 0
    text = (tmp_path / "runs" / "analysis" / "history.svg").read_text()
    assert ET.fromstring(text).tag.endswith("svg")


@pytest.mark.parametrize("names", [["2026-10-01"], ["monday", "2026-10-02"]])
def test_folders_without_a_history_are_refused(lldeg, tmp_path, names):
    """One run is no history, and a run without a date has no place in one."""
    for name in names:
        make_run(tmp_path / "runs" / name, {"t": MadeTask({("base", 0.0): scores(700)})})
    ended = lldeg("history", tmp_path / "runs")
    assert ended.status == 2
    assert ended.err.startswith("Error: ")


def test_the_picture_is_the_same_bytes_each_time(lldeg, daily):
    """Nothing in it depends on the time or on chance."""
    path = daily / "analysis" / "history.svg"
    lldeg("history", daily)
    first = path.read_bytes()
    lldeg("history", daily)
    assert path.read_bytes() == first


def test_json_is_the_file(lldeg, daily):
    """`--format json` prints what history.json holds."""
    assert json.loads(lldeg("history", daily, "--format", "json").out) == entry_of(daily)


@pytest.mark.parametrize("columns", [40, 80])
def test_no_number_is_cut_on_a_terminal(lldeg, daily, monkeypatch, columns):
    """A table that does not fit becomes lines."""
    monkeypatch.setenv("COLUMNS", str(columns))
    told = lldeg("history", daily).out
    assert "…" not in told
    assert max(map(len, told.splitlines())) <= max(columns, len("Written to ") + len(str(daily / "analysis")))
    assert "150/0" in told


def asked(chances, reruns, rng):
    """Answers of a model to items with these chances, rerun by rerun."""
    return [(rng.random(len(chances)) < chances).astype(int).tolist() for _ in range(reruns)]


def test_unequal_reruns_are_no_drop(lldeg, tmp_path):
    """Ten runs beside one: their mean is less often 0, which is no alarm; it is said that not all count."""
    rng = np.random.default_rng(1)
    for date in (1, 2, 3):
        chances = rng.beta(2, 8, N)
        models = {"reference": asked(chances, 10, rng), "provider": asked(chances, 1, rng)}
        task = MadeTask({(name, 0.7): found for name, found in models.items()})
        make_run(tmp_path / "runs" / f"2026-10-{date:02}", {"t": task})
    ended = lldeg("history", tmp_path / "runs")
    assert ended.status == 0
    assert "Warning: provider at temperature 0.7: on 3 of the dates" in ended.out
    assert len(entry_of(tmp_path / "runs")["warnings"]) == 1


@pytest.mark.parametrize("imported", [False, True])
def test_runs_with_the_same_seed_are_compared(lldeg, tmp_path, imported):
    """What another tool left has no seeds that could be trusted: which of its runs counts is drawn."""
    right = {"reference": [scores(0)[0], scores(N)[0], scores(N)[0]], "provider": [[OWED] * N, scores(N)[0]]}
    for date in (1, 2):
        task = MadeTask({(name, 0.7): found for name, found in right.items()})
        run = make_run(tmp_path / "runs" / f"2026-10-{date:02}", {"t": task})
        if imported:
            manifest = json.loads((run / "manifest.json").read_text())
            (run / "manifest.json").write_text(json.dumps(manifest | {"imported": True}))
    lldeg("history", tmp_path / "runs")
    point, _ = entry_of(tmp_path / "runs")["series"][0]["points"]
    assert point["reference_score"] == pytest.approx(2 / 3 if imported else 1.0, abs=0.05)
    assert point["score"] == 1.0


def test_items_that_only_some_reruns_answered_are_compared_by_those(lldeg, tmp_path):
    """Item by item as many as both have: the lost runs of one half leave the other half as it is."""
    reference = [[1] * N, [0] * N]
    provider = [[1] * N, [OWED] * (N // 2) + [0] * (N // 2)]
    for date in (1, 2):
        task = MadeTask({("reference", 0.7): reference, ("provider", 0.7): provider})
        make_run(tmp_path / "runs" / f"2026-10-{date:02}", {"t": task})
    lldeg("history", tmp_path / "runs")
    point, _ = entry_of(tmp_path / "runs")["series"][0]["points"]
    assert (point["worse"], point["better"], point["score"]) == (0, 0, 0.75)
