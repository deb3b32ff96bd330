"""The files and tables of `lldeg analyze`."""

import csv
import io
import json
from typing import get_args

import pytest
from analyze_runner import run_analyze
from standin.runs import MadeTask, make_run

from jobs.commands.analyze import Format
from jobs.report.page import FILES
from jobs.text.format import clean, p_text
from jobs.text.outputs import standard_error

FIELDS = {
    "verdict", "reasons", "items", "missing", "clusters", "reruns", "baseline_score", "variant_score", "drop",
    "drop_interval", "worse", "better", "flip_rate", "p_pooled", "p_max_drop", "p_fisher", "p_joint",
    "p_adjusted", "method", "drop_adjusted", "p_noninferior", "mde", "items_needed",
    "reason_codes", "missing_answers", "failed_answers", "drop_interval_decision", "drop_bounds",
    "p_pooled_bounds", "margin", "margin_unit", "p_noninferior_paired", "p_noninferior_adjusted",
    "decided_by", "deciding_task", "drop_interval_simultaneous", "drop_shrunken",
}  # fmt: skip
FILES_OF_A_RUN = set(FILES) - {"aggregates.csv"}  # which only a run with aggregates has
LOOKS = {"looks", "look", "looks_planned", "share_used", "stopped"}
SCALE = {"task", "metric", "higher_is_better", "range"}
HOSTILE = "[red]x|y\x1b[31m<b>"


def rows_of(path):
    """Rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def a_run(folder, variant="v"):
    """Two tasks of one group and a third; the variant loses 20 of 60 items on the first."""
    right, lost = [1] * 40 + [0] * 20, [1] * 20 + [0] * 40
    tasks = {
        "a": MadeTask({("base", 0.0): [right], (variant, 0.0): [lost]}, group="g"),
        "b": MadeTask({("base", 0.0): [right], (variant, 0.0): [right]}, group="g"),
        "c": MadeTask({("base", 0.0): [[1] * 60], (variant, 0.0): [[1] * 60]}),
    }
    return make_run(folder / "run", tasks)


@pytest.fixture
def ran(tmp_path):
    """An analysis of such a run."""
    return run_analyze(a_run(tmp_path), out=tmp_path / "out")


def test_verdicts_hold_exactly_the_fields_of_the_contract(ran):
    """Programs rely on verdicts.json: the documented fields, no more and no less, in total and per task."""
    assert set(ran.verdicts) == {
        "alpha", "margin", "missing", "certify", "certificate", "pair_by", "stopping", "baseline", "warnings",
        "warning_codes", "comparisons", "samples_digest", "spent",
    }  # fmt: skip
    (comparison,) = ran.verdicts["comparisons"]
    more = {"variant", "temperature", "gaps", "withheld_answers", "paired_share", "changes", "calls", "tasks"}
    assert set(comparison) == FIELDS | LOOKS | more | {"speed_note"}
    assert all(set(task) == FIELDS | SCALE for task in comparison["tasks"])


def names_in(folder):
    """Names of the files that can be seen."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_no_verdict_survives_a_failed_analysis(tmp_path):
    """Of an earlier one nothing is left but what somebody else put beside it."""
    run, out = a_run(tmp_path), tmp_path / "out"
    run_analyze(run, out=out)
    assert names_in(out) == FILES_OF_A_RUN - {"decision.json"}
    (out / "notes.txt").write_text("mine")
    (run / "items" / "a.parquet").write_bytes(b"PAR1")
    assert run_analyze(run, out=out).code == 2
    assert names_in(out) == {"notes.txt"}


def test_a_decision_does_not_survive_its_policy(tmp_path):
    """Analyzed without one, the folder has no decision."""
    run, out, policy = a_run(tmp_path), tmp_path / "out", tmp_path / "policy.yaml"
    policy.write_text("tasks: {'*': {require: not-degraded}}")
    run_analyze(run, "--policy", policy, out=out)
    assert names_in(out) == FILES_OF_A_RUN
    run_analyze(run, out=out)
    assert names_in(out) == FILES_OF_A_RUN - {"decision.json"}


def test_a_path_that_leads_nowhere_costs_no_verdicts(tmp_path):
    """A slip of the pen is no analysis."""
    out = tmp_path / "out"
    run_analyze(a_run(tmp_path), out=out)
    assert run_analyze(tmp_path / "rnu", out=out).code == 2
    assert "verdicts.json" in names_in(out)


def test_floats_are_written_in_full(ran):
    """A third is 0.3333333333333333 in the files, not 0.333."""
    assert ran.comparison("v")["tasks"][0]["drop"] == 1 / 3
    assert rows_of(ran.out / "model_comparison.csv")[1]["drop"] == repr(1 / 3)


def test_the_model_comparison_holds_every_task_and_the_total(ran):
    """A row per variant and task, the total first."""
    assert [row["task"] for row in rows_of(ran.out / "model_comparison.csv")] == ["all", "a", "b", "c"]


