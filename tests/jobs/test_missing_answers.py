"""A verdict on answers of which some are missing or failed."""

import json

import pyarrow.parquet as pq
import pytest
from analyze_runner import run_analyze
from standin.runs import MadeTask, cell_folder, make_run

pytestmark = pytest.mark.slow  # an analysis each

RIGHT = [1] * 700 + [0] * 300
"""What a baseline with 70 % gets right of 1,000 items."""


def write_scores(path, scores):
    """A score table; None leaves an item out."""
    rows = [f"{i},{score}" for i, score in enumerate(scores) if score is not None]
    path.write_text("\n".join(["prompt_id,score", *rows]) + "\n")
    return path


def lost_and_failed():
    """18 points worse: it fails on the 247 items that it loses, and wins 67 of those that pair."""
    variant = list(RIGHT)
    variant[:247] = [None] * 247
    variant[700:767] = [1] * 67
    return variant


@pytest.fixture
def unanswered(tmp_path):
    """A variant that leaves out 30 % of what the baseline gets right, as two score tables."""
    variant = [None if score and i % 10 < 3 else score for i, score in enumerate(RIGHT)]
    return [write_scores(tmp_path / "base.csv", RIGHT), write_scores(tmp_path / "v.csv", variant)]


@pytest.fixture
def failing(tmp_path):
    """A run whose variant is 18 points worse, its engine failing on the items that it loses."""
    task = MadeTask({("base", 0.0): [RIGHT], ("v", 0.0): [lost_and_failed()]})
    return make_run(tmp_path / "run", {"t": task})


def test_items_left_out_are_no_certificate(unanswered, tmp_path):
    """No difference on the 79 % that pair proves nothing about the rest; the gate does not pass."""
    ran = run_analyze(*unanswered, "--gate", "certified", out=tmp_path / "out")
    found = ran.comparison("v")
    assert (ran.code, found["verdict"], found["missing"]) == (3, "inconclusive", 210)
    assert found["missing_answers"] == [0, 210]
    assert "within-margin-pairs-only" in found["reason_codes"]


def test_without_a_gate_an_undecided_variant_passes(unanswered, tmp_path):
    """The default gate asks only whether anything is degraded."""
    assert run_analyze(*unanswered, out=tmp_path / "out").code == 0


def test_failures_on_what_it_loses_are_no_certificate(failing, tmp_path):
    """Answers that failed count as losses in a certificate."""
    ran = run_analyze(failing, "--gate", "certified", out=tmp_path / "out")
    found = ran.comparison("v")
    assert (ran.code, found["verdict"]) == (3, "inconclusive")
    assert (found["failed_answers"], found["missing_answers"]) == ([0, 247], [0, 0])
    assert found["drop_bounds"][0] < 0.0 < 0.17 < found["drop_bounds"][1]


def test_dropping_what_is_missing_has_to_be_said(unanswered, tmp_path):
    """--missing drop certifies on the pairs alone, and verdicts.json says that it did."""
    ran = run_analyze(*unanswered, "--gate", "certified", "--missing", "drop", out=tmp_path / "out")
    assert (ran.code, ran.comparison("v")["verdict"], ran.verdicts["missing"]) == (0, "certified", "drop")


def test_a_run_that_owes_answers_is_incomplete_whatever_is_dropped(tmp_path):
    """--missing drop does not finish a run."""
    task = MadeTask({("base", 0.0): [RIGHT], ("v", 0.0): [["owed", *RIGHT[1:]]]})
    run = make_run(tmp_path / "run", {"t": task})
    assert run_analyze(run, "--missing", "drop", out=tmp_path / "out").code == 3


