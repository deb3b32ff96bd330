"""What the dry run says of requests, tokens, hours, decoding, and prompts that do not fit."""

import json
import re

import pyarrow as pa
import pytest
from standin.files import GENERATE, questions, write_small_sweep, write_task
from standin.words import WORDS, word_tokenizer

from orchestrator.rundir.schema import schema_of_tasks
from orchestrator.sweep.plan import plan_sweep
from orchestrator.sweep.prepare import prepare

CONTEXT = 40
LONG = " ".join(WORDS * 4)  # 44 words


@pytest.fixture
def write(tmp_path):
    """Writes a sweep of six questions and four choices of two, for a model with a context of forty words."""

    def write(docs=(), **keys):
        path = write_small_sweep(tmp_path, **{"engine": {"kind": "vllm"}} | keys)
        word_tokenizer().save_pretrained(tmp_path / "model")
        config = {"model_type": "llama", "max_position_embeddings": CONTEXT}
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
        if docs:
            write_task(tmp_path / "pack", "asked", docs, **GENERATE)
        return path

    return write


@pytest.fixture
def shown(lldeg, write, tmp_path):
    """What a dry run shows of a sweep, as one line."""

    def shown(*options, docs=(), **keys):
        run = tmp_path / "run"
        return " ".join(
            lldeg("submit", write(docs, **keys), "--dry-run", "--run-dir", run, *options).out.split()
        )

    return shown


@pytest.mark.slow
def test_requests_and_tokens_are_counted(shown):
    """A request for each question and each choice of both variants; a prompt's words are its tokens."""
    words = 2 * (6 * 6 + 4 * 2 * 3)  # "What comes after naught? Item 0", "Number 0: a"
    assert f"about 28 requests with {words} tokens of prompts and at most {2 * 6 * 8} of answers." in shown()


def test_reruns_and_repeats_are_requests(shown, tmp_path):
    """Three draws of each answer, from each of five seeds; the greedy answer is one."""
    assert "about 28 requests" in shown()
    write_task(tmp_path / "pack", "thrice", questions(6), repeats=3, **GENERATE)
    sampling = {"temperatures": [0.0, 0.7], "seeds": 5}
    assert f"about {2 * 6 * (1 + 5 * 3)} requests" in shown(tasks=["thrice"], sampling=sampling)


def test_the_share_that_decodes_is_told(shown):
    """A log-likelihood cannot show what happens while a model decodes."""
    assert "60% of the items generate text" in shown()
    assert "generate text" not in shown(tasks=["asked"])
    assert "0% of the items generate text" in shown(tasks=["chosen"])


def test_hours_follow_from_a_rate(shown):
    """Tokens over tokens per second; with early stopping a range below that."""
    assert "--rate TOKENS_PER_SECOND" in shown()
    assert "At 0.01 tokens a second (--rate) that takes 6.0 hours." in shown("--rate", "0.01")
    assert "that takes 72 seconds." in shown("--rate", "3")  # not 1 minutes
    assert "that takes 6.0 hours, with early stopping 6.0 hours." in shown(
        "--rate", "0.01", "--until-decided"
    )  # of one flip nothing is decided


def test_early_stopping_takes_fewer_hours(shown):
    """Where answers flip often enough that something is decided before the end."""
    said = shown("--rate", "0.1", "--flip-rate", "0.3", "--until-decided", docs=questions(300))
    numbers = re.search(r"takes ([\d.]+) hours, with early stopping ([\d.]+)", said)
    assert numbers, said[said.index("takes") :][:80]
    assert float(numbers[2]) < float(numbers[1])


def test_money_follows_from_prices(shown):
    """Tokens by the million, hours of one replica; a variant may have prices of its own."""
    tokens = {"cost": {"input": 10_000, "output": 100_000}}
    words, answers = 6 * 6 + 4 * 2 * 3, 6 * 8
    each = (words * 1e4 + answers * 1e5) / 1e6
    said = f"Estimated cost, from planned samples and their tokens: {2 * each:.2f} (base {each:.2f}, "
    assert said in shown(**tokens)
    free = {"base": {}, "free": {"cost": {"input": 0, "output": 0}}}
    assert f": {each:.2f} (base {each:.2f}, free 0.00)." in shown(**tokens, variants=free)
    budget = "0.00 of the budget of {} is spent{}."
    assert budget.format(9, ": the budget will run out before the sweep is complete") in shown(
        **tokens, budget=9
    )
    assert budget.format(99, ", which is enough") in shown(**tokens, budget=99)
    hours = {"cost": {"gpu_hour": 2.5}}
    assert "What its hours cost will be known after a first submit, or with --rate" in shown(**hours)
    money = 2.5 * (words + answers) / 0.01 / 3600
    assert f"{2 * money:.2f} (base {money:.2f}, other {money:.2f})" in shown("--rate", "0.01", **hours)
    assert "cost" not in shown()


def test_a_budget_needs_prices(lldeg, write):
    """Else it would never end anything."""
    ran = lldeg("submit", write(budget=5), "--dry-run")
    assert ran.status == 2
    assert "budget needs prices" in ran.err


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "1e30"])
def test_what_is_no_rate_is_refused(lldeg, write, rate):
    """In one sentence, before anything is shown."""
    ran = lldeg("submit", write(), "--dry-run", "--rate", rate)
    assert ran.status == 2
    assert "--rate must be above 0" in ran.err


