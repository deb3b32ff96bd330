"""Answering a block: which settings reach the engine, and what becomes a row."""

from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest
from standin.files import CHOOSE, GENERATE, choices, questions, write_task

from orchestrator.config.schema import PromptConfig, SamplingConfig
from orchestrator.engines.base import TOKENS, Answer, EngineAwayError
from orchestrator.rundir.identity import Rerun
from orchestrator.rundir.schema import sample_schema
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.tasks import TaskLibrary, TaskSpec, items_of
from orchestrator.workers.answer_block import (
    answer_block,
    generation_settings,
    put_off_refused,
    rows_of,
    samples_table,
    score_answers,
)

TASKS_OWN = {
    "until": ["\n"],
    "max_gen_toks": 8,
    "do_sample": True,
    "temperature": 1.0,
    "top_p": 0.5,
    "top_k": 7,
}


class Recorder:
    """An engine that keeps what it was asked and answers as told."""

    target_in_flight = 1

    def __init__(self, reply):
        self.reply, self.calls = reply, []

    def answer(self, queries):
        """Answer with what `reply` makes of each query."""
        self.calls.append(list(queries))
        return [self.reply(query) for query in queries]

    def close(self):
        """Nothing to free."""


@pytest.fixture
def open_task(tmp_path):
    """Write and open a task; returns (task, its requests, a block of all its items)."""

    def open_task(docs, reruns, **settings):
        name = write_task(tmp_path / "pack", "t", docs, **settings)
        library = TaskLibrary((str(tmp_path / "pack"),))
        task = library.open(TaskSpec(task=name, include_path=library.include_path))
        built = task.build(PromptConfig(), None, "plain")
        return task, built, Block("v", name, "c", tuple(items_of(built)), tuple(reruns))

    return open_task


def said(text):
    """An engine that says the same to everything."""
    return Recorder(lambda _: Answer(text, "stop", 5, 1))


def test_the_sweeps_sampling_replaces_the_tasks_own():
    """Temperature, top_p, top_k and do_sample are the sweep's; what ends an answer stays the task's."""
    settings = generation_settings(TASKS_OWN, 0.7, SamplingConfig(top_p=0.9))
    assert settings == {
        "until": ["\n"],
        "max_gen_toks": 8,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
    }


def test_greedy_requests_carry_no_sampling_settings():
    """At temperature 0 there is nothing to sample from."""
    settings = generation_settings(TASKS_OWN, 0.0, SamplingConfig(top_p=0.9, top_k=3))
    assert settings == {"until": ["\n"], "max_gen_toks": 8, "do_sample": False, "temperature": 0.0}


def test_top_k_and_the_longest_answer_are_passed_on_where_asked_for():
    """The sweep may bound an answer otherwise than the task."""
    settings = generation_settings(TASKS_OWN, 0.7, SamplingConfig(top_k=3, max_gen_toks=99))
    assert (settings["top_k"], settings["max_gen_toks"]) == (3, 99)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_penalties_are_sent_at_every_temperature(temperature):
    """They change the likeliest token, too; a server would otherwise take its own."""
    penalties = {"repetition_penalty": 1.0, "presence_penalty": 0.5, "frequency_penalty": 0.0}
    settings = generation_settings(TASKS_OWN, temperature, SamplingConfig(**penalties, min_p=0.1))
    assert {name: settings[name] for name in penalties} == penalties
    assert settings.get("min_p") == (0.1 if temperature else None)


def test_a_task_does_not_change_under_its_settings():
    """The task's own settings are read, never written."""
    before = dict(TASKS_OWN)
    generation_settings(TASKS_OWN, 0.7, SamplingConfig())
    assert before == TASKS_OWN


def test_stop_strings_that_an_engine_does_not_know_are_applied_afterwards(open_task):
    """A text ends before the first of them, and is then no longer one that the limit of tokens has ended."""
    kwargs = {**GENERATE["generation_kwargs"], "until": ["A", "B", "C", "D", "5", "2"]}
    task, built, block = open_task(questions(1), [Rerun(0.0)], **GENERATE | {"generation_kwargs": kwargs})
    ends = {"1 2 5": ("1 ", "stop"), "1": ("1", "length"), "": ("", "length")}
    for text, end in ends.items():
        engine = Recorder(lambda _, text=text: Answer(text, "length", 5, 1))
        (sample,) = answer_block(block, task.score_each, built, engine, SamplingConfig())
        assert (sample.response, sample.answers[0].finish_reason) == end


def test_everything_a_block_holds_is_asked_at_once(open_task):
    """All items and reruns go to the engine in one call, so that it can batch them."""
    task, built, block = open_task(questions(3), [Rerun(0.0), Rerun(0.7, 1)], **GENERATE)
    engine = said("1")
    answer_block(block, task.score_each, built, engine, SamplingConfig())
    assert [len(call) for call in engine.calls] == [6]


