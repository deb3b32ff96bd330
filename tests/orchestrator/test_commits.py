"""Models and tokenizers of the hub are resolved to a commit once, and that is what everything loads."""

from pathlib import Path

import huggingface_hub
import pytest
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.words import word_tokenizer

from orchestrator.config.load import resolve
from orchestrator.engines.base import EngineSpec
from orchestrator.engines.lm_eval_engine import load_lm
from orchestrator.engines.vllm_engine import engine_arguments
from orchestrator.errors import UserError
from orchestrator.rundir import manifest as manifests
from orchestrator.sweep import prepare as preparing
from orchestrator.sweep.models import find_models
from orchestrator.sweep.prepare import prepare

FIRST, SECOND = "1" * 40, "2" * 40


class Hub:
    """A hub's cache on this disk, in which a repository's main can be moved."""

    def __init__(self, folder):
        self.folder = folder

    def snapshot(self, name, commit):
        """The folder of a repository's files at a commit, which main then is."""
        repository = self.folder / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        files = repository / "snapshots" / commit
        files.mkdir(parents=True, exist_ok=True)
        return files


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub; what is not in it cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Hub(tmp_path / "hub")


def write_tokenizer(folder, said):
    """A tokenizer whose chat template and unknown token say something."""
    made = word_tokenizer()
    made.chat_template = f"{{% for m in messages %}}{said} {{{{ m.content }}}}{{% endfor %}}"
    made.save_pretrained(folder)


def write_tiny_model(folder, seed):
    """A model with weights of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(word_tokenizer()),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def sweep_of(tmp_path, **keys):
    """A sweep over one task."""
    write_task(tmp_path / "pack", "asked", questions(2), **GENERATE)
    keys = {"model": "org/model", "engine": {"kind": "lm-eval:hf"}, "variants": {"base": {}}, **keys}
    return write_sweep(tmp_path, tasks=["asked"], prompt={"apply_chat_template": True}, **keys)


@pytest.fixture
def moving(hub, monkeypatch):
    """org/model and org/tokenizer, whose mains move as soon as `prepare` has looked them up."""

    def write(commit, seed):
        folder = hub.snapshot("org/model", commit)
        write_tiny_model(folder, seed)
        write_tokenizer(folder, f"model {seed}")
        folder = hub.snapshot("org/tokenizer", commit)
        (folder / "config.json").write_text('{"model_type": "llama"}')
        write_tokenizer(folder, f"tokenizer {seed}")

    def look_up(variants, problems):
        found = find_models(variants, problems)
        write(SECOND, 2)
        return found

    write(FIRST, 1)
    monkeypatch.setattr(preparing, "find_models", look_up)
    return hub


def first_weights(hub):
    """The embeddings of the model's first commit."""
    from transformers import AutoModelForCausalLM

    folder = hub.folder / "models--org--model" / "snapshots" / FIRST
    return AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight


def test_a_main_that_moves_moves_for_no_replica(moving, tmp_path):
    """The model, its tokenizer and the chat template are those of the recorded commit."""
    sweep = prepare(sweep_of(tmp_path), run_dir=str(tmp_path / "run"))
    assert sweep.manifest()["variants"]["base"]["revision"] == FIRST
    prompt = sweep.built[sweep.renderings["base"], "asked"][0][0].args[0]
    assert prompt.startswith("model 1")
    lm = load_lm(sweep.variants["base"], "hf", on_cpu=True)
    assert lm.model.get_input_embeddings().weight.equal(first_weights(moving))
    assert "model 1" in lm.tokenizer.chat_template


def test_a_tokenizer_of_its_own_is_pinned_too(moving, tmp_path):
    """At its own commit, which lm-eval's class would look for in the model's repository."""
    engine = {"kind": "lm-eval:hf", "tokenizer": "org/tokenizer"}
    sweep = prepare(sweep_of(tmp_path, engine=engine), run_dir=str(tmp_path / "run"))
    entry = sweep.manifest()["variants"]["base"]
    assert (entry["revision"], entry["commits"], entry["engine"]) == (FIRST, {"tokenizer": FIRST}, engine)
    assert sweep.built[sweep.renderings["base"], "asked"][0][0].args[0].startswith("tokenizer 1")
    lm = load_lm(sweep.variants["base"], "hf", on_cpu=True)
    assert "tokenizer 1" in lm.tokenizer.chat_template


