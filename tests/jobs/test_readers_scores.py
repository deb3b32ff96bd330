"""`lldeg analyze` on score tables."""

import json

import pytest
from analyze_runner import run_analyze

ITEMS = 25_282
K26 = {
    "baseline rerun": (163, 168, -0.02, "6.29e-01", 1.31),
    "other GPU": (327, 363, -0.14, "9.21e-01", 2.73),
    "FP8": (1096, 1107, -0.04, "6.01e-01", 8.71),
    "KV-cache FP8": (1241, 1042, 0.79, "1.69e-05", 9.03),
    "INT4": (1816, 1378, 1.73, "4.80e-15", 12.63),
    "2:4 sparse": (2981, 2325, 2.59, "1.09e-19", 20.99),
}


def write_table(path, rows, header="prompt_id,score"):
    """Write a CSV file and return its path."""
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_pair(folder, baseline, variant):
    """Tables of two models, scores in the order of the prompts."""
    return [
        write_table(folder / f"{name}.csv", enumerate(s)) for name, s in (("a", baseline), ("b", variant))
    ]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The six published comparisons, as score tables through the command line."""
    folder = tmp_path_factory.mktemp("k26")
    half = ITEMS // 2
    listing = {"baseline": {"all": "baseline.csv"}}
    write_table(folder / "baseline.csv", ((i, int(i < half)) for i in range(ITEMS)))
    for number, (name, (b, c, *_)) in enumerate(K26.items()):
        lost = set(range(b)) | set(range(half + c, ITEMS))
        write_table(folder / f"{number}.csv", ((i, int(i not in lost)) for i in range(ITEMS)))
        listing[name] = {"all": f"{number}.csv"}
    (folder / "models.json").write_text(json.dumps(listing))
    return run_analyze(folder / "models.json", out=folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", K26)
def test_published_comparisons_come_out_to_all_printed_digits(published, name):
    """Kübler et al. 2026, table of Llama-3.1-8B: counts, drop, p and flips, CSV in and verdicts.json out."""
    worse, better, drop, p, flips = K26[name]
    found = published.comparison(name)
    assert (found["items"], found["worse"], found["better"]) == (ITEMS, worse, better)
    assert f"{100 * found['drop']:.2f}" == f"{drop:.2f}"
    assert f"{found['p_pooled']:.2e}" == p
    assert f"{100 * found['flip_rate']:.2f}" == f"{flips:.2f}"


def test_a_tiny_p_value_is_never_shown_as_zero(published):
    """4.8e-15 reads so on the terminal, in the task's own row."""
    assert "4.8e-15" in published.text
    assert " 0.0 " not in published.text


def test_the_first_model_of_a_listing_is_the_baseline(published):
    """Without --baseline the first model of the listing is it."""
    assert published.verdicts["baseline"] == "baseline"


def test_several_rows_of_a_prompt_are_reruns_averaged_first(tmp_path):
    """Four rows of each of two prompts are two items, not eight."""
    a = write_table(tmp_path / "a.csv", [(p, s) for p in "xy" for s in (1, 1, 1, 0)])
    b = write_table(tmp_path / "b.csv", [(p, s) for p in "xy" for s in (1, 0, 0, 0)])
    found = run_analyze(a, b, out=tmp_path / "out").comparison("b")
    assert (found["items"], found["drop"], found["reruns"]) == (2, 0.5, [4, 4])


def test_scores_of_0_to_100_are_shares_of_their_range(tmp_path):
    """The margin is a share of the range: on a 0–100 scale a drop of 10 is 0.1, as on a 0–1 scale."""
    small = write_pair(tmp_path, [1.0] * 30, [0.9] * 30)
    first = run_analyze(*small, out=tmp_path / "one").comparison("b")
    large = write_pair(tmp_path, [100] * 30, [90] * 30)
    second = run_analyze(*large, "--range", "scores=0..100", out=tmp_path / "hundred").comparison("b")
    assert first["drop"] == pytest.approx(0.1)
    assert second["drop"] == pytest.approx(0.1)
    assert first["p_pooled"] == pytest.approx(second["p_pooled"], rel=1e-9)


def test_one_table_can_hold_models_tasks_and_temperatures(tmp_path):
    """A column each for model, task and temperature gives a verdict per model and temperature."""
    rows = [
        (m, t, h, i, int(m == "a" or i > 9))
        for m in "ab"
        for t in "st"
        for h in (0.0, 0.7)
        for i in range(20)
    ]
    table = write_table(tmp_path / "all.csv", rows, "model,task,temperature,prompt_id,score")
    ran = run_analyze(table, out=tmp_path / "out")
    assert [(c["variant"], c["temperature"]) for c in ran.verdicts["comparisons"]] == [("b", 0.0), ("b", 0.7)]
    assert [task["task"] for task in ran.comparison("b", 0.7)["tasks"]] == ["s", "t"]


@pytest.mark.slow
def test_experiments_are_not_merged_as_reruns(tmp_path):
    """Where a further column tells repeated rows apart it is named, and --where keeps one of its values."""
    rows = [(m, e, i, r, 1) for m in "ab" for e in ("hot", "cold") for i in range(9) for r in range(2)]
    table = write_table(tmp_path / "t.csv", rows, "model,experiment,prompt_id,rerun,score")
    refused = run_analyze(table, out=tmp_path / "a")
    assert refused.code == 2
    assert "--where experiment=VALUE" in refused.error
    kept = run_analyze(table, "--where", "experiment=hot", out=tmp_path / "b")
    assert kept.comparison("b")["reruns"] == [2, 2]


