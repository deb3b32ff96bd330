"""Reading a configuration: every mistake is reported at once, each with its place."""

import pytest
import yaml
from standin.command import ROOT

from orchestrator.config.load import load_config, resolve
from orchestrator.config.schema import Section
from orchestrator.errors import UserError

GOOD = {
    "name": "s",
    "baseline": "a",
    "model": "m",
    "variants": {"a": {}, "b": {"engine": {"kv_cache_dtype": "fp8"}}},
    "tasks": ["t"],
}


@pytest.fixture
def load(tmp_path):
    """Load a configuration given as a mapping or as text."""

    def load(content, *overrides):
        path = tmp_path / "sweep.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return load_config(path, overrides)

    return load


def test_a_right_file_has_no_mistakes(load):
    """A configuration without mistakes is returned with an empty list."""
    config, problems = load(GOOD)
    assert problems == []
    assert config.tasks[0].task == "t"


def every(section):
    """A kind of section and all below it."""
    return {section}.union(*map(every, section.__subclasses__()))


def test_every_key_is_documented():
    """In the page of the keys of a sweep."""
    page = (ROOT / "docs" / "sweep.md").read_text("utf-8")
    sections = (section for section in every(Section) if section.__module__ == Section.__module__)
    keys = {key for section in sections for key in section.model_fields}
    assert {key for key in keys if f"`{key}`" not in page} == set()


def test_all_mistakes_are_named_at_once(load):
    """Five mistakes of different kinds in one file are five sentences, not one."""
    _, problems = load(
        GOOD
        | {
            "basline": "a",
            "baseline": "c",
            "sampling": {"temperatures": [-1]},
            "cluster": {"replicas": 0},
            "tasks": ["t", "t"],
        }
    )
    named = "\n".join(problems)
    assert len(problems) == 5
    for word in ("'basline'", "baseline 'c'", "sampling.temperatures", "cluster.replicas", "listed twice"):
        assert word in named