def test_a_certificate_in_the_worst_case_holds_but_the_gate_stays_shut(tmp_path):
    """One failed answer of 1,000 cannot cost a point: certified; the gate names what is left to do."""
    task = MadeTask({("base", 0.0): [RIGHT], ("v", 0.0): [[None, *RIGHT[1:]]]})
    run = make_run(tmp_path / "run", {"t": task})
    ran = run_analyze(run, "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, ran.comparison("v")["verdict"]) == (3, "certified")
    assert "--missing drop" in ran.text
    assert run_analyze(run, "--gate", "certified", "--missing", "drop", out=tmp_path / "out").code == 0


def test_both_sides_are_counted_by_task(tmp_path):
    """Failures and gaps of each side and task: in verdicts.json, on screen, in Markdown and in the report."""
    lost = {"a": [[None] * 3 + RIGHT[3:], RIGHT], "b": [RIGHT, ["owed"] * 5 + RIGHT[5:]]}
    tasks = {
        name: MadeTask({("base", 0.0): [base], ("v", 0.0): [variant]})
        for name, (base, variant) in lost.items()
    }
    run = make_run(tmp_path / "run", tasks)
    ran = run_analyze(run, out=tmp_path / "out")
    assert ran.comparison("v")["gaps"] == [
        {"task": "a", "items": 3, "missing_answers": [0, 0], "failed_answers": [3, 0]},
        {"task": "b", "items": 5, "missing_answers": [0, 5], "failed_answers": [0, 0]},
    ]
    assert {"failed-answers", "owed-answers", "unpaired-items"} <= set(ran.verdicts["warning_codes"])
    sides = "b at temperature 0: baseline 0 missing, 0 failed; v 5 missing, 0 failed"
    assert sides in " ".join(ran.text.split())
    assert sides in (ran.out / "report.html").read_text()
    assert sides in run_analyze(run, "--format", "markdown", out=tmp_path / "md").text


def test_a_task_that_nobody_can_pair_counts_as_lost(tmp_path):
    """A variant that skips one of two tasks is not certified by the other."""
    tasks = {
        "a": MadeTask({("base", 0.0): [RIGHT], ("v", 0.0): [RIGHT]}),
        "b": MadeTask({("base", 0.0): [RIGHT], ("v", 0.0): [[None] * 1000]}),
    }
    run = make_run(tmp_path / "run", tasks)
    found = run_analyze(run, "--min-common", "0", out=tmp_path / "out").comparison("v")
    assert (found["verdict"], [task["task"] for task in found["tasks"]]) == ("inconclusive", ["a"])
    assert found["failed_answers"] == [0, 1000]
    assert [gap["task"] for gap in found["gaps"]] == ["b"]


def test_an_item_that_nobody_answered_is_missing(tmp_path):
    """The item tables say what was to be asked; an item that both models lack is missing on both sides."""
    owed = ["owed", *RIGHT[1:]]
    run = make_run(tmp_path / "run", {"t": MadeTask({("base", 0.0): [owed], ("v", 0.0): [owed]})})
    found = run_analyze(run, out=tmp_path / "out").comparison("v")
    assert (found["missing"], found["missing_answers"]) == (1, [1, 1])


def test_codes_are_parallel_to_sentences(failing, tmp_path):
    """Every reason and every warning has a code at the same place."""
    verdicts = run_analyze(failing, out=tmp_path / "out").verdicts
    assert len(verdicts["warning_codes"]) == len(verdicts["warnings"]) > 0
    for entry in verdicts["comparisons"]:
        assert len(entry["reason_codes"]) == len(entry["reasons"]) > 0


def test_items_with_unequal_reruns_split_their_runs(tmp_path):
    """Five items right once in two baseline runs and wrong in one of the variant: p = (2/3)^5, not 2^-5."""
    rows = ["model,rerun,prompt_id,score"]
    for model, runs in (("base", (1, 0)), ("v", (0,))):
        rows += [f"{model},{r},{i},{score}" for r, score in enumerate(runs) for i in range(5)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(rows) + "\n")
    found = run_analyze(path, out=tmp_path / "out").comparison("v")
    assert found["p_pooled"] == pytest.approx((2 / 3) ** 5, rel=1e-9)


def test_graded_runs_of_unequal_number_are_compared(tmp_path):
    """Graded scores of two runs against three reach the test one by one."""
    rows = ["model,rerun,prompt_id,score"]
    for model, runs in (("base", 3), ("v", 2)):
        rows += [f"{model},{r},{i},{(i * 7 + r) % 10 / 10}" for r in range(runs) for i in range(40)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(rows) + "\n")
    found = run_analyze(path, out=tmp_path / "out")
    assert (found.comparison("v")["reruns"], "fewer-reruns" in found.verdicts["warning_codes"]) == (
        [3, 2],
        True,
    )


def test_an_item_asked_more_often_makes_no_other_answers_missing(tmp_path):
    """Ten reruns of two of 60 items by both models; one of them then lacks four of an item."""
    rows = ["model,rerun,prompt_id,score"]
    for model in ("base", "v"):
        rows += [f"{model},0,{i},1" for i in range(60)]
        rows += [f"{model},{r},{i},1" for i in (7, 8) for r in range(1, 10)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(rows) + "\n")
    assert run_analyze(path, out=tmp_path / "whole").comparison("v")["missing_answers"] == [0, 0]
    path.write_text("\n".join(rows[:-4]) + "\n")
    assert run_analyze(path, out=tmp_path / "less").comparison("v")["missing_answers"] == [0, 4]


def test_a_document_in_two_tasks_is_one_observation(tmp_path):
    """20 documents asked in two tasks are 20 signs, not 40."""
    lost = [1] * 20
    tasks = {name: MadeTask({("base", 0.0): [lost], ("v", 0.0): [[0] * 20]}) for name in ("a", "b")}
    run = make_run(tmp_path / "run", tasks)
    apart = run_analyze(run, out=tmp_path / "apart").comparison("v")
    share_documents(run, "a", "b")
    shared = run_analyze(run, out=tmp_path / "shared").comparison("v")
    assert apart["p_pooled"] == pytest.approx(2.0**-40, rel=1e-9)
    assert shared["p_pooled"] == pytest.approx(2.0**-20, rel=1e-9)


def test_a_document_twice_in_a_task_is_one_observation(tmp_path):
    """20 items with ten documents are ten signs."""
    run = make_run(tmp_path / "run", {"a": MadeTask({("base", 0.0): [[1] * 20], ("v", 0.0): [[0] * 20]})})
    share_documents(run, "a", "a", [*range(10), *range(10)])
    found = run_analyze(run, out=tmp_path / "out").comparison("v")
    assert (found["items"], found["clusters"]) == (20, 10)
    assert found["p_pooled"] == pytest.approx(2.0**-10, rel=1e-9)


def test_one_document_twice_certifies_nothing(tmp_path):
    """A hundred grades without a drop leave a loss of a point possible, and so do 99 documents."""
    changed = [0.5 + (i % 3 - 1) / 100 for i in range(99)] + [0.5]
    task = MadeTask({("base", 0.0): [[0.5] * 100], ("v", 0.0): [changed]})
    run = make_run(tmp_path / "run", {"a": task})
    share_documents(run, "a", "a", [*range(99), 98])
    ran = run_analyze(run, "--gate", "certified", out=tmp_path / "out")
    found = ran.comparison("v")
    assert (ran.code, found["verdict"], found["clusters"]) == (3, "inconclusive", 99)


def share_documents(run, first, second, places=None):
    """Let the items of a task be the documents of another, in this order."""
    hashes = pq.read_table(run / "items" / f"{first}.parquet").column("doc_hash")
    hashes = hashes if places is None else hashes.take(places)
    path = run / "items" / f"{second}.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index("doc_hash"), "doc_hash", hashes), path)


def test_a_cluster_that_spans_tasks_is_one_block(tmp_path):
    """Ten passages with items in two tasks are ten signs; --cluster none makes them forty again."""
    lost = [1] * 20
    tasks = {
        name: MadeTask(
            {("base", 0.0): [lost], ("v", 0.0): [[0] * 20]}, clusters=[f"passage {i // 2}" for i in range(20)]
        )
        for name in ("a", "b")
    }
    run = make_run(tmp_path / "run", tasks)
    found = run_analyze(run, out=tmp_path / "out").comparison("v")
    assert found["p_pooled"] == pytest.approx(2.0**-10, rel=1e-9)
    none = run_analyze(run, "--cluster", "none", out=tmp_path / "none").comparison("v")
    assert none["p_pooled"] == pytest.approx(2.0**-40, rel=1e-9)


def test_prompt_ids_of_two_tasks_are_not_the_same_prompt(tmp_path):
    """Score tables number the prompts of every task anew: equal ids in two tasks are two prompts."""
    from typer.testing import CliRunner

    from jobs.cli import app

    rows = [f"{m},{t},{i},{int(m == 'base')}" for m in ("base", "v") for t in "ab" for i in range(20)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["model,task,prompt_id,score", *rows]) + "\n")
    CliRunner().invoke(app, ["import", str(path), "--out", str(tmp_path / "run")])
    for given in (path, tmp_path / "run"):
        found = run_analyze(given, out=tmp_path / "out").comparison("v")
        assert found["p_pooled"] == pytest.approx(2.0**-40, rel=1e-9)


