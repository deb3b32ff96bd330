"""On the real model: lldeg against lm-eval itself, sample by sample, and the files a run leaves."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from standin.command import ROOT
from standin.files import CHOOSE, GENERATE, ROLLING, SHUFFLING, questions, write_sweep, write_task
from standin.machine import DTYPE
from standin.reference import Replay, evaluate
from standin.rows import block_files, identities, planned, samples

from orchestrator.config.load import load_config
from orchestrator.engines.base import GENERATE as GENERATE_UNTIL
from orchestrator.engines.base import LOGLIKELIHOOD, Query
from orchestrator.engines.lm_eval_engine import LmEvalEngine
from orchestrator.rundir.identity import Rerun
from orchestrator.rundir.schema import ITEMS, schema_of_tasks
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.prepare import prepare
from orchestrator.sweep.tasks import items_of
from orchestrator.workers.answer_block import answer_block

pytestmark = pytest.mark.model

QUICKSTART = ROOT / "configs" / "tasks" / "quickstart"
CHOOSERS = (file for file in sorted(QUICKSTART.glob("*.yaml")) if "include: _choose" in file.read_text())
CHOOSING = f"lldeg_{next(CHOOSERS).stem}"
GENERATING, ROLLS, SHOTS, SHUFFLED = "lldeg_sums", "rolls", "shots", "shuffled"
ASKED_LONG, CHOSEN_LONG = "asked_long", "chosen_long"
LIMIT = 6
TEXTS = [
    {"text": "The quick brown fox jumps over the lazy dog."},
    {"text": "It was the best of times, it was the worst of times."},
    {"text": "One two three four five six seven eight nine ten. " * 20},
]
LONG = [
    {"question": f"{i}: " + "one two three four " * n, "choices": ["five", "six seven"], "answer": "0"}
    for i, n in enumerate((1, 29, 36))
]
"""The first fits into vLLM's context below, the second nearly."""
VLLM = {
    "kind": "vllm",
    "dtype": DTYPE,
    "max_model_len": 128,
    "max_num_seqs": 64,
    "enforce_eager": True,
    "block_size": 32,
    "kv_cache_memory_bytes": 1 << 28,
}


@dataclass(frozen=True)
class Outcome:
    """One sweep with both engines: where it is, how it ended, and all its rows."""

    path: Path
    run: Path
    status: int
    err: str
    rows: list

    def greedy(self, variant, *tasks):
        """A variant's rows at temperature 0, by task and item."""
        return {
            (row["task"], row["item"]): row
            for row in self.rows
            if row["variant"] == variant and row["temperature"] == 0 and row["task"] in tasks
        }

    def texts(self, variant, seed):
        """What a variant said to the sums at 0.7 with a seed, by item."""
        return {
            row["item"]: row["response"]
            for row in self.rows
            if (row["variant"], row["task"], row["seed"]) == (variant, GENERATING, seed)
        }


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A pack of our own: too long texts, examples, a task that shuffles."""
    folder = tmp_path_factory.mktemp("parity")
    write_task(folder / "pack", ROLLS, TEXTS, **ROLLING)
    write_task(
        folder / "pack", SHOTS, questions(6), **{**GENERATE, "num_fewshot": 2, "fewshot_split": "test"}
    )
    write_task(folder / "pack", SHUFFLED, questions(6), {"process_docs": SHUFFLING}, **GENERATE)
    write_task(folder / "pack", ASKED_LONG, LONG, **GENERATE)
    write_task(folder / "pack", CHOSEN_LONG, LONG, **CHOOSE)
    return folder / "pack"


@pytest.fixture(scope="module")
def outcome(pack, model_folder, command):
    """Two variants, lm-eval's hf class and vLLM, on tasks of all request types."""
    path = write_sweep(
        pack.parent,
        model=str(model_folder),
        baseline="hf",
        variants={"hf": {"engine": {"kind": "lm-eval:hf", "dtype": DTYPE}}, "vllm": {"engine": VLLM}},
        include_path=[str(QUICKSTART), "pack"],
        tasks=[
            *({"task": task, "limit": {"first": LIMIT}} for task in (GENERATING, CHOOSING, ROLLS)),
            *(ASKED_LONG, CHOSEN_LONG),
        ],
        sampling={"temperatures": [0.0, 0.7], "seeds": 2},
        cluster={"replicas": 1, "cpus_per_replica": 1},  # one thread, as the reference below has
    )
    run = pack.parent / "run"
    status, _, err = command.run("submit", path, "--run-dir", run, cwd=pack.parent)
    return Outcome(path, run, status, err, samples(run))