def test_the_seed_of_a_rerun_goes_with_its_requests(open_task):
    """Every request carries its own temperature and seed."""
    task, built, block = open_task(questions(1), [Rerun(0.0), Rerun(0.7, 4), Rerun(0.9, 5)], **GENERATE)
    engine = said("1")
    answer_block(block, task.score_each, built, engine, SamplingConfig())
    asked = [(query.arguments[1]["temperature"], query.seed) for query in engine.calls[0]]
    assert asked == [(0.0, 0), (0.7, 4), (0.9, 5)]


def test_repeats_of_a_task_are_sampled_with_seeds_of_their_own(open_task):
    """A task that wants three answers per item gets three different ones from each seed."""
    task, built, block = open_task(questions(1), [Rerun(0.7, 0), Rerun(0.7, 1)], repeats=3, **GENERATE)
    engine = said("1")
    answer_block(block, task.score_each, built, engine, SamplingConfig())
    seeds = [query.seed for query in engine.calls[0]]
    assert len(set(seeds)) == 6
    assert {0, 1} <= set(seeds)


def test_repeats_at_temperature_zero_are_asked_once(open_task):
    """A greedy answer is the same three times; the task's filters still see three."""
    seen = {"name": "all", "filter": [{"function": "take_first_k", "k": 3}, {"function": "majority_vote"}]}
    task, built, block = open_task(
        questions(1), [Rerun(0.0)], repeats=3, **{**GENERATE, "filter_list": [seen]}
    )
    engine = said("0")
    (sample,) = answer_block(block, task.score_each, built, engine, SamplingConfig())
    assert len(engine.calls[0]) == 1
    assert sample.error is None


def test_every_filter_has_its_answer_and_its_score(open_task):
    """One row holds what each filter made of the text, and what that scored."""
    task, built, block = open_task(questions(1), [Rerun(0.0)], **GENERATE)
    (sample,) = answer_block(block, task.score_each, built, said("it is 0, I think"), SamplingConfig())
    assert sample.response == "it is 0, I think"
    assert sample.scored.filtered == {"number": "0", "whole": "it is 0, I think"}
    assert sample.scored.scores == {"exact_match,number": 1.0, "exact_match,whole": 0.0}


def test_log_likelihoods_keep_the_list_of_values(open_task):
    """For a choice the response is what each option got, and the score lm-eval's own."""
    task, built, block = open_task(choices(2), [Rerun(0.0)], **CHOOSE)
    engine = Recorder(lambda query: Answer((-float(len(query.arguments[1])), False), None, 3, 0))
    samples = answer_block(block, task.score_each, built, engine, SamplingConfig())
    assert samples[0].response == "[[-2.0, false], [-4.0, false]]"
    assert [sample.scored.scores["acc,none"] for sample in samples] == [1.0, 0.0]


def test_a_row_has_what_is_measured_of_an_answer(open_task):
    """Its repetition, and the times that the engine tells; nothing that it does not."""
    task, built, block = open_task(questions(1), [Rerun(0.0)], **GENERATE)
    told = Answer("a b c d a b c d", "stop", 5, 8, seconds=1.5, first_token_seconds=0.25)
    rows = []
    for answer in (told, Answer("5", "stop")):
        samples = answer_block(
            block, task.score_each, built, Recorder(lambda _, a=answer: a), SamplingConfig()
        )
        rows += samples_table(block, samples, sample_schema()).to_pylist()
    assert [(r["looping"], r["seconds"], r["first_token_seconds"]) for r in rows] == [
        (pytest.approx(0.2), 1.5, 0.25),
        (0.0, None, None),
    ]


def test_a_failed_answer_is_an_error_row_and_the_others_are_unharmed(open_task):
    """The row has the reason and no score; it is neither a zero nor a hole."""
    task, built, block = open_task(questions(3), [Rerun(0.0)], **GENERATE)
    engine = Recorder(
        lambda query: Answer(None, error="Bad: prompt") if "Item 1" in query.arguments[0] else Answer("0")
    )
    samples = answer_block(block, task.score_each, built, engine, SamplingConfig())
    assert [sample.error for sample in samples] == [None, "Bad: prompt", None]
    assert (samples[1].scored, samples[1].response) == (None, None)


def test_one_failed_option_fails_its_item_only(open_task):
    """An item of which one request has no answer has no score."""
    task, built, block = open_task(choices(2), [Rerun(0.0)], **CHOOSE)
    engine = Recorder(
        lambda query: (
            Answer(None, error="Bad: x")
            if "Number 0" in query.arguments[0] and "bbb" in query.arguments[1]
            else Answer((-1.0, False))
        )
    )
    samples = answer_block(block, task.score_each, built, engine, SamplingConfig())
    assert [sample.error for sample in samples] == ["Bad: x", None]


def test_an_answer_that_cannot_be_scored_is_an_error_row(open_task):
    """A task whose own code fails on the model's text costs one sample."""
    broken = "{{answer}}{% if question == 'Q1' %}{{ 1 // 0 }}{% endif %}"
    docs = [{"question": f"Q{i}", "answer": "1"} for i in range(3)]
    task, built, block = open_task(docs, [Rerun(0.0)], **{**GENERATE, "doc_to_target": "{{answer}}"})
    task._task.config.doc_to_target = broken
    samples = answer_block(block, task.score_each, built, said("1"), SamplingConfig())
    assert [sample.error is None for sample in samples] == [True, False, True]
    assert samples[1].error.startswith("scoring: ZeroDivisionError")


