"""`lldeg` on JSON Lines and CSV files whose columns the user names, with numbers counted from the rows."""

import csv
import json
import random

import pytest
import typer
from analyze_runner import run_analyze
from typer.testing import CliRunner

from jobs.commands.flips import flips
from jobs.commands.import_ import import_
from jobs.commands.subset import subset
from jobs.formats.columns import FILE, parse_columns
from jobs.formats.run_files import RunFiles
from jobs.formats.samples import InputQuery
from jobs.formats.write_run import as_runs
from jobs.scores.read import read_reruns, read_scores
from orchestrator.errors import UserError

ITEMS = 60
NAMED = "item=id,score=metrics.acc,rerun=epoch,prompt=input,response=output"


def rows(seed, chance):
    """Two epochs of sixty items."""
    rng = random.Random(seed)
    return [
        {
            "id": f"q{i}",
            "epoch": epoch,
            "input": f"ask {i}",
            "output": rng.choice("abc"),
            "metrics": {"acc": float(rng.random() < chance)},
        }
        for i in range(ITEMS)
        for epoch in (1, 2)
    ]


def write_lines(path, content):
    """Write JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def write_csv(path, content):
    """The same as CSV, with metrics.acc as the name of a column."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "epoch", "input", "output", "metrics.acc"])
        writer.writerows(
            [row["id"], row["epoch"], row["input"], row["output"], row["metrics"]["acc"]] for row in content
        )
    return path


def drop(base, variant):
    """Mean difference over all rows, which are as many of every item."""
    return sum(b["metrics"]["acc"] - v["metrics"]["acc"] for b, v in zip(base, variant, strict=True)) / len(
        base
    )


@pytest.fixture
def contents():
    """Rows of a baseline and of a variant."""
    return rows(1, 0.8), rows(2, 0.6)


@pytest.mark.parametrize(("write", "ending"), [(write_lines, "jsonl"), (write_csv, "csv")])
def test_files_are_compared(tmp_path, contents, write, ending):
    """Items, reruns and drop are those of the rows; models are called as their files are."""
    paths = [write(tmp_path / f"{n}.{ending}", c) for n, c in zip(("base", "int4"), contents, strict=True)]
    found = run_analyze(*paths, "--columns", NAMED, out=tmp_path / "out").comparison("int4")
    assert (found["items"], found["reruns"]) == (ITEMS, [2, 2])
    assert found["drop"] == pytest.approx(drop(*contents), abs=1e-12)
    assert found["tasks"][0]["metric"] == "acc"


def test_columns_may_be_named_in_a_file_next_to_the_data(tmp_path, contents):
    """The file serves a folder of data, whose files are models."""
    (tmp_path / FILE).write_text("\n".join(part.replace("=", ": ") for part in NAMED.split(",")))
    for name, content in zip(("base", "int4"), contents, strict=True):
        write_lines(tmp_path / f"{name}.jsonl", content)
    found = run_analyze(tmp_path, out=tmp_path / "out").comparison("int4")
    assert found["drop"] == pytest.approx(drop(*contents), abs=1e-12)


def test_models_tasks_and_temperatures_may_be_columns(tmp_path):
    """Rows of one file are told apart by variant, task and temperature."""
    content = [
        {"i": 1, "s": True, "m": m, "t": t, "T": T}
        for m in ("a", "b")
        for t in ("x", "y")
        for T in (0, "0.5")
    ]
    path = write_lines(tmp_path / "all.jsonl", content)
    named = parse_columns(["item=i,score=s", "variant=m,task=t", "temperature=T"])
    book = read_scores([str(path)], InputQuery(columns=named))
    assert (book.models, [table.info.name for table in book.tasks]) == (("a", "b"), ["x", "y"])
    assert book.temperatures("b") == [0.0, 0.5]


def test_null_scores_and_errors_are_missing(tmp_path):
    """Neither is a wrong answer, whatever score stands beside an error."""
    content = [{"i": 1, "s": 1, "e": ""}, {"i": 2, "s": None, "e": None}, {"i": 3, "s": 0, "e": "timeout"}]
    named = parse_columns(["item=i,score=s,error=e"])
    path = write_lines(tmp_path / "a.jsonl", content)
    (table,) = read_scores([str(path)], InputQuery(columns=named)).tasks
    (column,) = table.columns.values()
    assert (column.answers.tolist(), column.errors) == ([1, 0, 0], 2)


