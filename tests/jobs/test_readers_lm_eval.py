"""`lldeg analyze` on what `lm_eval --log_samples` wrote, in several generations of the format."""

import json

import pytest
from analyze_runner import run_analyze
from lm_eval_maker import FIRST, SECOND, write_results, write_samples


def test_two_folders_are_baseline_and_variant(tmp_path):
    """`lldeg analyze BASE VARIANT` pairs documents; other line separators inside of a line split nothing."""
    write_samples(tmp_path / "base", [1.0] * 40, end="")
    write_samples(tmp_path / "int4", [0.0] * 20 + [1.0] * 20)
    ran = run_analyze(tmp_path / "base", tmp_path / "int4", out=tmp_path / "out")
    assert (ran.code, ran.comparison("int4")["worse"], ran.verdicts["baseline"]) == (1, 20, "base")


def test_a_row_per_filter_is_no_item_of_its_own(tmp_path):
    """Two filters of 30 documents are 30 items, tested by the first filter, and it is said."""
    for name in ("base", "v"):
        write_samples(tmp_path / name, [1.0] * 30, filters=("strict", "flexible"))
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert ran.comparison("v")["items"] == 30
    assert any("tested on exact_match,strict" in warning for warning in ran.verdicts["warnings"])


def test_the_filter_can_be_chosen(tmp_path):
    """--metric TASK=METRIC,FILTER chooses; the bare metric of two filters is ambiguous and lists both."""
    for name in ("base", "v"):
        write_samples(tmp_path / name, [1.0] * 30, filters=("strict", "flexible"))
    chosen = run_analyze(
        tmp_path / "base", tmp_path / "v", "--metric", "gsm=exact_match,flexible", out=tmp_path / "o"
    )
    assert (chosen.code, chosen.verdicts["warnings"]) == (0, [])
    vague = run_analyze(tmp_path / "base", tmp_path / "v", "--metric", "gsm=exact_match", out=tmp_path / "p")
    assert "exact_match,flexible" in vague.error


def test_older_files_without_filter_and_metrics_are_read(tmp_path):
    """JSON Lines in a .json file, without `filter` and `metrics`, with scores as words."""
    write_samples(tmp_path / "base", ["True"] * 30, old=True)
    write_samples(tmp_path / "v", ["False"] * 15 + ["True"] * 15, old=True)
    assert run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out").comparison("v")["worse"] == 15


def test_a_corpus_metric_is_refused_by_name(tmp_path):
    """A metric that is a list per sample cannot be tested: the only one there is ends in an error."""
    for name in ("base", "v"):
        write_samples(tmp_path / name, [[1, 1]] * 5)
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert ran.code == 2
    assert "exact_match: computed over the whole corpus" in ran.error


def test_a_corpus_metric_asked_for_lists_those_that_work(tmp_path):
    """Asking for the corpus metric of a task that has others names the others."""
    for name in ("base", "v"):
        write_samples(tmp_path / name, [1.0] * 5, metrics=["exact_match", "f1"], f1=[1, 1])
    ran = run_analyze(tmp_path / "base", tmp_path / "v", "--metric", "gsm=f1", out=tmp_path / "out")
    assert ran.code == 2
    assert "'exact_match,none'" in ran.error


def test_a_document_twice_in_one_file_is_refused(tmp_path):
    """Duplicate documents are not merged."""
    path = write_samples(tmp_path / "base", [1.0] * 5)
    path.write_text(path.read_text() + path.read_text().split("\n")[2] + "\n")
    write_samples(tmp_path / "v", [1.0] * 5)
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert (ran.code, "document 2 twice" in ran.error) == (2, True)


def test_nan_scores_are_refused(tmp_path):
    """NaN is not a score."""
    write_samples(tmp_path / "base", [1.0] * 5)
    write_samples(tmp_path / "v", [1.0, float("nan"), 1.0, 1.0, 1.0])
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert (ran.code, "not a finite number" in ran.error) == (2, True)


def test_other_documents_under_the_same_number_are_refused(tmp_path):
    """doc_id pairs only where doc_hash agrees."""
    write_samples(tmp_path / "base", [1.0] * 5)
    write_samples(tmp_path / "v", [1.0] * 5, doc_hash="other")
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert (ran.code, "is not the same for all models" in ran.error) == (2, True)


def test_result_sets_with_equal_arguments_are_reruns(tmp_path):
    """Two dates in one folder are two reruns if only the seed differs."""
    for date, seed in ((FIRST, 1), (SECOND, 2)):
        for name in ("base", "v"):
            write_samples(tmp_path / name, [1.0] * 30, date=date)
            write_results(tmp_path / name, date=date, model=name, temperature=0.6, gen_kwargs={"seed": seed})
    found = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out").comparison("v")
    assert (found["reruns"], found["temperature"], found["items"]) == ([2, 2], 0.6, 30)


def test_result_sets_with_other_arguments_are_refused_by_name(tmp_path):
    """Two models in one folder are no reruns: both files are named, and each can be given by itself."""
    files = []
    for date, model, scores in ((FIRST, "big", [1.0] * 40), (SECOND, "small", [0.0] * 40)):
        write_samples(tmp_path / "both", scores, date=date)
        files.append(write_results(tmp_path / "both", date=date, model=model))
    refused = run_analyze(tmp_path / "both", out=tmp_path / "a")
    assert refused.code == 2
    assert FIRST in refused.error
    assert SECOND in refused.error
    ran = run_analyze(*files, out=tmp_path / "b")
    assert (ran.code, ran.comparison("small")["worse"]) == (1, 40)


def test_other_prompts_are_warned_of(tmp_path):
    """A prompt_hash that differs for the same document is said loudly."""
    write_samples(tmp_path / "base", [1.0] * 30)
    write_samples(tmp_path / "v", [1.0] * 30, prompt_hash="other")
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert "mixed-prompts" in ran.verdicts["warning_codes"]
    assert any("30 of 30 items of gsm" in warning for warning in ran.verdicts["warnings"])


def test_a_listing_of_folders_with_a_file_of_metrics(tmp_path):
    """`checkpoint_list.json --metrics task_metrics.json`, paths taken from the folder of the listing."""
    for name in ("base", "v"):
        write_samples(tmp_path / name, [1.0] * 30, filters=("strict", "flexible"))
    (tmp_path / "list.json").write_text(json.dumps({"one": "base", "two": "v"}))
    (tmp_path / "metrics.json").write_text(json.dumps({"gsm": "exact_match,flexible"}))
    ran = run_analyze(tmp_path / "list.json", "--metrics", tmp_path / "metrics.json", out=tmp_path / "out")
    assert (ran.verdicts["baseline"], ran.comparison("two")["items"]) == ("one", 30)


def test_few_documents_are_warned_of(tmp_path):
    """Three documents decide nothing, and the reader is told."""
    for name in ("base", "v"):
        write_samples(tmp_path / name, [1.0] * 3)
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert any("only 3 items" in warning for warning in ran.verdicts["warnings"])


@pytest.mark.parametrize("line", ["not json", '{"x": 1}'])
def test_a_line_that_is_no_sample_is_named(tmp_path, line):
    """The file and the line of what cannot be read are said."""
    path = write_samples(tmp_path / "base", [1.0] * 3)
    path.write_text(path.read_text() + line + "\n")
    write_samples(tmp_path / "v", [1.0] * 3)
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert (ran.code, "Line 4" in ran.error) == (2, True)