@pytest.fixture(scope="module")
def hf(model_folder):
    """lm-eval's own hf class with the model, on one thread: on a busy machine two wait for each other."""
    import torch
    from lm_eval.models.huggingface import HFLM

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield HFLM(pretrained=str(model_folder), device="cpu", dtype=DTYPE)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference(hf, pack):
    """What lm-eval says of the model by itself."""
    return evaluate(hf, [QUICKSTART, pack], [GENERATING, CHOOSING, ROLLS], LIMIT)


def scores_of(logged):
    """All metrics of an item in lm-eval's log, by "metric,filter"."""
    return {
        f"{metric},{sample['filter']}": float(sample[metric])
        for sample in logged
        for metric in sample["metrics"]
    }


def filtered_of(logged):
    """The filtered answers of an item in lm-eval's log, by filter."""
    return {sample["filter"]: sample["filtered_resps"][0] for sample in logged}


def own(struct):
    """The fields of a row's struct that its task has."""
    return {name: value for name, value in struct.items() if value is not None}


def assert_scored_alike(rows, reference):
    """Filtered answers and every metric of rows are lm-eval's own."""
    for place, row in rows.items():
        assert own(row["scores"]) == scores_of(reference[place])
        if place[0] == GENERATING:
            assert own(row["filtered"]) == filtered_of(reference[place])


def test_the_sweep_is_complete(outcome):
    """Both engines answered everything, the command ended well, and no row is an error."""
    assert outcome.status == 0, outcome.err
    assert [row["error"] for row in outcome.rows if row["error"] is not None] == []


def test_every_planned_sample_stands_exactly_once(outcome):
    """Every (variant, task, item, temperature, seed) of the plan has one row, and no other is there."""
    assert identities(outcome.run) == planned(outcome.run)
    assert len(outcome.rows) == 2 * (LIMIT * 3 + LIMIT + len(TEXTS) + len(LONG) * 3 + len(LONG))


@pytest.mark.parametrize("variant", ["hf", "vllm"])
@pytest.mark.parametrize("task", [GENERATING, CHOOSING, ROLLS])
def test_documents_and_prompts_are_lm_evals(outcome, reference, variant, task):
    """doc_hash and prompt_hash agree with `lm_eval --log_samples`, item by item."""
    rows = outcome.greedy(variant, task)
    assert rows.keys() == {place for place in reference if place[0] == task}
    for place, row in rows.items():
        logged = reference[place][0]
        assert (row["doc_hash"], row["prompt_hash"]) == (logged["doc_hash"], logged["prompt_hash"])


@pytest.mark.parametrize("task", [GENERATING, CHOOSING])
def test_on_the_same_model_class_answers_and_scores_are_lm_evals(outcome, reference, task):
    """With `lm-eval:hf`, filtered answers and all metrics equal those of simple_evaluate."""
    assert_scored_alike(outcome.greedy("hf", task), reference)


@pytest.mark.parametrize("task", [GENERATING, CHOOSING])
def test_vllms_responses_are_scored_as_lm_eval_scores_them(outcome, pack, task):
    """Fed through lm-eval's own evaluator, the recorded responses give the recorded answers and metrics."""
    rows = outcome.greedy("vllm", task)
    assert_scored_alike(rows, evaluate(Replay(rows.values()), [QUICKSTART, pack], [task], LIMIT))


def test_the_parity_has_both_right_and_wrong_answers(outcome):
    """The items compared are neither all right nor all wrong, else agreement would show little."""
    for task in (GENERATING, CHOOSING):
        rows = outcome.greedy("vllm", task).values()
        (first, *_) = own(next(iter(rows))["scores"])
        assert 0 < sum(row["scores"][first] for row in rows) < LIMIT


def test_log_likelihoods_of_vllm_are_close_to_hfs(outcome):
    """Two implementations agree on every option to a few percent."""
    left, right = outcome.greedy("hf", CHOOSING), outcome.greedy("vllm", CHOOSING)
    for place, row in left.items():
        values = [[value for value, _ in json.loads(side["response"])] for side in (row, right[place])]
        assert values[1] == pytest.approx(values[0], rel=0.03, abs=0.25)


def test_rolling_log_likelihoods_are_lm_evals(outcome, reference):
    """loglikelihood_rolling through lm-eval:hf gives what lm-eval gives."""
    for place, row in outcome.greedy("hf", ROLLS).items():
        assert json.loads(row["response"]) == pytest.approx([reference[place][0]["resps"][0][0]], rel=1e-6)


def test_rolling_log_likelihoods_of_vllm_are_close(outcome):
    """So does vLLM, nearly; in windows for the text that is longer than its context."""
    left, right = outcome.greedy("hf", ROLLS), outcome.greedy("vllm", ROLLS)
    for place, row in left.items():
        rel = 0.03 if place[1] < 2 else 0.5  # the windows have less context than hf, which sees all
        (value,) = json.loads(right[place]["response"])
        assert value == pytest.approx(json.loads(row["response"])[0], rel=rel)
    assert right[ROLLS, 2]["prompt_tokens"] > VLLM["max_model_len"]


