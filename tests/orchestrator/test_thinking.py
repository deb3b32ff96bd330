"""Reasoning models: what their chat template is told, what of an answer is scored, what a run keeps of it."""

from types import SimpleNamespace

import pytest
import yaml
from lm_eval.api.model import LM
from lm_eval.models.utils import postprocess_generated_text
from standin.files import GENERATE, questions, write_model, write_small_sweep, write_task
from standin.reference import evaluate
from standin.server import StandInServer, open_engine
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from orchestrator.config.load import load_config
from orchestrator.config.schema import PromptConfig, SamplingConfig
from orchestrator.engines import kind_of
from orchestrator.engines.base import GENERATE as GENERATE_UNTIL
from orchestrator.engines.base import Answer, EngineSpec, Query
from orchestrator.errors import UserError
from orchestrator.rundir.identity import Rerun
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.plan import plan_sweep
from orchestrator.sweep.prepare import prepare
from orchestrator.sweep.prompts import ChatTemplate
from orchestrator.sweep.tasks import TaskLibrary, TaskSpec, items_of
from orchestrator.workers.answer_block import answer_block

END = "</think>"
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{{ effort }}"
)
THINKING = {"apply_chat_template": True, "enable_thinking": True, "think_end_token": END}
SAID = {
    "Item 0": f"First 7.\nThen 8.{END}\n\n0\nand 9",
    "Item 1": f"no, wait{END} a {END}1",
    "Item 2": "thinking 2\nto the end",
    "Item 3": "",
}


def say(prompt):
    """What the model says to a prompt."""
    return next(text for item, text in SAID.items() if prompt.endswith(item))


class Thinker(LM):
    """A model of lm-eval's that thinks; lm-eval's classes take the thoughts out like this."""

    def generate_until(self, requests, disable_tqdm=False):
        """Answers without their thoughts."""
        return [postprocess_generated_text(say(r.args[0]), r.args[1]["until"], END) for r in requests]

    loglikelihood = loglikelihood_rolling = None