def test_several_certificates_are_said(tmp_path):
    """Of two certified variants it is said what each certificate promises; --certify all is Holm's."""
    paths = [write_scores(tmp_path / f"{name}.csv", RIGHT) for name in ("base", "v", "w")]
    each = run_analyze(*paths, out=tmp_path / "each")
    assert [c["verdict"] for c in each.verdicts["comparisons"]] == ["certified"] * 2
    assert "--certify all" in " ".join(each.text.split())
    every = run_analyze(*paths, "--certify", "all", out=tmp_path / "all")
    assert every.verdicts["certify"] == "all"
    raw, adjusted = (every.comparison("v")[key] for key in ("p_noninferior", "p_noninferior_adjusted"))
    assert adjusted == pytest.approx(2 * raw)
    assert json.loads((every.out / "verdicts.json").read_text())["certify"] == "all"


@pytest.mark.parametrize(
    ("cut", "sides"),
    [(None, 0), ({"base": 9, "v": 9}, 0), ({"base": 9, "v": 10}, 1), ({"base": 10, "v": 250}, 2)],
)
def test_answers_that_the_token_limit_cut_are_said(tmp_path, cut, sides):
    """A side is named if one in a hundred of its answers was cut; fewer change less than one point."""
    scores = {("base", 0.0): [[1] * 500], ("v", 0.0): [[1] * 500]}
    run = make_run(tmp_path / "run", {"s": MadeTask(scores), "t": MadeTask(scores, cut=cut)})
    ran = run_analyze(run, out=tmp_path / "out")
    assert ran.verdicts["warning_codes"].count("cut-answers") == sides
    assert ("50% of t" in " ".join(ran.text.split())) == (sides == 2)