def cut_of(tokenizer, task, item, room):
    """Tokens that do not fit of an item's prompts, as the tokenizer alone counts them."""
    prompt = LONG[item]["question"]
    texts = [prompt] if task == ASKED_LONG else [f"{prompt} {choice}" for choice in LONG[item]["choices"]]
    return sum(max(0, len(tokenizer(text).input_ids) - room[task]) for text in texts)


@pytest.mark.parametrize("task", [ASKED_LONG, CHOSEN_LONG])
def test_what_is_cut_of_prompts_is_an_independent_count(outcome, hf, task):
    """VLLM's context has room for the answer of eight tokens, or one; hf's is far larger."""
    room = {ASKED_LONG: VLLM["max_model_len"] - 8, CHOSEN_LONG: VLLM["max_model_len"] - 1}
    cuts = [row["prompt_cut"] for row in outcome.greedy("vllm", task).values()]
    assert cuts == [cut_of(hf.tokenizer, task, item, room) for item in range(len(LONG))]
    assert cuts[0] == 0 < cuts[2]
    assert [row["prompt_cut"] for row in outcome.greedy("hf", task).values()] == [0] * len(LONG)


def test_cut_prompts_are_warned_of(outcome, command, tmp_path):
    """By task and side: those of vLLM."""
    command.run("analyze", outcome.run, "--out", tmp_path, cwd=tmp_path)
    verdicts = json.loads((tmp_path / "verdicts.json").read_text())
    coded = zip(verdicts["warning_codes"], verdicts["warnings"], strict=True)
    said = [text for code, text in coded if code == "cut-prompts"]
    assert all(f"of {task}" in " ".join(said) for task in (ASKED_LONG, CHOSEN_LONG))
    assert all(text.startswith("prompts of vllm at temperature") for text in said)


def test_what_hf_cuts_is_an_independent_count(hf, monkeypatch):
    """Within a context of 64; a prompt that must stay whole is not asked."""
    monkeypatch.setattr(hf, "_max_length", 64)
    settings = {"until": ["."], "max_gen_toks": 4, "do_sample": False, "temperature": 0.0}
    arguments = {
        GENERATE_UNTIL: (LONG[2]["question"], settings),
        LOGLIKELIHOOD: (LONG[2]["question"], "five"),
    }
    room = {ASKED_LONG: 60, CHOSEN_LONG: 65}
    engine = LmEvalEngine(hf)
    cut = [answer.prompt_cut for answer in engine.answer([Query(*query) for query in arguments.items()])]
    whole = engine.answer([Query(*query, whole=True) for query in arguments.items()])
    tokens = [
        len(hf.tokenizer(text).input_ids) for text in (LONG[2]["question"], LONG[2]["question"] + "five")
    ]
    assert cut == [tokens[0] - room[ASKED_LONG], tokens[1] - room[CHOSEN_LONG]]
    assert [answer.error.partition(":")[0] for answer in whole] == ["PromptTooLongError"] * 2


def test_an_item_of_a_rolling_task_has_its_own_numbers(outcome):
    """What is behind a perplexity, per word and per byte: the tasks of a perplexity are tested by it."""
    for row in outcome.greedy("vllm", ROLLS).values():
        text, loss = TEXTS[row["item"]]["text"], -json.loads(row["response"])[0]
        words, characters = len(re.split(r"\s+", text)), len(text.encode())
        expected = {"word_perplexity,none": loss / words, "byte_perplexity,none": loss / characters}
        assert own(row["scores"]) == pytest.approx(expected)


@pytest.mark.parametrize("variant", ["hf", "vllm"])
def test_two_seeds_give_different_texts(outcome, variant):
    """At 0.7 the seed reaches the sampler."""
    assert outcome.texts(variant, 0) != outcome.texts(variant, 1)


def test_tokens_and_reasons_are_recorded(outcome):
    """VLLM's rows say how many tokens went in and came out, and why the answer ended."""
    for row in outcome.greedy("vllm", GENERATING).values():
        assert row["prompt_tokens"] > 10
        assert 1 <= row["output_tokens"] <= 5
        assert row["finish_reason"] in {"stop", "length"}


CHAT = {"apply_chat_template": True, "fewshot_as_multiturn": True, "system_instruction": "Answer briefly."}