def test_a_few_repeated_ids_are_an_error(tmp_path):
    """Two rows of one id among single ones are not silently a rerun."""
    a = write_table(tmp_path / "a.csv", [(i, 1) for i in range(10)] + [(3, 0)])
    b = write_table(tmp_path / "b.csv", [(i, 1) for i in range(10)])
    ran = run_analyze(a, b, out=tmp_path / "out")
    assert ran.code == 2
    assert "prompt_id '3' occurs more than once (row 12)" in ran.error


def test_clusters_come_from_a_column(tmp_path):
    """--cluster COLUMN flips the prompts of a cluster together."""
    rows = [(m, i, f"case{i // 5}", int(m == "a")) for m in "ab" for i in range(20)]
    table = write_table(tmp_path / "t.csv", rows, "model,prompt_id,case,score")
    found = run_analyze(table, "--cluster", "case", out=tmp_path / "out").comparison("b")
    assert (found["clusters"], found["p_pooled"]) == (4, pytest.approx(2.0**-4, rel=1e-9))


def test_whole_tasks_can_be_clusters(tmp_path):
    """--cluster task flips each task as one block."""
    rows = [(m, t, i, int(m == "a")) for m in "ab" for t in "stu" for i in range(20)]
    table = write_table(tmp_path / "t.csv", rows, "model,task,prompt_id,score")
    found = run_analyze(table, "--cluster", "task", out=tmp_path / "out").comparison("b")
    assert (found["clusters"], found["p_pooled"]) == (3, pytest.approx(2.0**-3, rel=1e-9))


def test_words_for_right_and_wrong_are_numbers(tmp_path):
    """True and False, as some programs write scores, are 1 and 0."""
    a, b = write_pair(tmp_path, ["True"] * 40, ["False"] * 20 + ["True"] * 20)
    assert run_analyze(a, b, out=tmp_path / "out").comparison("b")["worse"] == 20


@pytest.mark.parametrize("bad", ["abc", "nan", "", "inf", "[1, 2]"])
def test_a_score_that_is_no_number_is_refused_with_its_row(tmp_path, bad):
    """What is no finite number ends in an error that names the file and the row."""
    a, b = write_pair(tmp_path, [1, 1, 1], [1, f'"{bad}"', 1])
    ran = run_analyze(a, b, out=tmp_path / "out")
    assert ran.code == 2
    assert "b.csv" in ran.error
    assert "row 3" in ran.error


def test_nothing_in_common_is_an_error(tmp_path):
    """Two models without a common prompt give no verdict but an error."""
    a = write_table(tmp_path / "a.csv", [("x", 1), ("y", 1)])
    b = write_table(tmp_path / "b.csv", [("z", 1), ("w", 1)])
    ran = run_analyze(a, b, "--gate", "certified", out=tmp_path / "out")
    assert ran.code == 2
    assert "No item was answered by both" in ran.error


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "cannot be read"), ("prompt_id,score\n", "no rows"), ("id,score\n1,1\n", "no column prompt_id")],
)
def test_a_table_without_evidence_is_an_error(tmp_path, content, said):
    """An empty file, a header alone and a missing column are named."""
    path = tmp_path / "a.csv"
    path.write_text(content)
    ran = run_analyze(path, write_table(tmp_path / "b.csv", [(1, 1)]), out=tmp_path / "out")
    assert ran.code == 2
    assert said in ran.error


def test_an_empty_folder_is_an_error_under_a_gate(tmp_path):
    """No evidence is never a pass: an empty folder ends in exit status 2."""
    (tmp_path / "empty").mkdir()
    ran = run_analyze(tmp_path / "empty", "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, "is empty" in ran.error) == (2, True)


def test_what_is_not_there_is_said(tmp_path):
    """A path that does not exist is named."""
    assert "nowhere does not exist" in run_analyze(tmp_path / "nowhere", out=tmp_path / "out").error


@pytest.mark.parametrize(("option", "value"), [("--alpha", "0"), ("--alpha", "1.5"), ("--margin", "-1")])
def test_a_level_out_of_range_is_refused(tmp_path, option, value):
    """Level and margin must be possible."""
    a, b = write_pair(tmp_path, [1, 0], [1, 0])
    assert run_analyze(a, b, option, value, out=tmp_path / "out").code == 2


def test_a_metric_has_no_meaning_for_score_tables(tmp_path):
    """--metric on a table that has one score is a mistake worth naming."""
    a, b = write_pair(tmp_path, [1, 0], [1, 0])
    assert "--metric" in run_analyze(a, b, "--metric", "x=acc", out=tmp_path / "out").error


@pytest.mark.slow
def test_every_combination_and_adjustment_gives_a_verdict(tmp_path):
    """Each choice of --combine and --adjust runs and finds a drop of half of the items."""
    a, b = write_pair(tmp_path, [1] * 40, [0] * 20 + [1] * 20)
    for combine in ("joint", "pooled", "max-drop", "fisher", "any"):
        for adjust in ("holm", "maxt", "bh", "none"):
            ran = run_analyze(a, b, "--combine", combine, "--adjust", adjust, out=tmp_path / "out")
            assert ran.code == 1