def test_rows_and_clusters_are_chosen_by_dotted_paths(tmp_path):
    """--where keeps rows by a nested value, --cluster groups items by one."""
    content = [
        {"i": i, "s": i % 2, "meta": {"split": "test" if i < 20 else "dev", "doc": i // 4}} for i in range(40)
    ]
    paths = [write_lines(tmp_path / f"{name}.jsonl", content) for name in "ab"]
    options = ("--columns", "item=i,score=s", "--where", "meta.split=test", "--cluster", "meta.doc")
    found = run_analyze(*paths, *options, out=tmp_path / "out").comparison("b")
    assert (found["items"], found["clusters"]) == (20, 5)


def test_a_filter_by_a_column_that_is_not_there_is_refused(tmp_path):
    """It names the closest one."""
    path = write_lines(tmp_path / "a.jsonl", [{"i": 1, "s": 1, "split": "dev"}])
    reading = InputQuery(where={"splt": "dev"}, columns=parse_columns(["item=i,score=s"]))
    with pytest.raises(UserError, match=r"--where splt: .*did you mean 'split'"):
        read_scores([str(path)], reading)


def test_repeated_items_are_reruns_in_order(tmp_path):
    """Without a column for it, the second row of an item is its second rerun."""
    content = [{"i": i, "s": s} for s in (1, 0) for i in range(5)]
    path = write_lines(tmp_path / "a.jsonl", content)
    (cell,) = read_reruns([str(path)], InputQuery(columns=parse_columns(["item=i,score=s"]))).cells
    assert cell.scores.tolist() == [[1.0, 0.0]] * 5


def test_flips_import_and_subset_take_columns(tmp_path, contents):
    """Each command reads them; flips between the epochs are those of the rows."""
    path = str(write_lines(tmp_path / "base.jsonl", contents[0]))
    for command in (flips, subset, import_):
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(command)
        out = str(tmp_path / command.__name__)
        done = CliRunner().invoke(app, [path, "--columns", NAMED, "--out", out], catch_exceptions=False)
        assert done.exit_code == 0
    flipped = {r["id"] for r in contents[0] if r["metrics"]["acc"]} & {
        r["id"] for r in contents[0] if not r["metrics"]["acc"]
    }
    chosen = json.loads((tmp_path / "subset" / "subset.json").read_text())
    assert len(chosen["scores"]) == len(flipped)


def test_other_results_can_be_viewed_as_a_run(tmp_path, contents):
    """The flip browser gets a run with prompts and answers, which is gone afterwards."""
    paths = [
        str(write_lines(tmp_path / f"{n}.jsonl", c)) for n, c in zip(("base", "int4"), contents, strict=True)
    ]
    with as_runs(paths, InputQuery(columns=parse_columns([NAMED]))) as (run,):
        files = RunFiles.open(run)
        assert list(files.models) == ["base", "int4"]
    with pytest.raises(UserError):
        RunFiles.open(run)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("item=id", "does not name the column of score"),
        ("item=id,scor=metrics.acc", r"unknown role 'scor' \(did you mean 'score'"),
        ("item=id,score", "write ROLE=COLUMN"),
        ("item=id,item=id,score=metrics.acc", "names item twice"),
        ("item=id,score=metrics.acx", r"Line 1 .* has no metrics\.acx \(score\) \(did you mean 'metrics"),
        ("item=id,score=metrics.acc,prompt=inputs", r"No row of .* has inputs \(prompt\) \(did you mean"),
        ("item=metrics,score=metrics.acc", r"Line 1 of .*: metrics \(item\) is .*, not a number or a text"),
        ("item=id,score=input", r"Line 1 of .*: input \(score\) is 'ask 0', not a number"),
        ("item=id,score=metrics.acc,rerun=input", "contains item"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_columns_is_one_sentence(tmp_path, contents, columns, said):
    """It names the role and the column, and where it can the row and what was meant."""
    content = [*contents[0], *contents[0][:2]]
    path = str(write_lines(tmp_path / "a.jsonl", content))
    with pytest.raises(UserError, match=said):
        read_scores([path], InputQuery(columns=parse_columns([columns])))


def test_a_path_that_is_absent_in_one_row_is_named_with_the_row(tmp_path, contents):
    """The number of the line, counted from 1."""
    contents[0][69]["metrics"] = {}
    path = str(write_lines(tmp_path / "a.jsonl", contents[0]))
    with pytest.raises(UserError, match=r"Line 70 of .*a\.jsonl has no metrics\.acc"):
        read_scores([path], InputQuery(columns=parse_columns([NAMED])))


def test_a_few_repeated_items_are_refused(tmp_path):
    """Most occur once, so the second row is rather a mistake than a rerun."""
    path = str(write_lines(tmp_path / "a.jsonl", [{"i": i % 9, "s": 1} for i in range(10)]))
    with pytest.raises(UserError, match=r"Line 10 of .* rerun=COLUMN"):
        read_scores([path], InputQuery(columns=parse_columns(["item=i,score=s"])))


@pytest.mark.parametrize("text", ["[1]", "item: 3\nscore: acc", "item: id", "item: [", "itm: id\nscore: acc"])
def test_a_broken_file_of_columns_is_named(tmp_path, text):
    """What is wrong with it is said with its path."""
    (tmp_path / FILE).write_text(text)
    write_lines(tmp_path / "a.jsonl", [{"id": 1, "acc": 1}])
    with pytest.raises(UserError, match=FILE):
        read_scores([str(tmp_path)])


def test_columns_of_something_else_are_refused(tmp_path):
    """Where no path has rows, the option cannot be meant."""
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"applies to \.jsonl, \.ndjson and \.csv files"):
        read_scores([str(tmp_path / "a.txt")], InputQuery(columns=parse_columns(["item=i,score=s"])))