def test_withheld_answers_are_counted_by_side(tmp_path):
    """Verdicts.json and a warning say how many answers the provider withheld, of which side."""
    withheld = "AnswerWithheldError: the answer ended with finish_reason content_filter"
    base = [withheld] * 2 + RIGHT[2:]
    variant = [*RIGHT[:600], *[withheld] * 40, *[None] * 3, *RIGHT[643:]]
    run = make_run(tmp_path / "run", {"t": MadeTask({("base", 0.0): [base], ("v", 0.0): [variant]})})
    ran = run_analyze(run, out=tmp_path / "out")
    found = ran.comparison("v")
    assert (found["failed_answers"], found["withheld_answers"]) == ([2, 43], [2, 40])
    assert ran.verdicts["warning_codes"].count("withheld-answers") == 2
    assert "the provider withheld answers (40 of t)" in " ".join(ran.text.split())
    assert found["verdict"] == "inconclusive"


def test_prompts_that_were_cut_are_said_by_task_and_side(tmp_path):
    """However few they are: what is lost may be the question."""
    scores = {("base", 0.0): [[1] * 500], ("v", 0.0): [[1] * 500]}
    tasks = {"s": MadeTask(scores), "t": MadeTask(scores, prompt_cut={"base": 0, "v": 3})}
    ran = run_analyze(make_run(tmp_path / "run", tasks), out=tmp_path / "out")
    assert ran.verdicts["warning_codes"].count("cut-prompts") == 1
    assert "prompts of v at temperature 0 were too long and lost their beginning (3 of t)" in " ".join(
        ran.verdicts["warnings"]
    )


def test_files_without_the_column_of_cut_prompts_are_read(tmp_path):
    """Older files lack it; those that have it count, whichever comes first."""
    scores = {("base", 0.0): [[1] * 20], ("v", 0.0): [[1] * 20]}
    run = make_run(tmp_path / "run", {"t": MadeTask(scores, prompt_cut={"base": 0, "v": 20})})
    for number, path in enumerate(sorted(cell_folder(run, "v", "t").iterdir())):
        if number == 0:
            pq.write_table(pq.read_table(path, partitioning=None).drop_columns("prompt_cut"), path)
    ran = run_analyze(run, out=tmp_path / "out")
    assert "(10 of t)" in " ".join(ran.verdicts["warnings"])


def said_of(ran):
    """All warnings of an analysis as one text."""
    return " ".join(ran.verdicts["warnings"])


def silent(scores):
    """The same scores, each of an empty answer."""
    return [("", score) for score in scores]


def a_run(folder, **answers):
    """A run of one task; by model, what it gave as answers."""
    task = MadeTask({(model, 0.0): [entries] for model, entries in answers.items()})
    return make_run(folder, {"t": task})


@pytest.mark.parametrize("base", [RIGHT, silent([0] * 1000)], ids=["one side", "both sides"])
@pytest.mark.parametrize("gate", ["degraded", "certified"])
def test_a_model_that_says_nothing_gets_no_verdict(tmp_path, base, gate):
    """Neither DEGRADED nor, where both say nothing, CERTIFIED; the reason is said, and no gate passes."""
    run = a_run(tmp_path / "run", base=base, v=silent([0] * 1000))
    ran = run_analyze(run, "--gate", gate, out=tmp_path / "out")
    assert ran.code == 2
    assert "v at temperature 0 gave only empty answers to t; they count as failed" in ran.error
    assert not (ran.out / "verdicts.json").exists()


