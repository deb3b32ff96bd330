"""Whatever shape a task's scores have, they arrive; code that a model wrote is scored only on request."""

import json
import re
import runpy
from math import log

import pytest
from lm_eval.api.model import LM
from standin import reference
from standin.command import ROOT
from standin.files import GENERATE, questions, write_task
from standin.lookalikes import LENGTHS, TEXTS, write_lookalikes

from orchestrator.config.schema import PromptConfig
from orchestrator.sweep.tasks import TaskError, TaskLibrary, TaskSpec

NEEDS_PERMISSION = """
import os

if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
    raise ValueError("set HF_ALLOW_CODE_EVAL to run what a model wrote")

def process_results(doc, results):
    return {"exact_match": 1.0}
"""


@pytest.mark.parametrize("allowed", [True, False])
def test_code_is_allowed_before_the_task_is_loaded(tmp_path, monkeypatch, allowed):
    """HumanEval tries code out while it is imported, so permission must be there by then, or be asked for."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "0")
    code = {"process_results": NEEDS_PERMISSION}
    name = write_task(tmp_path, "coded", questions(2), code, **GENERATE, unsafe_code=True)
    library = TaskLibrary((str(tmp_path),), allowed)
    spec = TaskSpec(task=name, include_path=library.include_path, unsafe_code=allowed)
    if allowed:
        assert library.open(spec).sampled
    else:
        with pytest.raises(TaskError, match="to allow that, set confirm_run_unsafe_code: true"):
            library.open(spec)


FAILING, RULER = "like_failing", "like_ruler"
SAID = {
    "like_humaneval": " 1",
    "like_ruler": " 2",
    "like_flores": "1 comes after naught",
    "like_gsm8k": "It is 1",
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory, model_folder):
    """Opens the look-alikes of lm-eval's tasks, by name, as a sweep does."""
    folder = tmp_path_factory.mktemp("pack")
    names = write_lookalikes(folder)
    tokenizer = str(model_folder)
    library = TaskLibrary((str(folder),), unsafe_code=True, tokenizer=tokenizer)

    def open_task(name):
        metadata = {"max_seq_lengths": LENGTHS} if name == "like_ruler" else {}
        facts = {"include_path": (str(folder),), "unsafe_code": True, "tokenizer": tokenizer}
        return library.open(TaskSpec(task=name, metadata=metadata, **facts))

    return names.values(), open_task, folder