def test_a_class_that_knows_no_revision_gets_the_commits_folder(hub):
    """A model class of one's own, for example."""
    folder = hub.snapshot("org/model", FIRST)
    (folder / "config.json").write_text("{}")
    hub.snapshot("org/model", SECOND)
    spec = EngineSpec("org/model", FIRST)
    assert Path(load_lm(spec, f"{__name__}:OfOnesOwn", on_cpu=True).model) == folder


class OfOnesOwn:
    """A model class that takes a model, and nothing else."""

    def __init__(self, model):
        self.model = model

    @classmethod
    def create_from_arg_obj(cls, arguments):
        """As lm-eval makes one."""
        return cls(**arguments)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"revision": FIRST, "tokenizer_revision": FIRST}),
        (
            {"tokenizer": "org/tokenizer", "commits": {"tokenizer": SECOND}},
            {"revision": FIRST, "tokenizer_revision": SECOND},
        ),
        (
            {
                "speculative_config": {"model": "org/draft", "num_speculative_tokens": 2},
                "commits": {"speculative_config": SECOND},
            },
            {
                "speculative_config": {
                    "model": "org/draft",
                    "num_speculative_tokens": 2,
                    "revision": SECOND,
                }
            },
        ),
    ],
)
def test_vllm_is_told_every_commit(options, expected):
    """Of the model, of its tokenizer (vLLM would take main for another one), and of a draft model."""
    spec = EngineSpec("org/model", FIRST, {"kind": "vllm", **options})
    arguments = engine_arguments(spec, gpus=1, on_cpu=False)
    assert expected.items() <= arguments.items()
    assert "commits" not in arguments


def test_a_run_does_not_go_on_with_another_commit(moving, tmp_path):
    """A branch that has moved since is another model: refused by name, for a tokenizer as for a model."""
    engine = {"kind": "lm-eval:hf", "tokenizer": "org/tokenizer"}
    before = prepare(sweep_of(tmp_path, engine=engine), run_dir=str(tmp_path / "run")).manifest()
    after = prepare(sweep_of(tmp_path, engine=engine), run_dir=str(tmp_path / "run")).manifest()
    with pytest.raises(UserError, match=r"variants\.base\.commits\.tokenizer") as refused:
        manifests.merge(before, after, "lldeg submit")
    assert "variants.base.revision" in str(refused.value)


def test_a_run_that_names_no_tokenizers_commit_goes_on(moving, tmp_path):
    """Those of earlier versions do not."""
    engine = {"kind": "lm-eval:hf", "tokenizer": "org/tokenizer"}
    now = prepare(sweep_of(tmp_path, engine=engine), run_dir=str(tmp_path / "run")).manifest()
    old = {
        name: {k: v for k, v in entry.items() if k != "commits"} for name, entry in now["variants"].items()
    }
    merged = manifests.merge({**now, "variants": old}, now, "lldeg submit")
    assert merged["variants"]["base"]["commits"] == {"tokenizer": FIRST}


@pytest.mark.parametrize("option", ["revision", "commits"])
def test_a_revision_among_the_engines_options_is_refused(moving, tmp_path, option):
    """It would not be the recorded one."""
    path = sweep_of(tmp_path, engine={"kind": "lm-eval:hf", option: "main"})
    with pytest.raises(UserError, match=f"{option} is not an engine option: set the key revision"):
        prepare(path, run_dir=str(tmp_path / "run"))


def test_a_served_models_tokenizer_is_pinned_if_it_is_known(moving, tmp_path):
    """By the model's name where none is set; a name that only the server knows is left alone."""
    engine = {"kind": "lm-eval:local-completions", "base_url": "http://127.0.0.1:1/v1/completions"}
    variants = {"base": {}, "other": {"model": "the-servers-own"}}
    config = preparing.load_config(sweep_of(tmp_path, engine=engine, variants=variants), ())[0]
    found = find_models(resolve(config), problems := [])
    assert problems == []
    assert found["base"].commits == {"tokenizer": FIRST}
    assert (found["other"].identity, found["other"].commits) == ("the-servers-own", {})


def test_an_option_that_names_nothing_is_refused_by_its_name(moving, tmp_path):
    """Beside whatever else is wrong; a name of one word may be on the hub."""
    engine = {"kind": "lm-eval:hf", "tokenizer": "nobodys"}
    with pytest.raises(UserError, match=r"variants\.base: engine\.tokenizer: 'nobodys' is not a folder"):
        prepare(sweep_of(tmp_path, engine=engine), run_dir=str(tmp_path / "run"))