def test_a_model_that_says_nothing_keeps_no_other_from_its_verdict(tmp_path):
    """It is named as not compared, and the exit status is that of an incomplete analysis."""
    run = a_run(tmp_path / "run", base=RIGHT, v=silent([0] * 1000), w=RIGHT)
    ran = run_analyze(run, out=tmp_path / "out")
    assert (ran.code, [found["variant"] for found in ran.verdicts["comparisons"]]) == (3, ["w"])
    assert {"not-compared", "empty-answers"} <= set(ran.verdicts["warning_codes"])


def test_a_task_that_one_side_says_nothing_to_counts_as_failed(tmp_path):
    """The other task decides, and a certificate has to hold whatever the missing answers would have been."""
    tasks = {
        "a": MadeTask({("base", 0.0): [RIGHT], ("v", 0.0): [RIGHT]}),
        "b": MadeTask({("base", 0.0): [silent([0] * 1000)], ("v", 0.0): [silent([0] * 1000)]}),
    }
    ran = run_analyze(make_run(tmp_path / "run", tasks), "--gate", "certified", out=tmp_path / "out")
    found = ran.comparison("v")
    assert (ran.code, found["verdict"], found["failed_answers"]) == (3, "inconclusive", [1000, 1000])


@pytest.mark.parametrize(("count", "sides"), [(9, 0), (10, 1), (120, 1)])
@pytest.mark.parametrize("blank", ["", " \n\t "])
def test_empty_answers_are_said(tmp_path, count, sides, blank):
    """If they are one in a hundred of a side; they are scored as they are, and so the verdict stands."""
    answers = [("x" * 5000, 1)] * 500 + [(blank, 0)] * count + [("42", 1)] * (500 - count)
    run = a_run(tmp_path / "run", base=[1] * 1000, v=answers)
    ran = run_analyze(run, out=tmp_path / "out")
    assert ran.verdicts["warning_codes"].count("empty-answers") == sides
    assert (f"gave empty answers ({count / 1000:.0%} of t)" in said_of(ran)) == bool(sides)
    assert ran.comparison("v")["failed_answers"] == [0, 0]


@pytest.mark.parametrize(("other", "sides"), [("42", 0), ("41", 1)])
def test_one_and_the_same_answer_to_everything_is_said(tmp_path, other, sides):
    """If the other model's answers differ."""
    run = a_run(tmp_path / "run", base=[("42", 1)] * 99 + [(other, 1)], v=[("42", 1)] * 100)
    ran = run_analyze(run, out=tmp_path / "out")
    assert ran.verdicts["warning_codes"].count("equal-answers") == sides
    assert ("v at temperature 0 gave the same answer to all items of t" in said_of(ran)) == bool(sides)


def test_a_certificate_that_ignores_what_is_missing_says_so(tmp_path):
    """Its sentence is not that of one that holds whatever the missing answers would have been."""
    variant = [None] * 20 + RIGHT[20:]
    paths = write_scores(tmp_path / "base.csv", RIGHT), write_scores(tmp_path / "v.csv", variant)
    text = run_analyze(*paths, "--missing", "drop", out=tmp_path / "out").text
    assert "missing answers ignored" in (said := " ".join(text.split()))
    assert "whatever" not in said


BEST_CASES = {
    "drops in one task": ({"a": (30, 2, 0), "b": (20, 50, 1)}, "degraded-best-case"),
    "seven losses": ({"a": (7, 0, 3)}, "not-degraded-best-case"),
    "thirty losses": ({"a": (30, 0, 3)}, "degraded-best-case"),
}
"""By task how many items are worse, better and missing, of which the variant could gain; and what is said."""


@pytest.mark.parametrize("case", BEST_CASES)
def test_the_best_case_is_asked_of_the_test_that_decides(tmp_path, case):
    """Of all tasks, not of their pooled sum, which may not be significant at all."""
    tasks, code = BEST_CASES[case]
    base, v = ["task,prompt_id,score"], ["task,prompt_id,score"]
    for task, (worse, better, missing) in {**tasks, "other": (0, 0, 0)}.items():
        lost, gained = range(worse), range(worse, worse + better)
        gaps = range(200 - missing, 200)
        base += [f"{task},{i},{int(i not in gained and i not in gaps)}" for i in range(200)]
        v += [f"{task},{i},{int(i not in lost)}" for i in range(200) if i not in gaps]
    paths = tmp_path / "base.csv", tmp_path / "v.csv"
    for path, rows in zip(paths, (base, v), strict=True):
        path.write_text("\n".join(rows) + "\n")
    found = run_analyze(*paths, out=tmp_path / "out").comparison("v")
    assert (found["verdict"], code in found["reason_codes"]) == ("degraded", True)
    assert found["p_pooled_bounds"][1] <= found["p_pooled"] <= found["p_pooled_bounds"][0]