class Fixed(LM):
    """A model that gives the items of a task the same text, and likelihoods that depend on the words."""

    def generate_until(self, requests, disable_tqdm=False):
        """The text of the task, and the number of every second item."""
        ends = [str(request.doc_id) if request.doc_id % 2 else "" for request in requests]
        return [f"{SAID.get(one.task_name, 'naught')} {end}" for one, end in zip(requests, ends, strict=True)]

    def loglikelihood(self, requests, disable_tqdm=False):
        """Longer continuations are less likely, some of them greedy."""
        return [(-len(request.args[1]) - request.doc_id / 7, request.doc_id % 3 == 0) for request in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        """By length."""
        return [-len(request.args[0]) / 3 for request in requests]


@pytest.fixture(scope="module")
def scored(pack):
    """Per task: its scores, the samples as lldeg scores them by item, and what lm-eval gives for the same."""
    names, open_task, folder = pack
    tasks = {name: open_task(name) for name in names}
    told = reference.results(
        Fixed(),
        folder,
        [name for name in names if name != FAILING],
        tokenizer=tasks[RULER].spec.tokenizer,
        max_seq_lengths=LENGTHS,
    )
    found = {}
    for name, task in tasks.items():
        built = task.build(PromptConfig(), None, "plain")
        said = {item: getattr(Fixed(), asked[0].request_type)(asked) for item, asked in built.items()}
        batch = [(asked, [[one] for one in said[item]]) for item, asked in built.items()]
        samples = dict(zip(built, task.score_each(batch), strict=True))
        found[name] = task, samples, None if name == FAILING else told
    return found


def numbers_of(told, name):
    """Every number that lm-eval logs, by item and "metric,filter", except marks of items of another kind."""
    return {
        (sample["doc_id"], f"{metric},{sample['filter']}"): float(sample[metric])
        for sample in told["samples"][name]
        for metric in sample["metrics"]
        if isinstance(sample[metric], (int, float)) and sample[metric] != -1
    }


@pytest.mark.slow
def test_every_number_of_lm_eval_arrives(scored):
    """Whatever a task's scores are called, each number of each item is lm-eval's own."""
    for name, (_, samples, told) in scored.items():
        if told is not None:
            numbers = numbers_of(told, name)
            assert numbers == {place: samples[place[0]].scores[place[1]] for place in numbers}, name


def test_every_aggregate_of_lm_eval_arrives(scored):
    """Perplexities, BLEU, F1, the score of a length: lm-eval's aggregate of the same answers, or the mean."""
    for name, (task, samples, told) in scored.items():
        if told is None:
            continue
        values = {}
        for sample in samples.values():
            stored = json.loads(sample.corpus_values or "{}")
            for metric, value in {**sample.scores, **stored}.items():
                values.setdefault(metric, []).append(value)
        aggregates = task.scores.aggregates(values)
        expected = {
            key: value
            for key, value in told["results"][name].items()
            if "," in key and "_stderr" not in key and value != -1
        }
        means = {key: sum(values[key]) / len(values[key]) for key in expected.keys() - aggregates.keys()}
        assert {**aggregates, **means} == pytest.approx(expected, rel=1e-9), name


def test_every_item_has_the_score_that_decides(scored):
    """A paired test needs one number per item; where a corpus alone has a score, none decides."""
    for name, (task, samples, told) in scored.items():
        decides = task.scores.deciding_metric
        assert (decides is None) == (name == "like_spans")
        if told is not None and decides is not None:
            assert all(decides in sample.scores for sample in samples.values()), name


def test_a_function_that_gives_several_numbers_decides_by_its_first(scored):
    """pass_at_k gives pass@1 and pass@10: each has a name of its own, and the function has the first."""
    for sample in scored["like_humaneval"][1].values():
        assert sample.scores.keys() == {f"{name},create_test" for name in ("pass_at_k", "pass@1", "pass@10")}
        assert sample.scores["pass_at_k,create_test"] == sample.scores["pass@1,create_test"]


def test_the_number_of_a_text_is_its_negative_log_likelihood_per_unit(scored):
    """Per word, per byte, and in bits per byte: lower is better, without a range."""
    task, samples, _ = scored["like_wikitext"]
    for text, sample in zip(TEXTS, samples.values(), strict=True):
        likelihood, size = len(text["text"]) / 3, len(text["text"].encode())
        assert sample.scores == pytest.approx(
            {
                "word_perplexity,none": likelihood / len(text["text"].split()),
                "byte_perplexity,none": likelihood / size,
                "bits_per_byte,none": likelihood / size / log(2),
            }
        )
    assert task.scores.metrics["byte_perplexity,none"] == {
        "higher_is_better": False,
        "range": "none",
        "unit": "nats per byte",
    }


def test_an_item_of_another_length_has_no_score_under_a_length(scored):
    """RULER's -1 is no score; the item's own decides, also under a length that the task does not declare."""
    _, samples, _ = scored["like_ruler"]
    found = [{name for name in sample.scores if name != "own_score,none"} for sample in samples.values()]
    assert found == [{f"{length},none"} for length in LENGTHS for _ in range(4)]
    assert all(sample.scores["own_score,none"] in sample.scores.values() for sample in samples.values())


def test_what_a_task_cannot_score_is_an_error_with_the_reason(scored):
    """The others of the task are scored."""
    _, samples, _ = scored["like_failing"]
    assert [getattr(sample, "reason", None) for sample in samples.values()] == [
        None,
        "ZeroDivisionError: this document has no score",
    ] * 2


@pytest.mark.parametrize("value", ["None", "float('nan')", "'much'", "[1.0]", "{}"])
def test_an_answer_without_the_score_that_decides_is_an_error(tmp_path, value):
    """Whatever the task's code gives instead of a number, the row says what is missing."""
    code = f"def process_results(doc, results):\n    return {{'exact_match': {value}, 'other': 1}}\n"
    name = write_task(tmp_path, "t", questions(1), {"process_results": code}, **GENERATE)
    task = TaskLibrary((str(tmp_path),)).open(TaskSpec(task=name, include_path=(str(tmp_path),)))
    (requests,) = task.build(PromptConfig(), None, "plain").values()
    (scored,) = task.score_each([(requests, [["1"]])])
    assert scored.reason.startswith(
        "MissingScoreError: the task gave no number for exact_match,number; it gave other,number"
    )


def test_a_direction_that_the_task_does_not_state_stays_unknown(tmp_path):
    """lm-eval knows no direction of a metric of the author's own, and neither does the manifest."""
    code = "def process_results(doc, results):\n    return {'mine': 1.0}\n"
    metrics = {"metric_list": [{"metric": "mine", "aggregation": "mean"}]}
    name = write_task(tmp_path, "t", questions(1), {"process_results": code}, **(GENERATE | metrics))
    task = TaskLibrary((str(tmp_path),)).open(TaskSpec(task=name, include_path=(str(tmp_path),)))
    assert task.scores.metrics == {"mine,number": {}, "mine,whole": {}}


@pytest.mark.parametrize(
    ("name", "metric", "why"),
    [
        ("like_humaneval", "pass@10,create_test", None),
        ("like_ruler", "64,none", None),
        ("like_gsm8k", "exact_match,whole", None),
        ("like_gsm8k", "exact_match,other", "it has exact_match,number, exact_match,whole"),
        ("like_flores", "bleu,none", "it has sentence_bleu,none"),
        ("like_spans", "span_f1,none", "no metric 'span_f1,none' with a number per item; it has none"),
    ],
)
def test_only_metrics_with_a_number_per_item_can_be_asked_for(scored, name, metric, why):
    """Those that only an answer will tell are let through."""
    said = scored[name][0].scores.why_untestable(metric)
    assert (said is None) if why is None else (why in said)


def test_metadata_is_part_of_what_a_task_means(pack):
    """RULER with other lengths is another task; the tokenizer by default is not (documents tell)."""
    _, open_task, _ = pack
    assert open_task("like_ruler").definition["metadata"] == {"max_seq_lengths": LENGTHS}
    assert "metadata" not in open_task("like_arc").definition


def test_the_survey_counts_as_tested_only_what_has_a_look_alike(pack, monkeypatch):
    """Every kind in docs/tasks.md that is said to be tested names a task that the tests submit."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "0")  # the survey sets it
    survey = runpy.run_path(str(ROOT / "benchmarks" / "task_survey.py"))
    page = (ROOT / "docs" / "tasks.md").read_text("utf-8")
    tested = set(re.findall(r"\| tested per item: (.*?) \|", page))
    assert tested
    assert tested <= survey["LOOK_ALIKES"].keys()
    assert set(survey["LOOK_ALIKES"].values()) <= set(pack[0])


def test_a_task_with_functions_means_the_same_in_every_process(pack):
    """Also those deep in its filters, as HumanEval's: an address would make every resume another sweep."""
    _, open_task, _ = pack
    text = json.dumps([open_task(name).definition for name in pack[0]])
    assert "def build_predictions" in text
    assert " at 0x" not in text