@pytest.fixture
def tokenizer(tmp_path):
    """The folder of a model whose chat template knows two arguments."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), eos_token="a"
    )
    made.chat_template = TEMPLATE
    made.save_pretrained(write_model(tmp_path / "thinker"))
    return str(tmp_path / "thinker")


@pytest.fixture
def answered(tmp_path):
    """Queries and samples of a task whose model thinks."""
    name = write_task(tmp_path / "pack", "t", questions(4), **GENERATE)
    folders = (str(tmp_path / "pack"),)
    task = TaskLibrary(folders).open(TaskSpec(task=name, include_path=folders))
    built = task.build(PromptConfig(), None, "plain")
    block = Block("v", name, "c", tuple(items_of(built)), (Rerun(0.0),))
    asked = []

    def answer(queries):
        asked.extend(queries)
        return [Answer(say(query.arguments[0]), "stop", 5, 1) for query in queries]

    engine = SimpleNamespace(answer=answer)
    samples = answer_block(
        block, task.score_each, built, engine, SamplingConfig(), prompt=PromptConfig(think_end_token=END)
    )
    return asked, samples


def test_thoughts_are_not_scored(answered, tmp_path):
    """Filtered answers and scores are those of lm-eval with a model class that takes thoughts out."""
    expected = evaluate(Thinker(), [tmp_path / "pack"], ["t"], None)
    for sample in answered[1]:
        logged = expected["t", sample.item.item]
        assert sample.scored.filtered == {entry["filter"]: entry["filtered_resps"][0] for entry in logged}
        assert sample.scored.scores == {
            f"exact_match,{entry['filter']}": entry["exact_match"] for entry in logged
        }
    assert [sample.scored.scores["exact_match,whole"] for sample in answered[1]] == [1, 1, 0, 0]


def test_the_row_keeps_the_whole_answer(answered):
    """Thoughts included."""
    assert [sample.response for sample in answered[1]] == list(SAID.values())


def test_thoughts_are_not_stopped_by_the_tasks_stop_strings(answered):
    """Thoughts have line breaks, which end an answer to this task."""
    assert all("until" not in query.arguments[1] for query in answered[0])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"enable_thinking": False}, {"effort": "high"}])
def test_the_chat_template_is_called_as_lm_eval_calls_it(tokenizer, arguments):
    """With the same arguments, the same text."""
    from lm_eval.models.huggingface import HFLM  # takes seconds

    template = ChatTemplate((tokenizer, None, False), arguments)
    chat = [{"role": "user", "content": "hello"}]
    lm = SimpleNamespace(tokenizer=template._tokenizer, chat_template_args=arguments)
    assert template(chat) == HFLM.apply_chat_template(lm, chat)
    assert template.name == ChatTemplate((tokenizer, None, False)).name or arguments


@pytest.mark.ray
def test_a_chat_server_gets_the_arguments_of_its_chat_template():
    """It applies the template itself; servers such as vLLM's and SGLang's read them from the request."""
    server = StandInServer()
    options = {"kind": "lm-eval:local-chat-completions", "tokenizer_backend": "None", "base_url": server.url}
    engine = open_engine(EngineSpec("small", None, options, {"enable_thinking": False}), gpus=0)
    engine.answer([Query(GENERATE_UNTIL, ('[{"role": "user", "content": "one"}]', {"temperature": 0.0}))])
    engine.close()
    server.end()
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_an_argument_that_the_template_does_not_use_is_refused(tokenizer):
    """It would have no effect."""
    with pytest.raises(ValueError, match="enable_thought"):
        ChatTemplate((tokenizer, None, False), {"enable_thought": True})


def test_what_is_not_set_is_not_part_of_the_identity(tmp_path):
    """Runs from before there were these keys can be resumed; setting one asks for all answers again."""

    def cells(prompt):
        path = write_small_sweep(tmp_path, prompt=prompt)
        sweep = prepare(path, run_dir=str(tmp_path / "run"))
        return sweep.manifest()["prompt"], [cell.digest for cell in plan_sweep(sweep, config_path=path).cells]

    prompt, plain = cells({})
    assert prompt.keys() == {"apply_chat_template", "fewshot_as_multiturn", "system_instruction"}
    assert cells({"enable_thinking": None, "chat_template_args": {}}) == (prompt, plain)
    thinking, others = cells({"think_end_token": END})
    assert thinking == {**prompt, "think_end_token": END}
    assert not set(others) & set(plain)


@pytest.mark.parametrize(
    ("prompt", "wrong"),
    [
        ({**THINKING, "think_end_token": None}, "prompt.enable_thinking"),
        ({**THINKING, "apply_chat_template": False}, "prompt.enable_thinking"),
        ({"chat_template_args": {"effort": 1}}, "prompt.chat_template_args"),
        ({"apply_chat_template": True, "chat_template_args": {"tokenize": True}}, "'tokenize'"),
        ({"think_end_token": ""}, "prompt.think_end_token"),
    ],
)
def test_contradictions_are_refused(tmp_path, prompt, wrong):
    """One sentence that names the key."""
    path = write_small_sweep(tmp_path, prompt=prompt)
    (problem,) = load_config(path)[1]
    assert wrong in problem


def test_log_likelihoods_leave_no_room_for_thoughts(tmp_path, tokenizer):
    """Lm-eval refuses such tasks, too."""
    path = write_small_sweep(tmp_path, prompt=THINKING, model=tokenizer)
    with pytest.raises(UserError) as refused:
        prepare(path, run_dir=str(tmp_path / "run"))
    assert "task 'chosen'" in str(refused.value)
    assert "task 'asked'" not in str(refused.value)


@pytest.mark.parametrize("option", ["enable_thinking", "chat_template_args", "think_end_token"])
def test_options_of_lm_evals_classes_are_keys_of_the_prompt(option):
    """As engine options they would have no effect on prompts."""
    (problem,) = kind_of(EngineSpec("m", options={"kind": "lm-eval:hf", option: "x"})).problems()
    assert f"prompt.{option}" in problem


def test_the_sweep_of_a_run_keeps_the_keys(tmp_path):
    """What a run keeps of its sweep can be submitted again."""
    config, _ = load_config(write_small_sweep(tmp_path, prompt=THINKING))
    (tmp_path / "kept.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    again, problems = load_config(tmp_path / "kept.yaml")
    assert (again.prompt, problems[:1]) == (config.prompt, problems[:1])
    assert again.prompt.template_arguments == {"enable_thinking": True}
