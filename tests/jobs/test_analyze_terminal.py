"""What `lldeg analyze` shows of the tasks on a terminal."""

import pytest
from analyze_runner import run_analyze

from jobs.text.format import broken

LONG = "leaderboard_mmlu_pro_computer_science"


@pytest.fixture
def table(tmp_path):
    """Fourteen tasks of 60 items: `bad` loses ever more from the first to the last, `same` nothing."""
    rows = ["model,task,prompt_id,score"]
    for model, step in (("base", 0), ("bad", 2), ("same", 0)):
        for task in range(14):
            name = f"task_{task}" if task < 13 else LONG
            rows += [f"{model},{name},{i},{int(step * (task - 2) <= i)}" for i in range(60)]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def tasks_in(text):
    """The first words of the lines below a title of a task table."""
    lines = text[text.index("worst task first") :].splitlines()
    return [line.split()[0] for line in lines if line.startswith(("task_", LONG))]


def test_the_most_damaged_tasks_of_a_degraded_variant_are_shown(table, tmp_path, monkeypatch):
    """The ten worst of its tasks, the worst first; of a variant without damage none; the rest is counted."""
    monkeypatch.setenv("COLUMNS", "120")
    text = run_analyze(table, out=tmp_path / "out").text
    assert tasks_in(text) == [LONG, *(f"task_{k}" for k in range(12, 3, -1))]
    assert text.count("worst task first") == 1
    assert "18 more rows of tasks are in model_comparison.csv; --tasks all shows them here." in text


@pytest.mark.slow
@pytest.mark.parametrize("shown", ["table", "markdown"])
def test_all_tasks_are_shown_on_demand(table, tmp_path, monkeypatch, shown):
    """--tasks all leaves nothing out."""
    monkeypatch.setenv("COLUMNS", "120")
    text = run_analyze(table, "--tasks", "all", "--format", shown, out=tmp_path / "out").text
    assert text.count("worst task first") == 2
    assert text.replace("\\_", "_").count("task_") == 26
    assert "--tasks all" not in text


def test_a_task_of_a_variant_that_passes_is_no_finding(tmp_path):
    """Where the whole is not degraded a single task's p-value is left to the files, and counted."""
    rows = ["model,task,prompt_id,score"]
    for i in range(400):
        rows += [
            f"base,lost,{i},1",
            f"v,lost,{i},{int(i >= 40)}",
            f"base,won,{i},0",
            f"v,won,{i},{int(i < 200)}",
        ]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    ran = run_analyze(path, "--combine", "pooled", out=tmp_path / "out")
    found = ran.comparison("v")
    assert (found["verdict"], found["tasks"][0]["verdict"]) == ("certified", "degraded")
    assert "worst task first" not in ran.text
    assert "2 more rows of tasks" in ran.text


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80])
def test_long_names_break_at_their_separators(table, tmp_path, monkeypatch, width):
    """No word of a task's name is cut, and no line is longer than the terminal is wide."""
    monkeypatch.setenv("COLUMNS", str(width))
    text = run_analyze(table, out=tmp_path / "out").text.split("Written to")[0]
    assert max(map(len, text.splitlines())) <= width
    words = {word for line in text.splitlines() for word in line.replace("_", " ").split()}
    assert {"leaderboard", "mmlu", "pro", "computer", "science"} <= words


def test_a_name_is_broken_only_where_it_must_be():
    """Short names stay, long ones break after separators, a word longer than the line stands alone."""
    assert broken("task_a", 10) == "task_a"
    assert broken("lldeg_number_words", 14) == "lldeg_number_\nwords"
    assert broken("a_averylongword_b", 6) == "a_\naverylongword_\nb"


def test_few_items_are_warned_of_once(tmp_path):
    """Three variants with nine items each are one fact, hence one warning that names them all."""
    rows = ["model,prompt_id,score", *(f"{m},{i},1" for m in ("base", "x", "y", "z") for i in range(9))]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    warnings = run_analyze(path, out=tmp_path / "out").verdicts["warnings"]
    assert [w for w in warnings if "only 9 items" in w] == [
        "x, y, z: only 9 items can be paired, too few to detect any but a drastic drop."
    ]


def test_nine_items_certify_nothing(tmp_path):
    """Three better and none worse of nine is no proof that a drop of a point is ruled out."""
    rows = [
        "model,prompt_id,score",
        *(f"base,{i},{int(i > 2)}" for i in range(9)),
        *(f"v,{i},1" for i in range(9)),
    ]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert run_analyze(path, out=tmp_path / "out").comparison("v")["verdict"] == "inconclusive"


def test_damage_in_one_task_is_told_where_the_average_could_be_chance(tmp_path, monkeypatch):
    """If a single task decides, the sentence names it; the drop over all tasks would not convince anybody."""
    monkeypatch.setenv("COLUMNS", "200")
    rows = ["model,task,prompt_id,score"]
    for i in range(60):
        rows += [f"base,hit,{i},1", f"v,hit,{i},{int(i >= 14)}"]
        rows += [f"base,even_{k},{i},{i % 2}" for k in range(5)]
        rows += [f"v,even_{k},{i},{i % 2 if i < 40 else (i + 1) % 2}" for k in range(5)]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    ran = run_analyze(path, out=tmp_path / "out")
    assert ran.comparison("v")["deciding_task"] == "hit"
    hit, text = ran.comparison("v")["tasks"][0], " ".join(ran.text.split())
    left = f"{100 * hit['drop_shrunken']:.2f} points"
    assert 20.0 < 100 * hit["drop_shrunken"] < 100 * hit["drop"]
    assert (
        f"v is worse than base because of hit: it loses 23.33 points there (about {left} after allowing for "
        "the choice of the task), and the largest drop of any task is statistically significant" in text
    )
    said = f"on task hit it is 23.33 points, and about {left} after allowing for the choice among 6 tasks"
    assert said in ran.comparison("v")["reasons"][0]
    assert said in (ran.out / "junit.xml").read_text()
    low, high = (f"{100 * end:.2f}" for end in hit["drop_interval_simultaneous"])
    assert "v, worst task first; intervals hold for all 6 tasks together" in ran.text
    assert f"+23.33 [{low}, {high}]" in ran.text
    assert "over all tasks it loses 3.89 points" in text
    assert "v (on task hit)" in ran.text
    monkeypatch.setenv("COLUMNS", "80")
    assert "(on task" not in run_analyze(path, out=tmp_path / "out").text


def test_a_gain_is_not_called_a_loss(tmp_path, monkeypatch):
    """A variant that loses one task and gains overall is worse on that task, and gains in all."""
    monkeypatch.setenv("COLUMNS", "200")
    rows = ["model,task,prompt_id,score"]
    for i in range(100):
        rows += [f"base,lost,{i},1", f"v,lost,{i},{int(i >= 20)}"]
        rows += [f"base,won,{i},{i % 2}", f"v,won,{i},{int(i % 2 or i < 60)}"]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    text = " ".join(run_analyze(path, out=tmp_path / "out").text.split())
    assert "v is worse than base because of lost: it loses 20.00 points there" in text
    assert "over all tasks it gains 5.00 points" in text
    assert "loses -" not in text
