"""Chat templates: the default of a tokenizer, or one of several by its name, as in lm-eval."""

import json

import pytest
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.words import word_tokenizer

from orchestrator.errors import UserError
from orchestrator.sweep.prepare import prepare

ONE = "{% for m in messages %}one {{ m.content }}{% endfor %}"
TWO = "{% for m in messages %}two {{ m.content }} {{ effort }}{% endfor %}"


TOOLS = "{% for t in tools %}{{ t.function.name }} {% endfor %}" + ONE


@pytest.fixture
def prompt(tmp_path):
    """The first prompt of a task, for a tokenizer with such templates and such a section `prompt`."""

    def prompt(templates, kind="vllm", conversation=None, **section):
        made = word_tokenizer()
        made.chat_template = templates
        if conversation is None:
            write_task(tmp_path / "pack", "asked", questions(1), **GENERATE)
        else:
            (tmp_path / "pack").mkdir(exist_ok=True)
            (tmp_path / "pack" / "asked.jsonl").write_text(json.dumps(conversation))
        engine = {"kind": kind, "base_url": "http://127.0.0.1:1"} if "chat" in kind else {"kind": kind}
        path = write_sweep(tmp_path, tasks=["asked"], variants={"base": {}}, engine=engine, prompt=section)
        made.save_pretrained(tmp_path / "model")
        sweep = prepare(path, run_dir=str(tmp_path / "run"))
        return sweep.built[sweep.renderings["base"], "asked"][0][0].args[0]

    return prompt


@pytest.mark.parametrize(("chosen", "word"), [(True, "one"), ("default", "one"), ("long", "two")])
def test_a_name_chooses_a_template(prompt, chosen, word):
    """True takes the default."""
    assert prompt({"default": ONE, "long": TWO}, apply_chat_template=chosen).split()[0] == word


@pytest.mark.parametrize("chosen", [True, "default"])
def test_the_only_template_is_the_default(prompt, chosen):
    """By that name, too."""
    assert prompt(ONE, apply_chat_template=chosen).split()[0] == "one"


def test_arguments_are_those_of_the_chosen_template(prompt):
    """One that only another template uses is refused."""
    templates, arguments = {"default": ONE, "long": TWO}, {"effort": "high"}
    text = prompt(templates, apply_chat_template="long", chat_template_args=arguments)
    assert text.endswith("high")
    with pytest.raises(UserError, match="does not use 'effort'"):
        prompt(templates, apply_chat_template=True, chat_template_args=arguments)


@pytest.mark.parametrize("templates", [ONE, {"default": ONE, "long": TWO}])
def test_an_unknown_name_is_refused_with_those_there_are(prompt, templates):
    """And never taken for a template itself, as the tokenizer would."""
    with pytest.raises(UserError, match="no chat template 'short'; it has default"):
        prompt(templates, apply_chat_template="short")


def test_a_template_writes_the_tools_of_a_conversation(prompt):
    """One that has no place for them would hide what may be called."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("act", "stop")]
    recorded = {"messages": [{"role": "user", "content": "go"}], "tools": tools}
    assert prompt(TOOLS, conversation=recorded, apply_chat_template=True) == "act stop one go"
    with pytest.raises(UserError, match="no place for tools"):
        prompt(ONE, conversation=recorded, apply_chat_template=True)
    assert prompt(ONE, conversation={**recorded, "tools": []}, apply_chat_template=True) == "one go"


def test_several_templates_without_a_default_need_a_name(prompt):
    """Which one was meant cannot be guessed."""
    assert prompt({"a": ONE, "b": TWO}, apply_chat_template="b").startswith("two")
    with pytest.raises(UserError, match="no chat template 'default'; it has a, b"):
        prompt({"a": ONE, "b": TWO}, apply_chat_template=True)


def test_the_template_of_a_server_is_not_for_the_sweep_to_choose(prompt):
    """A server of chats renders conversations itself."""
    with pytest.raises(UserError, match="its server chooses the chat template"):
        prompt(ONE, kind="lm-eval:local-chat-completions", apply_chat_template="default")


def test_a_model_that_is_not_there_is_not_looked_for_again(tmp_path, monkeypatch):
    """Its template would be searched on the hub, which takes minutes without a network."""
    monkeypatch.setattr("orchestrator.sweep.prompts.ChatTemplate", None)
    path = write_sweep(
        tmp_path, tasks=["a"], variants={"base": {"model": "x"}}, prompt={"apply_chat_template": True}
    )
    with pytest.raises(UserError, match="the model folder x does not exist"):
        prepare(path)


def test_a_template_that_refuses_a_conversation_is_named(prompt):
    """With its own words, whichever error it raises."""
    strict = "{{ raise_exception('Roles must alternate') }}" + ONE
    with pytest.raises(UserError, match=r"task 'asked' cannot be built: .*Roles must alternate"):
        prompt(strict, apply_chat_template=True)


@pytest.mark.parametrize("value", ["", 3, [True], None])
def test_what_is_neither_yes_nor_a_name_is_one_mistake(prompt, value):
    """In one sentence."""
    with pytest.raises(UserError, match=r"prompt\.apply_chat_template: must be true, false or the name"):
        prompt(ONE, apply_chat_template=value)