def test_text_that_is_no_unicode_can_be_written(open_task):
    """A lone surrogate in a model's text does not sink the block."""
    task, built, block = open_task(questions(1), [Rerun(0.0)], **GENERATE)
    samples = answer_block(block, task.score_each, built, said("0 \ud800"), SamplingConfig())
    columns = sample_schema(("exact_match,number", "exact_match,whole"), ("number", "whole"))
    assert samples_table(block, samples, columns)["response"].to_pylist() == ["0 ?"]


def refusing(*items):
    """An engine whose server refuses the seed 1 of some items."""

    def behave(query):
        if query.seed == 1 and any(f"Item {item} " in f"{query.arguments[0]} " for item in items):
            return Answer(None, error="RequestRefusedError: HTTP 400: overloaded")
        return Answer("0")

    return Recorder(behave)


def test_what_an_ended_engine_has_answered_is_kept(open_task):
    """The samples that it has not answered become a block of their own, however often they were refused."""
    task, built, block = open_task(questions(3), [Rerun(0.0)], **GENERATE)

    def end(queries):
        ended = EngineAwayError("gone")
        ended.answers = [Answer("0"), None, Answer("2")]
        raise ended

    engine, ends = SimpleNamespace(answer=end), []
    block = replace(block, was_refused=True)
    samples = answer_block(block, task.score_each, built, engine, SamplingConfig(), on_end=ends.append)
    kept, (later,) = put_off_refused(block, samples)
    assert [(sample.item.item, sample.error) for sample in kept] == [(0, None), (2, None)]
    assert ([item.item for item in later.items], [str(end) for end in ends]) == ([1], ["gone"])
    with pytest.raises(EngineAwayError):
        answer_block(block, task.score_each, built, engine, SamplingConfig())


def test_what_is_refused_is_put_off_once(open_task):
    """The refused samples become a block of their own and no rows; refused again, they are rows."""
    task, built, block = open_task(questions(3), [Rerun(0.7, 0), Rerun(0.7, 1)], **GENERATE)
    samples = answer_block(block, task.score_each, built, refusing(0, 2), SamplingConfig())
    kept, (later,) = put_off_refused(block, samples)
    assert [(sample.item.item, sample.rerun.seed) for sample in kept] == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert ([item.item for item in later.items], later.reruns) == ([0, 2], (Rerun(0.7, 1),))
    again = answer_block(later, task.score_each, built, refusing(2), SamplingConfig())
    written, none = put_off_refused(later, again)
    assert ([sample.error is None for sample in written], none) == ([True, False], ())


def given(*rows):
    """Answers of the baseline: item, temperature, seed, text, error."""
    schema = {"item": pa.int32(), "temperature": pa.float32(), "seed": pa.int32()}
    schema |= {"response": pa.string(), "error": pa.string()}
    rows = [dict(zip(schema, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))


def test_what_is_scored_becomes_a_row(open_task):
    """Each answer after its prompt; the error of one that failed; nothing of one that is not there yet."""
    _, built, block = open_task(questions(3), [Rerun(0.7, 1)], **GENERATE)
    block = replace(block, fidelity=True)
    engine = Recorder(lambda _: Answer(([5, 5, 6, 7, 7, 5], [-0.1, -0.1, -3, -0.2, -0.2, -2]), None, 9, 0))
    answers = given((0, 0.7, 1, "four", None), (1, 0.7, 1, None, "Bad: x"), (2, 0.7, 0, "other", None))
    samples = score_answers(block, answers, 2, built, engine)
    rows = rows_of(block, samples, None).to_pylist()
    assert [(row["item"], row["error"]) for row in rows] == [(1, "Bad: x"), (0, None)]
    assert (rows[1]["tokens"], rows[1]["prompt_tokens"]) == ([5, 5, 6, 7, 7, 5], 9)
    (query,) = engine.calls[0]
    assert (query.kind, query.arguments) == (TOKENS, (built[0][0].arguments[0], "four", 2))


@pytest.mark.parametrize(
    "response", [([5, 5], [-0.1]), ([5, 5, 6, 7], [-0.1] * 4), ([5, 5, 6], [float("nan"), -1, -2])]
)
def test_what_are_no_scores_is_an_error(response, open_task):
    """Other numbers of tokens and values, or no logarithm of a probability."""
    _, built, block = open_task(questions(1), [Rerun(0.0)], **GENERATE)
    engine = Recorder(lambda _: Answer(response, None, 9, 0))
    answers = given((0, 0.0, None, "four", None))
    (sample,) = score_answers(replace(block, fidelity=True), answers, 2, built, engine)
    assert sample.error.startswith("ValueError: ")