@pytest.mark.parametrize(
    ("keys", "wrong", "right"),
    [
        ({"basline": "a"}, "basline", "baseline"),
        ({"sampling": {"temperature": [0.5]}}, "sampling.temperature", "temperatures"),
        ({"variants": {"a": {"enginee": {}}}}, "variants.a.enginee", "engine"),
        ({"tasks": [{"task": "t", "num_fewshots": 3}]}, "tasks.0.num_fewshots", "num_fewshot"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_one_of_its_place(load, keys, wrong, right):
    """A mistyped key at any depth is named by its place, and the key meant is offered."""
    _, problems = load(GOOD | keys)
    assert problems == [f"unknown key '{wrong}' (did you mean '{right}'?)"]


def test_a_key_like_no_other_gets_no_suggestion(load):
    """No far-fetched guess is made."""
    _, problems = load(GOOD | {"xyzzy": 1})
    assert problems == ["unknown key 'xyzzy'"]


def test_a_missing_key_is_named(load):
    """What has to be there and is not is said to be missing."""
    _, problems = load({key: value for key, value in GOOD.items() if key != "tasks"})
    assert problems == ["'tasks' is missing"]


def test_duplicate_keys_are_found(load):
    """Two variants of one name are a mistake, though YAML would silently let the second win."""
    _, problems = load("name: s\nbaseline: a\nmodel: m\ntasks: [t]\nvariants:\n  a: {}\n  a: {}\n")
    assert problems == ["duplicate key 'a' at line 7"]


@pytest.mark.parametrize(
    ("sampling", "reason"),
    [
        ({"seeds": 0}, "at least 1"),
        ({"seeds": [1, 1]}, "distinct numbers"),
        ({"seeds": [-1]}, "between 0 and"),
        ({"seeds": [2**31]}, "between 0 and"),
        ({"temperatures": []}, "distinct temperatures"),
        ({"temperatures": [0.5, 0.5]}, "distinct temperatures"),
        ({"top_p": 0}, "greater than 0"),
        ({"seeds": True}, "seeds"),
        ({"seeds": "three"}, "seeds"),
    ],
)
def test_impossible_sampling_is_refused(load, sampling, reason):
    """Values that no sampler could use are named with what was expected."""
    _, problems = load(GOOD | {"sampling": sampling})
    assert len(problems) == 1
    assert reason in problems[0]


def test_a_count_of_seeds_means_the_first_numbers(load):
    """`seeds: 3` is short for 0, 1, 2."""
    config, _ = load(GOOD | {"sampling": {"seeds": 3}})
    assert config.sampling.seeds == (0, 1, 2)


def test_the_engine_of_a_variant_is_laid_over_the_default(load):
    """A variant's engine keys win over the sweep's; the sweep's others stay."""
    config, _ = load(
        GOOD
        | {
            "engine": {"kind": "vllm", "dtype": "bfloat16", "max_model_len": 512},
            "variants": {"a": {}, "b": {"engine": {"dtype": "float16"}}},
        }
    )
    assert resolve(config)["b"].options == {"kind": "vllm", "dtype": "float16", "max_model_len": 512}


def test_a_variants_own_model_has_not_the_revision_of_the_sweeps(load):
    """The sweep's revision belongs to the sweep's model alone."""
    config, _ = load(GOOD | {"revision": "v1", "variants": {"a": {}, "b": {"model": "n"}}})
    assert (resolve(config)["a"].revision, resolve(config)["b"].revision) == ("v1", None)


@pytest.mark.parametrize("key", ["api_key", "hf_token", "OPENAI_API_KEY", "password"])
def test_secrets_are_refused(load, key):
    """A key that looks like a secret may not stand in a file that is copied into every run."""
    _, problems = load(GOOD | {"engine": {key: "s3cr3t"}})
    assert len(problems) == 2
    assert all("environment" in problem and "s3cr3t" not in problem for problem in problems)


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "x" * 101])
def test_a_sweeps_name_cannot_leave_its_folder(load, name):
    """The name becomes a folder, so it may hold no path."""
    _, problems = load(GOOD | {"name": name})
    assert len(problems) == 1


def test_yaml_cannot_run_code(load, tmp_path):
    """A YAML tag that would call Python is refused and not called."""
    mark = tmp_path / "called"
    with pytest.raises(UserError, match="is not valid YAML at line 2"):
        load(f"name: s\nbaseline: !!python/object/apply:os.mkdir ['{mark}']\n")
    assert not mark.exists()


def test_set_overrides_a_nested_key(load):
    """--set reaches into sections and reads its value as YAML."""
    config, problems = load(GOOD, "sampling.temperatures=[0, 0.7]", "variants.b.engine.max_num_seqs=4")
    assert problems == []
    assert config.sampling.temperatures == (0.0, 0.7)
    assert config.variants["b"].engine == {"kv_cache_dtype": "fp8", "max_num_seqs": 4}


@pytest.mark.parametrize("override", ["sampling.seeds", "=3", "name.first=x", "sampling.seeds=[1"])
def test_a_malformed_set_is_refused(load, override):
    """--set without a key, without a value, into something that is no section, or with broken YAML."""
    _, problems = load(GOOD, override)
    assert [problem.split()[0] for problem in problems] == ["--set"]


def test_a_mistake_in_set_is_named_like_one_in_the_file(load):
    """An unknown key given by --set gets the same suggestion."""
    _, problems = load(GOOD, "sampling.seed=3")
    assert problems == ["unknown key 'sampling.seed' (did you mean 'seeds'?)"]


def test_include_paths_are_relative_to_the_file(load, tmp_path):
    """A pack beside the configuration is found from any current folder."""
    (tmp_path / "pack").mkdir()
    config, problems = load(GOOD | {"include_path": "pack"})
    assert problems == []
    assert config.include_path == (str(tmp_path / "pack"),)


def test_a_mistake_does_not_hide_those_between_keys(load):
    """Contradictions between keys are found although another key is mistaken."""
    _, problems = load(GOOD | {"basline": "a", "model": None})
    assert [problem.split(":")[0] for problem in problems] == [
        "unknown key 'basline' (did you mean 'baseline'?)",
        "variants.a has no model",
        "variants.b has no model",
    ]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("policy", 5, "must be the file of a policy, or what would be in it (it is 5)"),
        ("spending", {"degraded": "obf3"}, "such as hsd-4 (it is 'obf3')"),
    ],
)
def test_a_mistake_in_how_to_stop_is_one_sentence(load, key, value, said):
    """Also where there are two ways to write it."""
    _, (problem,) = load(GOOD | {"stopping": {key: value}})
    assert problem.startswith(f"stopping.{key}")
    assert problem.endswith(said)


def test_a_mistake_in_one_task_is_the_only_one_named(load):
    """The list is not also called too short because its only entry is mistaken, and later checks go on."""
    _, problems = load(GOOD | {"tasks": [{"task": "t", "limit": 0}], "baseline": "c"})
    assert [problem.split(" ")[0] for problem in problems] == ["tasks.0.limit:", "baseline"]