@pytest.mark.parametrize("prompt", [{}, {"apply_chat_template": True}, CHAT])
def test_chat_and_few_shot_prompts_are_lm_evals(outcome, hf, pack, prompt, monkeypatch):
    """With chat template, system instruction and examples as turns the prompts are lm-eval's to the byte."""
    monkeypatch.setattr(hf, "generate_until", lambda requests, **_: [""] * len(requests))  # prompts alone
    monkeypatch.setattr(hf, "loglikelihood", lambda requests, **_: [(0.0, False)] * len(requests))
    settings = [f"prompt.{key}={json.dumps(value)}" for key, value in prompt.items()]
    sweep = prepare(outcome.path, overrides=[f"tasks=[{SHOTS}, {CHOOSING}]", *settings], run_dir="unused")
    expected = evaluate(hf, [QUICKSTART, pack], [SHOTS, CHOOSING], 2, **prompt)
    for variant in ("hf", "vllm"):
        for (task, item), logged in expected.items():
            built = sweep.built[sweep.renderings[variant], task]
            assert built[item][0].args[0] == logged[0]["arguments"][0][0]
            (identity,) = items_of({item: built[item]})
            assert identity.prompt_hash == logged[0]["prompt_hash"]


@pytest.mark.parametrize(("task", "prompt"), [(SHUFFLED, {}), (SHOTS, CHAT)])
def test_answers_and_scores_of_such_prompts_are_lm_evals(outcome, hf, pack, task, prompt):
    """Shuffled documents, and examples as turns under a system instruction: each sample is lm-eval's."""
    settings = [f"prompt.{key}={json.dumps(value)}" for key, value in prompt.items()]
    settings += [f"tasks=[{task}]", "sampling.temperatures=[0.0]"]
    sweep = prepare(outcome.path, overrides=settings, run_dir="unused")
    built = sweep.built[sweep.renderings["hf"], task]
    block = Block("hf", task, "cell", tuple(items_of(built)), (Rerun(0.0),))
    samples = answer_block(
        block, sweep.tasks[task].score_each, built, LmEvalEngine(hf), sweep.config.sampling
    )
    expected = evaluate(hf, [pack], [task], None, **prompt)
    assert len(samples) == len(expected) == 6
    for sample in samples:
        logged = expected[task, sample.item.item]
        assert (sample.item.doc_hash, sample.item.prompt_hash) == (
            logged[0]["doc_hash"],
            logged[0]["prompt_hash"],
        )
        assert sample.response == logged[0]["resps"][0][0]
        assert (sample.scored.scores, sample.scored.filtered) == (scores_of(logged), filtered_of(logged))


def test_columns_and_types(outcome):
    """Every file has the promised columns; structs have a field per metric or filter of the run."""
    tasks = json.loads((outcome.run / "manifest.json").read_text())["tasks"].values()
    expected = schema_of_tasks(tasks)
    assert {"acc,none", "exact_match,number"} <= {field.name for field in expected.field("scores").type}
    for file in block_files(outcome.run):
        assert pq.read_schema(file).equals(expected)


def test_columns_of_items(outcome):
    """The documents and prompts stand once per task, with the promised columns."""
    for task in (GENERATING, CHOOSING, ROLLS):
        assert pq.read_schema(outcome.run / "items" / f"{task}.parquet").equals(ITEMS)


def test_pandas_reads_a_run_in_one_line(outcome):
    """The folder is one table, variant and task included."""
    frame = pd.read_parquet(outcome.run / "samples")
    assert len(frame) == len(outcome.rows)
    assert set(frame["variant"]) == {"hf", "vllm"}


def test_duckdb_reads_a_run_in_one_line(outcome):
    """So is it for DuckDB, which finds a metric by its name."""
    query = f"""select variant, avg(scores."acc,none") from '{outcome.run}/samples/**/*.parquet'
                where task = '{CHOOSING}' group by variant order by variant"""
    found = dict(duckdb.sql(query).fetchall())
    rows = outcome.greedy("hf", CHOOSING).values()
    assert found["hf"] == sum(row["scores"]["acc,none"] for row in rows) / LIMIT
    assert found.keys() == {"hf", "vllm"}


def test_the_run_keeps_its_sweep(outcome):
    """sweep.yaml in the run is a configuration without mistakes, so that it can be submitted again."""
    config, problems = load_config(outcome.run / "sweep.yaml")
    assert problems == []
    assert config.baseline == "hf"


def test_engines_say_in_which_format_they_compute(outcome):
    """The manifest has what each replica loaded, not what was asked for."""
    known = json.loads((outcome.run / "manifest.json").read_text())["software"].values()
    assert [entry["hardware"]["dtype"] for entry in known] == [DTYPE] * len(known)


def test_no_process_outlives_the_command(outcome, command):
    """Neither Ray nor an engine is left."""
    assert command.left_after(15) == []
