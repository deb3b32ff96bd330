"""Numbers that no sum can hold, columns without end, names among 14,000: each ends in a sentence."""

import json
import re

import numpy as np
import pytest
from analyze_runner import run_analyze
from lm_eval_maker import write_samples
from standin.files import write_small_sweep
from standin.runs import MadeTask, make_run

from jobs.formats.score_csv import MOST_COLUMNS
from orchestrator.sweep.tasks import TaskLibrary
from stats.arrays import LARGEST_SCORE, EvidenceError
from stats.scores import TaskScores

HUGE = 1e308
CHOICES = [(), ("--range", "scores=-1e308..1e308"), ("--margin", "scores=1e307")]


def write_tables(folder, *scores):
    """A table for each list of scores."""
    paths = [folder / f"{number}.csv" for number in range(len(scores))]
    for path, values in zip(paths, scores, strict=True):
        path.write_text("prompt_id,score\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values)))
    return paths


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_scores_that_overflow_are_refused_in_tables(tmp_path, choice):
    """With a range or a margin of their own they were certified, or computed without end."""
    ran = run_analyze(
        *write_tables(tmp_path, [HUGE, -HUGE] * 20, [-HUGE, 0.5] * 20), *choice, out=tmp_path / "o"
    )
    assert (ran.code, (tmp_path / "o").exists()) == (2, False)


def test_the_row_of_a_huge_score_is_named(tmp_path):
    """As the user sees it in a spreadsheet."""
    ran = run_analyze(*write_tables(tmp_path, [1, 0, HUGE], [1, 0, 1]), out=tmp_path / "o")
    assert "'1e+308' in row 4" in ran.error


@pytest.mark.parametrize("score", [HUGE, 10**400], ids=["a float", "an integer"])
def test_scores_that_overflow_are_refused_in_lm_evals_logs(tmp_path, score):
    """JSON has integers of any size."""
    write_samples(tmp_path / "base", [1.0, score] * 10)
    write_samples(tmp_path / "v", [1.0, 0.0] * 10)
    ran = run_analyze(tmp_path / "base", tmp_path / "v", "--range", "gsm=none", out=tmp_path / "o")
    assert (ran.code, "item 1 " in ran.error) == (2, True)


def test_scores_that_overflow_are_refused_in_runs(tmp_path):
    """Of an earlier version, or of somebody else's program."""
    task = MadeTask({("base", 0.0): [[1, HUGE]], ("v", 0.0): [[1, 0]]})
    ran = run_analyze(make_run(tmp_path / "run", {"t": task}), out=tmp_path / "o")
    assert (ran.code, "item 1 of task t in" in ran.error) == (2, True)


@pytest.mark.parametrize(("column", "most"), [("model", 1_000), ("task", 10_000), ("temperature", 1_000)])
def test_a_table_of_too_many_parts_is_refused(tmp_path, column, most):
    """Each would be a comparison, or one more task of all."""
    path = tmp_path / "table.csv"
    path.write_text(f"prompt_id,score,{column}\n" + "".join(f"i,1,{value}\n" for value in range(most + 1)))
    ran = run_analyze(path, out=tmp_path / "o")
    assert (ran.code, f"more than {most:,} values in the column {column}" in ran.error) == (2, True)


@pytest.mark.parametrize("size", [60 << 20, 0xFFFFFFFF], ids=["zip", "zip64"])
def test_an_archive_of_too_many_entries_is_refused_by_its_end(tmp_path, size, monkeypatch):
    """Before zipfile reads the list of them."""
    monkeypatch.setattr("zipfile.ZipFile", lambda *_: pytest.fail("it is opened"))
    long_record = b"PK\6\6" + bytes(36) + (60 << 20).to_bytes(8, "little") + bytes(8)
    (tmp_path / "log.eval").write_bytes(
        long_record + b"PK\5\6" + bytes(8) + size.to_bytes(4, "little") + bytes(6)
    )
    ran = run_analyze(tmp_path / "log.eval", out=tmp_path / "o")
    assert (ran.code, "more than 250,000 entries" in ran.error) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "most"), [("variants", 1_000), ("tasks", 10_000)])
def test_a_manifest_of_too_many_parts_is_refused(tmp_path, part, most):
    """As a sweep of so many is."""
    run = make_run(tmp_path / "run", {"t": MadeTask({("base", 0.0): [[1, 0]], ("v", 0.0): [[1, 0]]})})
    manifest = json.loads((run / "manifest.json").read_text())
    entry = next(iter(manifest[part].values()))
    manifest[part] = {str(number): entry for number in range(most + 1)}
    (run / "manifest.json").write_text(json.dumps(manifest))
    ran = run_analyze(run, out=tmp_path / "o")
    assert (ran.code, f"{part} (more than {most:,})" in ran.error) == (2, True)


def test_an_endless_temperature_is_refused(tmp_path):
    """No file could hold it."""
    path = tmp_path / "table.csv"
    path.write_text("prompt_id,score,temperature,model\n1,1,1e999,a\n1,1,1e999,b\n")
    ran = run_analyze(path, out=tmp_path / "o")
    assert (ran.code, "finite numbers" in ran.error) == (2, True)


@pytest.mark.parametrize(
    ("scores", "bounds"), [([HUGE], None), ([0.5], (-HUGE, HUGE))], ids=["scores", "bounds"]
)
def test_the_statistics_refuse_them_too(scores, bounds):
    """From Python there is no reader in between."""
    with pytest.raises(EvidenceError):
        TaskScores("t", np.array(scores), np.array(scores), bounds=bounds)


def test_large_scores_are_tested(tmp_path):
    """Up to the limit, with a margin in their own unit."""
    tables = write_tables(tmp_path, [LARGEST_SCORE, 0] * 20, [0, -LARGEST_SCORE] * 20)
    ran = run_analyze(*tables, "--margin", "scores=1", out=tmp_path / "o")
    assert (ran.code, ran.comparison("1")["drop"]) == (1, LARGEST_SCORE)


@pytest.mark.parametrize("columns", [MOST_COLUMNS - 2, MOST_COLUMNS - 1], ids=["the most", "too many"])
def test_columns_are_limited(tmp_path, columns):
    """Arrow takes minutes to infer the types of 100,000."""
    names = "".join(f",c{number}" for number in range(columns))
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in paths:
        path.write_text(f"prompt_id,score{names}\n" + "".join(f"{i},1{',0' * columns}\n" for i in range(20)))
    ran = run_analyze(*paths, out=tmp_path / "o")
    assert ran.code == (0 if columns == MOST_COLUMNS - 2 else 2)


@pytest.fixture
def no_index(monkeypatch):
    """Parsing all files of lm-eval's collection, which takes six seconds, is a failure."""
    monkeypatch.setattr(TaskLibrary, "_all", property(lambda _: pytest.fail("the collection was parsed")))


@pytest.mark.slow
@pytest.mark.usefixtures("no_index")
def test_an_unknown_task_is_found_without_parsing_the_collection(lldeg, tmp_path):
    """The names come from the texts of its files, the suggestion as well."""
    result = lldeg("submit", write_small_sweep(tmp_path, tasks=["gsm8", "askd"]), "--dry-run")
    assert result.status == 2
    assert set(re.findall("did you mean '(.*)'", result.err)) == {"asked", "gsm8k"}