def test_a_variant_without_settings_may_be_empty(load):
    """`bf16:` with nothing after it means the defaults."""
    config, problems = load("name: s\nbaseline: a\nmodel: m\ntasks: [t]\nvariants:\n  a:\n")
    assert problems == []
    assert config.variants["a"].engine == {}


@pytest.mark.parametrize("replicas", ["many", 0, -1, 1.5, True])
def test_impossible_replicas_are_one_mistake(load, replicas):
    """A value that may be a word or a number gets one sentence, not one for each."""
    _, problems = load(GOOD | {"cluster": {"replicas": replicas}})
    assert problems == [f'cluster.replicas: must be "auto" or from 1 to 100,000 (it is {replicas!r})']


@pytest.mark.parametrize("keys", [{"tasks": "t"}, {"tasks": [3]}, {"variants": ["a"]}, {"sampling": [1]}])
def test_a_wrong_shape_is_named_in_words_of_yaml(load, keys):
    """Whoever writes YAML need not know Python's tuples and dictionaries, nor pydantic's classes."""
    _, problems = load(GOOD | keys)
    assert len(problems) == 1
    assert any(word in problems[0] for word in ("should be a mapping", "should be a list"))
    assert "Config" not in problems[0]


@pytest.mark.parametrize(
    ("prompt", "multiturn"),
    [
        ({}, False),
        ({"apply_chat_template": True}, True),
        ({"apply_chat_template": True, "fewshot_as_multiturn": False}, False),
    ],
)
def test_examples_are_turns_where_there_is_a_chat_template(load, prompt, multiturn):
    """The default is lm-eval's own, so that prompts agree with `lm_eval --apply_chat_template`."""
    config, problems = load(GOOD | {"prompt": prompt})
    assert problems == []
    assert config.prompt.fewshot_as_multiturn is multiturn


def test_the_environment_of_a_variant_is_laid_over_that_of_the_sweep(load):
    """All values are text; a variant without any has no such key, so that its identity is what it was."""
    config, problems = load(
        GOOD
        | {
            "engine": {"env": {"VLLM_BATCH_INVARIANT": 1}},
            "variants": {
                "a": {},
                "b": {"env": {"VLLM_USE_FLASHINFER_SAMPLER": "X", "VLLM_BATCH_INVARIANT": "0"}},
            },
        }
    )
    assert problems == []
    assert resolve(config)["a"].options["env"] == {"VLLM_BATCH_INVARIANT": "1"}
    assert resolve(config)["b"].options["env"] == {
        "VLLM_BATCH_INVARIANT": "0",
        "VLLM_USE_FLASHINFER_SAMPLER": "X",
    }
    assert "env" not in resolve(load(GOOD)[0])["a"].options


@pytest.mark.parametrize(
    "env",
    [
        {"HF_TOKEN": "abc"},
        {"HF_TOKEN": "$HF_TOKEN"},
        {"X": "Bearer abcdefghijkl"},
        {"A B": 1},
        {"A": True},
        {"A": [1]},
    ],
)
def test_secrets_and_what_is_no_variable_are_refused(load, env):
    """Once, and without repeating a secret."""
    _, problems = load(GOOD | {"variants": {"a": {"env": env}, "b": {}}})
    assert len(problems) == 1
    assert "abc" not in problems[0]


def test_a_tasks_own_sampling_wins(load):
    """Over the sweep's, for what it sets."""
    config, problems = load(
        GOOD
        | {
            "sampling": {"top_k": 5, "repetition_penalty": 1.1},
            "tasks": [{"task": "t", "sampling": {"top_k": 0, "max_gen_toks": 99}}],
        }
    )
    assert problems == []
    assert config.sampling.of_task(config.tasks[0].sampling).meaning() == {
        "top_p": 1.0,
        "top_k": 0,
        "repetition_penalty": 1.1,
        "max_gen_toks": 99,
    }


def test_sampling_that_is_not_set_leaves_the_keys_of_samples_alone(load):
    """What runs before these settings have recorded, and nothing else."""
    config, _ = load(GOOD)
    assert config.sampling.meaning() == {"top_p": 1.0, "top_k": None, "max_gen_toks": None}
    assert config.tasks[0].sampling.meaning() == {}


def test_a_sweep_that_stops_early_is_not_scored(load):
    """It may lack answers of the baseline."""
    _, problems = load({**GOOD, "fidelity": {}, "stopping": {}})
    assert problems == ["fidelity needs all answers of the baseline: remove it, or stopping"]