def test_a_run_tells_its_rate_and_the_length_of_its_answers(shown, write, tmp_path):
    """Of its last submit, and of the answers that are there."""
    plan = plan_sweep(prepare(write(), run_dir=str(tmp_path / "run")), config_path=write())
    store, cell = plan.sweep.store, plan.cells_of("base")[0]
    store.write_manifest(plan.manifest)
    store.write_log("status.json", json.dumps(STATUS).encode())
    schema = schema_of_tasks(plan.manifest["tasks"].values())
    rows = [
        {"item": 0, "output_tokens": 2, "sample_key": "k"},
        {"item": 1, "output_tokens": 5, "sample_key": "l"},
    ]
    store.write_block("base", cell.task, "0000000-0123456789ab", pa.Table.from_pylist(rows, schema=schema))
    said = shown()
    assert f"and {2 * 6 * 3.5:.0f} of answers, judging by the answers so far" in said
    assert "At 30 tokens a second (as in the last submit of this run) that takes" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "status",
    [
        b"{",
        b"[]",
        *(
            json.dumps({"seconds": s, "variants": {"b": {"prompt_tokens": t}}}).encode()
            for s, t in [(1e-300, 9), (-1, 9), (None, 9), (5, -9), (5, 10**400), (5, "many")]
        ),
    ],
)
def test_a_damaged_status_tells_no_rate(shown, write, tmp_path, status):
    """It is as if there were none."""
    plan = plan_sweep(prepare(write(), run_dir=str(tmp_path / "run")), config_path=write())
    plan.sweep.store.write_manifest(plan.manifest)
    plan.sweep.store.write_log("status.json", status)
    assert "--rate TOKENS_PER_SECOND" in shown()


STATUS = {"seconds": 10.0, "variants": {"base": {"prompt_tokens": 200, "output_tokens": 100}}}


@pytest.mark.parametrize(
    ("overflow", "words"), [("cut", "their beginning will be cut off"), ("error", "their samples will fail")]
)
def test_prompts_that_do_not_fit_are_warned_of(shown, overflow, words):
    """By task and variant; the answer needs its room, and another context may suffice."""
    docs = [{"question": LONG, "answer": "one"}, *questions(1)]
    said = shown(
        docs=docs,
        prompt={"overflow": overflow},
        variants={"base": {}, "long": {"engine": {"max_model_len": 52}}},
    )
    assert f"'asked': 1 of 2 prompts do not fit for base, the longest by 12 tokens: {words}" in said


@pytest.mark.parametrize("length", [43, 44, 51, 52, 53])
def test_what_is_said_to_be_cut_is_what_an_engine_cuts(write, tmp_path, length):
    """One token more or less decides, here as where the prompt is asked."""
    from orchestrator.engines.tokenization import Encoding

    engine = {"kind": "vllm", "max_model_len": length}
    path = write([{"question": LONG, "answer": "one"}], engine=engine)
    lengths = prepare(path, run_dir=str(tmp_path / "run")).lengths("base", "asked")
    (_, cut), *_ = Encoding(word_tokenizer(), length).generation(LONG, {"max_gen_toks": 8})
    assert lengths.excess == cut
    assert lengths.too_long == (cut > 0)


def test_a_sweep_whose_prompts_must_fit_does_not_start_if_one_does_not(lldeg, write):
    """And starts, as far as that is concerned, if all do."""
    docs = [{"question": LONG, "answer": "one"}, *questions(1)]
    refused = lldeg("submit", write(docs, prompt={"overflow": "refuse"}), "--dry-run")
    assert refused.status == 2
    assert (
        "1 of 2 prompts do not fit for base, other, the longest by 12 tokens (prompt.overflow: refuse)"
        in refused.err
    )
    assert lldeg("submit", write(questions(2), prompt={"overflow": "refuse"}), "--dry-run").status == 0


@pytest.mark.parametrize("kind", ["vllm", "lm-eval:hf", "lm-eval:local-completions"])
@pytest.mark.parametrize("length", [0, "long", 2.5, 2**70])
def test_strange_lengths_end_no_dry_run(lldeg, write, kind, length):
    """They are shown or refused in one sentence; the engine has the last word."""
    served = {"base_url": "http://127.0.0.1:1/v1/completions"} if "completions" in kind else {}
    engine = {"kind": kind, **served, "max_gen_toks": length}
    engine["max_model_len" if kind == "vllm" else "max_length"] = length
    ran = lldeg("submit", write(engine=engine), "--dry-run")
    assert ran.status in {0, 2}
    assert "failed" not in ran.err


@pytest.mark.parametrize("engine", [{"kind": "vllm", "max_model_len": "auto"}, {"kind": "lm-eval:sglang"}])
def test_a_sweep_whose_prompts_must_fit_needs_to_know_the_context(lldeg, write, engine):
    """Where nothing tells it, the sweep says what to set."""
    refused = lldeg("submit", write(engine=engine, prompt={"overflow": "refuse"}), "--dry-run")
    assert refused.status == 2
    assert "nothing says whether its prompts fit" in " ".join(refused.err.split())
