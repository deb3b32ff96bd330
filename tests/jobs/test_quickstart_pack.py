"""The quickstart's tasks: the data is what the generator writes, answers are right, lm-eval loads them."""

from __future__ import annotations

import calendar
import csv
import importlib.util
import itertools
import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

from orchestrator.config.load import load_config, resolve

CONFIGS = Path(__file__).parents[2] / "configs"
PACK = CONFIGS / "tasks" / "quickstart"


def _generator():
    spec = importlib.util.spec_from_file_location("quickstart_generate", PACK / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()
TASKS = list(GENERATOR.TASKS)


def _items(task):
    return [json.loads(line) for line in (PACK / "data" / f"{task}.jsonl").read_text("utf-8").splitlines()]


def _spoken(text):
    tens = {word: 10 * value for value, word in enumerate(GENERATOR.TENS, start=2)}
    values = {word: value for value, word in enumerate(GENERATOR.ONES)} | tens
    total = 0
    for word in re.findall(r"[a-z]+", text):
        total = total * 100 if word == "hundred" else total + values[word]
    return total


@pytest.fixture(scope="module")
def loaded():
    tasks = TaskManager(include_path=str(PACK), include_defaults=False).load(["lldeg_quickstart"])["tasks"]
    for task in tasks.values():
        task.build_all_requests(limit=None, rank=0, world_size=1)
    return tasks


@pytest.mark.parametrize("task", TASKS)
def test_committed_data_is_what_the_generator_writes(task):
    """Nobody edited a data file by hand, and the generator is deterministic."""
    assert (PACK / "data" / f"{task}.jsonl").read_text("utf-8") == GENERATOR.text(task)


@pytest.mark.parametrize("task", ["sums", "sequences", "lookup", "number_words", "spelling", "products"])
def test_another_seed_gives_other_items(task):
    """The seed decides which exercises are drawn."""
    assert GENERATOR.text(task, 1) != GENERATOR.text(task)


def test_ids_and_questions_are_unique():
    """No item stands in the pack twice, under the same id or another."""
    items = [item for task in TASKS for item in _items(task)]
    assert max(Counter(item["id"] for item in items).values()) == 1
    assert max(Counter(item["question"] for item in items).values()) == 1


def test_sums_are_right():
    """The answer of every sum is the sum of the two numbers in its question."""
    for item in _items("sums"):
        assert int(item["answer"]) == sum(map(int, re.findall(r"\d+", item["question"]))), item


def test_sequences_go_on_by_the_same_step():
    """Question and answer together are an arithmetic sequence of five."""
    for item in _items("sequences"):
        row = [*map(int, re.findall(r"\d+", item["question"])), int(item["answer"])]
        assert len(row) == 5, item
        assert len({after - before for before, after in itertools.pairwise(row)}) == 1, item


def test_lookups_name_the_value_that_stands_beside_the_name():
    """The answer is the value listed for the name asked for, and the name is listed once."""
    for item in _items("lookup"):
        listing, asked = item["question"].split(". ")
        values = dict(entry.split(" ") for entry in listing.split(", "))
        assert values[asked] == item["answer"], item
        assert len(values) == 10, item


def test_number_words_say_the_number():
    """Reading the words aloud, hundreds before the rest, gives the digits."""
    for item in _items("number_words"):
        assert str(_spoken(item["question"])) == item["answer"], item
    for item in _items("spelling"):
        assert item["question"] == f"{_spoken(item['answer'])} =", item


@pytest.mark.parametrize(
    ("table", "key", "value", "question", "form"),
    [
        ("elements", "element", "symbol", "The chemical symbol for {} is", "[A-Z][a-z]?"),
        ("capitals", "country", "capital", "The capital of {} is", "[A-Z][A-Za-z -]+[a-z]"),
    ],
)
def test_facts_pair_one_to_one(table, key, value, question, form):
    """Every element (country) has a symbol (capital) of its own, and the items ask for just these."""
    with (PACK / "facts" / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        answers = {row[key]: row[value] for row in csv.DictReader(file)}
    assert len(set(answers.values())) == len(answers)
    assert all(re.fullmatch(form, answer) for answer in answers.values())
    asked = {item["question"]: item["answer"] for item in _items(table)}
    assert asked == {question.format(name): answer for name, answer in answers.items()}


def test_products_are_right_and_only_once():
    """The marked choice is the product of the two numbers, and no other choice is."""
    for item in _items("products"):
        product = math.prod(map(int, re.findall(r"\d+", item["question"])))
        right = [number for number, choice in enumerate(item["choices"]) if int(choice) == product]
        assert right == [item["answer"]], item


def test_calendar_counts_forward():
    """Counting on in the calendar of the standard library ends at the marked choice, and only there."""
    cycles = {"day": list(calendar.day_name), "month": list(calendar.month_name)[1:]}
    for item in _items("calendar"):
        steps, unit, start = re.fullmatch(r"(\w+) (day|month)s? after (\w+) comes", item["question"]).groups()
        cycle = cycles[unit]
        end = cycle[(cycle.index(start) + GENERATOR.ONES.index(steps.lower())) % len(cycle)]
        assert [choice for choice in item["choices"] if choice == end] == [item["choices"][item["answer"]]]


def test_examples_are_no_items(loaded):
    """No prompt shows the answer of an item among its examples."""
    for name, task in loaded.items():
        examples = task.config.description.splitlines()
        for item in _items(name.removeprefix("lldeg_")):
            assert not any(example.startswith(item["question"] + " ") for example in examples), item


def test_lm_eval_builds_every_request_from_any_folder(tmp_path, monkeypatch):
    """lm-eval finds tasks and data from any current folder, builds all requests, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    tasks = TaskManager(include_path=str(PACK), include_defaults=False).load(["lldeg_quickstart"])["tasks"]
    assert sorted(tasks) == sorted(f"lldeg_{name}" for name in TASKS)
    for name, task in tasks.items():
        task.build_all_requests(limit=None, rank=0, world_size=1)
        expected = sum(len(item.get("choices", [None])) for item in _items(name.removeprefix("lldeg_")))
        assert len(task.instances) == expected
    assert not list(tmp_path.iterdir())


def test_pack_is_as_large_as_the_quickstart_promises(loaded):
    """At least five tasks and 600 items, generated and multiple-choice ones."""
    assert len(loaded) >= 5
    assert sum(len(task.eval_docs) for task in loaded.values()) >= 600
    assert {task.OUTPUT_TYPE for task in loaded.values()} == {"generate_until", "multiple_choice"}


@pytest.mark.parametrize(
    ("task", "response", "right"),
    [
        ("sums", " {answer}\n", True),
        ("sums", " {answer}0", False),
        ("sums", " I do not know", False),
        ("elements", " {answer}.\n", True),
        ("elements", " {answer}x.", False),
        ("capitals", " {answer}, and", True),
        ("capitals", " {answer} City", False),
        ("spelling", " {answer}", True),
        ("spelling", " {answer} thousand", False),
    ],
)
def test_only_the_whole_answer_scores(loaded, task, response, right):
    """An answer counts when its first number (or word) is the right one, and not when it merely begins so."""
    subject = loaded[f"lldeg_{task}"]
    instance = subject.instances[0]
    instance.resps = [response.format(answer=instance.doc["answer"])]
    subject._instances, kept = [instance], subject._instances
    subject.apply_filters()
    subject._instances = kept
    (filtered,) = instance.filtered_resps.values()
    assert subject.process_results(instance.doc, [filtered])["exact_match"] == right


def test_quickstart_configuration_has_no_mistakes():
    """configs/quickstart.yaml is accepted, and its control differs from the baseline in batching only."""
    config, problems = load_config(CONFIGS / "quickstart.yaml")
    assert problems == []
    variants = resolve(config)
    baseline, control = variants[config.baseline].options, variants["control"].options
    assert {key for key in control if control[key] != baseline.get(key)} == {"max_num_seqs"}