def test_differences_are_the_fourfold_table(ran):
    """A both right, b only the baseline, c only the variant, d neither; the ratios follow from them."""
    total, first, *_ = rows_of(ran.out / "model_differences.csv")
    assert [first[key] for key in "abcd"] == ["20", "20", "0", "20"]
    assert [total[key] for key in "abcd"] == ["120", "20", "0", "40"]
    assert float(total["disagreement"]) == 20 / 180


def test_the_summary_has_a_row_per_group(ran):
    """Tasks of a group are one row, of the micro average; a task without a group is its own."""
    plain = rows_of(ran.out / "summary_without_stderr.csv")
    assert [(row["group"], row["tasks"]) for row in plain] == [("g", "2"), ("c", "1")]
    assert float(plain[0]["base"]) == pytest.approx(2 / 3)
    assert float(plain[0]["v"]) == pytest.approx(1 / 2)


def test_a_standard_error_is_never_zero(ran):
    """Sixty items all right do not make the score certain."""
    assert float(rows_of(ran.out / "summary_with_stderr.csv")[1]["v_stderr"]) > 0


def test_the_standard_error_is_that_of_a_mean():
    """s/√n for one task, and weighted by items over two."""
    import numpy as np

    x, y = np.array([0.0, 1.0, 1.0, 0.5]), np.array([0.0, 1.0])
    assert standard_error([x], [(0.0, 1.0)]) == pytest.approx(x.std(ddof=1) / 2)
    expected = np.sqrt(4 * x.var(ddof=1) + 2 * y.var(ddof=1)) / 6
    assert standard_error([x, y], [(0.0, 1.0)] * 2) == pytest.approx(expected)


def test_json_on_standard_output_is_the_verdicts_alone(tmp_path):
    """--format json can be piped: what is printed is verdicts.json."""
    ran = run_analyze(a_run(tmp_path), "--format", "json", out=tmp_path / "out")
    printed = ran.text[: ran.text.rindex("}") + 1]
    assert json.loads(printed) == ran.verdicts


@pytest.mark.slow
@pytest.mark.parametrize("shown", get_args(Format))
def test_names_from_outside_do_no_harm(tmp_path, shown):
    """A name with markup, terminal escapes and table characters is shown as text in every format."""
    ran = run_analyze(a_run(tmp_path, variant=HOSTILE), "--format", shown, out=tmp_path / "out")
    assert ran.code == 1
    assert "\x1b" not in ran.text
    if shown == "markdown":
        assert r"\[red\]x\|y" in ran.text
        assert "<b>" not in ran.text
    else:
        assert "[red]" in ran.text


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_table_fits_the_terminal(tmp_path, width, monkeypatch):
    """No line is longer than the terminal is wide, and the verdict is legible in one piece."""
    monkeypatch.setenv("COLUMNS", str(width))
    ran = run_analyze(a_run(tmp_path), out=tmp_path / "o")
    table = ran.text.split("Written to")[0]
    assert max(map(len, table.splitlines())) <= width
    assert "DEGRADED" in table


def test_the_verdict_is_said_in_plain_words(ran):
    """A sentence says what degraded means, beneath the table."""
    text = " ".join(ran.text.split())
    assert "v at temperature 0 is worse than base: it loses 11.11 points" in text


@pytest.mark.parametrize(
    ("p", "text"),
    [
        *((4.8e-15, "4.8e-15"), (0.0004, "4.0e-04"), (1.0, "1"), (1e-300, "1.0e-300")),
        *((0.0502, "0.0502"), (0.0500168, "0.0500168"), (0.0499996, "0.0499996"), (0.05, "0.05")),
    ],
)
def test_p_values_keep_the_digits_that_matter(p, text):
    """A tiny p-value is never 0, and one beside the level does not round onto it."""
    assert p_text(p) == text


def test_control_characters_do_not_reach_a_terminal():
    """Escapes and direction marks are replaced, line breaks become blanks."""
    assert clean("a\x1b[31m\u202eb\nc") == "a\ufffd[31m\ufffdb c"


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    """Where the output folder cannot be made, the error says so and names --out."""
    (tmp_path / "file").write_text("")
    ran = run_analyze(a_run(tmp_path), out=tmp_path / "file" / "out")
    assert (ran.code, "--out" in ran.error) == (2, True)


def test_names_are_no_formulas_in_a_spreadsheet(tmp_path):
    """A variant or task whose name begins like a formula is text in every table; numbers stay numbers."""
    scores = {("base", 0.0): [[1, 0] * 10], ("=1+1", 0.0): [[0, 0] * 10]}
    run = make_run(tmp_path / "run", {"@t": MadeTask(scores)})
    ran = run_analyze(run, out=tmp_path / "out")
    tables = [path.read_text() for path in ran.out.glob("*.csv")]
    cells = [cell for table in tables for row in csv.reader(io.StringIO(table)) for cell in row]
    assert {"'=1+1", "'@t"} <= set(cells)
    assert [cell for cell in cells if cell.startswith(("=", "@", "+"))] == []
