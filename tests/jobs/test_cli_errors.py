"""Every mistake of a user ends in one sentence on standard error and exit status 2, without a traceback."""

import json
from pathlib import Path

import pytest
import yaml
from standin.files import write_small_sweep

from orchestrator.sweep.plan import plan_sweep
from orchestrator.sweep.prepare import prepare
from orchestrator.sweep.tasks import TaskLibrary

NOWHERE = str(Path(__file__).with_name("no-such-folder"))


@pytest.fixture
def refusal(lldeg):
    """Runs a command that must be refused; returns its sentence, on one line and unwrapped."""

    def run(*arguments):
        result = lldeg(*arguments)
        assert result.status == 2
        assert "Traceback" not in result.out + result.err
        assert result.err.startswith("Error: ")
        assert sum(line.startswith("Error") for line in result.err.splitlines()) == 1
        return " ".join(result.err.removeprefix("Error: ").split())

    return run


@pytest.fixture
def own_tasks_only(monkeypatch):
    """Leave lm-eval's own collection out of the search for names: scanning it takes six seconds."""
    monkeypatch.setattr(TaskLibrary, "_all", property(lambda library: library._own))


def is_one_sentence(text):
    """Whether a text is one sentence: one line that ends in a full stop."""
    return text.endswith(".") and "\n" not in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"name: s\nbaseline: [", "sweep.yaml is not valid YAML at line 2: expected"),
        (b"\x80\x81\xff", "sweep.yaml cannot be read: 'utf-8' codec"),
        (b"\x00\x01\x02", "sweep.yaml is not valid YAML: special characters are not allowed."),
        (b"", "sweep.yaml is not a sweep: a sweep is a YAML mapping"),
        (b"- a\n- b\n", "sweep.yaml is not a sweep: a sweep is a YAML mapping"),
        (b"just words", "sweep.yaml is not a sweep: a sweep is a YAML mapping"),
        (b"a: &a [*a]\n? [x]\n: y\n", "sweep.yaml is not valid YAML at line"),
        (b"name: s\n--- \nname: t\n", "sweep.yaml is not valid YAML at line"),
    ],
)
def test_a_file_that_is_no_sweep(refusal, tmp_path, content, sentence):
    """Broken YAML, another encoding, a binary, empty or foreign file."""
    (tmp_path / "sweep.yaml").write_bytes(content)
    said = refusal("submit", "sweep.yaml")
    assert said.startswith(sentence)
    assert is_one_sentence(said)


def test_no_such_file(refusal):
    """A file that does not exist is named."""
    assert refusal("submit", "nowhere/sweep.yaml") == "nowhere/sweep.yaml does not exist."


def test_a_folder_instead_of_a_file(refusal, tmp_path):
    """A folder is called one."""
    assert refusal("submit", str(tmp_path)) == f"{tmp_path} is a folder; pass the YAML file of a sweep."


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"basline": "base"}, "unknown key 'basline' (did you mean 'baseline'?)"),
        ({"baseline": "bse"}, "baseline 'bse' is not a variant (did you mean 'base'?)"),
        ({"baseline": "xyz"}, "baseline 'xyz' is not a variant; variants are base, other"),
        ({"variants": {"base": {"engine": {"max_num_seq": 8}}}}, "did you mean 'max_num_seqs'?"),
        ({"engine": {"kind": "vlm"}, "variants": {"base": {}}}, "variants.base: unknown engine 'vlm'"),
        (
            {"model": NOWHERE, "variants": {"base": {}}},
            f"the model folder {NOWHERE} does not exist",
        ),
        ({"model": "./model-x", "variants": {"base": {}}}, "the model folder ./model-x does not exist"),
        ({"model": None, "variants": {"base": {}}}, "variants.base has no model"),
        ({"tasks": ["asked", "asked"]}, "task 'asked' is listed twice"),
        (
            {"tasks": [{"task": "asked", "metric": "bleu"}]},
            "has no metric 'bleu' with a number per item; it has exact_match,number",
        ),
        ({"tasks": [{"task": "asked", "num_fewshot": 3}]}, "zero-shot by definition"),
        ({"sampling": {"temperatures": [-0.1]}}, "each at least 0 (it is [-0.1])"),
    ],
)
def test_one_mistake_in_the_file(refusal, tmp_path, keys, sentence):
    """The sentence begins with the file, says what is wrong and, where something is close, what was meant."""
    said = refusal("submit", write_small_sweep(tmp_path, **keys))
    assert said.startswith(f"{tmp_path}/sweep.yaml: ")
    assert sentence in said
    assert is_one_sentence(said)


def test_a_missing_folder_of_tasks(refusal, tmp_path):
    """include_path is checked, and the tasks that would be found there are not blamed for it."""
    path = write_small_sweep(tmp_path, include_path="pakc")
    assert refusal("submit", path) == f"{path}: include_path: the folder {tmp_path}/pakc does not exist."


def test_a_task_without_items(refusal, tmp_path):
    """A file of recorded conversations that is empty, beside a mistake elsewhere."""
    chat = {"kind": "lm-eval:local-chat-completions", "base_url": "http://127.0.0.1:1"}
    keys = {"tasks": ["calls"], "basline": "x", "prompt": {"apply_chat_template": True}, "engine": chat}
    path = write_small_sweep(tmp_path, variants={"base": {}}, **keys)
    (tmp_path / "pack" / "calls.jsonl").write_text("\n")
    said = refusal("submit", path)
    assert "has 2 mistakes" in said
    assert "task 'calls' has no items" in said


@pytest.mark.slow
def test_an_unknown_task_gets_the_nearest_of_lm_evals(refusal, tmp_path):
    """Suggestions come from the user's own folder and from lm-eval's collection; no task is a path."""
    path = write_small_sweep(tmp_path, tasks=["askd", "gsm8", "call", "../pack/calls"])
    (tmp_path / "pack" / "calls.jsonl").write_text("{}")
    said = refusal("submit", path)
    assert "unknown task 'call' (did you mean 'calls'?)" in said
    assert "unknown task '../pack/calls'" in said
    assert "unknown task 'askd' (did you mean 'asked'?)" in said
    assert "unknown task 'gsm8' (did you mean 'gsm8k'?)" in said


def test_a_hub_name_that_is_out_of_reach(refusal, tmp_path):
    """A model name that is neither a folder nor cached nor on the hub is said to be so."""
    path = write_small_sweep(tmp_path, model="nobody/nothing", variants={"base": {}})
    said = refusal("submit", path)
    assert "'nobody/nothing' is not a folder, not in the Hugging Face cache, and not on the hub" in said


def test_a_folder_that_holds_no_model(refusal, tmp_path):
    """A folder without config.json is not taken for a model."""
    path = write_small_sweep(tmp_path, model=str(tmp_path / "pack"), variants={"base": {}})
    assert "is not a model: it has no config.json" in refusal("submit", path)


def test_several_mistakes_are_told_together(refusal, tmp_path):
    """Mistakes found by different checks are one list: key, baseline, engine option, model."""
    path = write_small_sweep(
        tmp_path,
        basline="x",
        baseline="bse",
        variants={"base": {"engine": {"dtyp": "half"}}, "other": {"model": NOWHERE}},
    )
    said = refusal("submit", path)
    assert f"{path} has 4 mistakes: - " in said
    for words in ("'basline'", "'bse'", "did you mean 'dtype'?", NOWHERE):
        assert words in said


@pytest.mark.usefixtures("own_tasks_only")
@pytest.mark.slow
def test_mistakes_of_every_check_are_told_in_one_round(refusal, tmp_path):
    """--set, engine option, model, unknown task, metric and chat template: all at once."""
    path = write_small_sweep(
        tmp_path,
        variants={"base": {}, "other": {"engine": {"dtyp": "half"}}, "third": {"model": NOWHERE}},
        tasks=["askd", {"task": "chosen", "metric": "bleu"}],
        prompt={"apply_chat_template": True},
    )
    said = refusal("submit", path, "--set", "sampling.seeds")
    for words in (
        "--set sampling.seeds: expected KEY=VALUE",
        "variants.other: vLLM has no option 'dtyp'",
        f"variants.third: the model folder {NOWHERE} does not exist",
        "unknown task 'askd' (did you mean 'asked'?)",
        "task 'chosen' has no metric 'bleu'",
        "variants.base: its chat template could not be loaded",
    ):
        assert words in said


@pytest.mark.usefixtures("own_tasks_only")
@pytest.mark.parametrize(
    ("task", "subset", "words"),
    [
        ({"task": "asked", "cluster": "author"}, None, "task 'asked' has no field 'author' to cluster by"),
        ("asked", {"asked": [0, 77]}, "item 77 of task 'asked', which does not exist"),
    ],
)
def test_a_mistake_that_only_the_prompts_show(refusal, tmp_path, task, subset, words):
    """It is named together with the others, before anything is written."""
    path = write_small_sweep(
        tmp_path,
        tasks=[task, "askd"],
        **({} if subset is None else {"items": "subset.json"}),
    )
    (tmp_path / "subset.json").write_text(json.dumps(subset))
    said = refusal("submit", path)
    assert "has 2 mistakes" in said
    assert words in said
    assert "unknown task 'askd'" in said


def test_a_broken_task_file_is_named(refusal, tmp_path):
    """A task that lm-eval cannot load is a sentence with lm-eval's reason."""
    path = write_small_sweep(tmp_path)
    (tmp_path / "pack" / "loader.py").write_text("def load(name, **_):\n    raise OSError('disk')\n")
    assert "task 'asked' cannot be loaded: OSError: disk" in refusal("submit", path)


@pytest.mark.parametrize("override", ["sampling.seeds", "sampling.seed=3", "tasks=[", "name.x=1"])
def test_a_bad_set(refusal, tmp_path, override):
    """--set without value, with an unknown key, with broken YAML, into something that is no section."""
    said = refusal("submit", write_small_sweep(tmp_path), "--set", override)
    assert override.partition("=")[0] in said
    assert is_one_sentence(said)


def test_a_run_whose_sweep_changed(refusal, tmp_path):
    """The keys that differ are named, and the command that would work is printed and works."""
    path = write_small_sweep(tmp_path)
    start(path, tmp_path / "run")
    write_small_sweep(tmp_path, variants={"base": {}, "other": {"engine": {"max_num_seqs": 16}}})
    said = refusal("submit", path, "--run-dir", tmp_path / "run")
    assert "variants.other.engine.max_num_seqs: 8 → 16" in said
    assert said.endswith(f"lldeg submit {path} --run-dir {tmp_path}/run-2")


def test_a_changed_task_is_a_changed_sweep(refusal, tmp_path):
    """Another prompt under the same task name is refused like another model."""
    path = write_small_sweep(tmp_path)
    start(path, tmp_path / "run")
    task = tmp_path / "pack" / "asked.yaml"
    definition = yaml.safe_dump({"doc_to_text": "Q: {{question}}"})
    task.write_text("".join(line for line in task.open() if not line.startswith("doc_to_text")) + definition)
    said = refusal("submit", path, "--run-dir", tmp_path / "run")
    assert 'tasks.asked.definition.doc_to_text: "{{question}}" → "Q: {{question}}"' in said


def test_a_run_directory_that_is_a_file(refusal, tmp_path):
    """A file in the place of the run is a sentence, too."""
    (tmp_path / "run").write_text("mine")
    said = refusal("submit", write_small_sweep(tmp_path), "--run-dir", tmp_path / "run")
    assert f"{tmp_path}/run cannot hold a run directory" in said
    assert (tmp_path / "run").read_text() == "mine"


def test_analyze_of_a_folder_that_is_no_run(refusal, tmp_path):
    """Some folder is not taken for a run without degradation."""
    (tmp_path / "some").mkdir()
    assert "some" in refusal("analyze", "some")


def test_analyze_of_nothing(refusal):
    """A path that does not exist is named."""
    assert "nowhere" in refusal("analyze", "nowhere")


def test_analyze_of_an_empty_run(refusal, tmp_path):
    """A run without a single sample is an error, never a pass."""
    start(write_small_sweep(tmp_path), tmp_path / "run")
    assert "run" in refusal("analyze", "run")


def start(path, run):
    """Begin a run without answering anything, as a submit does that is stopped at once."""
    sweep = prepare(path, run_dir=str(run))
    sweep.store.write_manifest(plan_sweep(sweep, config_path=path).manifest)
    sweep.store.write_sweep(path.read_text())


@pytest.mark.parametrize("arguments", [["submit"], ["sumbit", "x"], ["submit", "x", "--run_dir", "y"]])
def test_wrong_usage(lldeg, arguments):
    """A missing argument, an unknown command and an unknown option end in usage and status 2."""
    result = lldeg(*arguments)
    assert result.status == 2
    assert "Usage" in result.err
    assert "Traceback" not in result.err


def test_debug_shows_the_traceback(lldeg):
    """With --debug the same error comes with the place it was raised."""
    result = lldeg("submit", "nowhere.yaml", "--debug")
    assert result.status == 2
    assert "Traceback" in result.err
    assert "Error: nowhere.yaml does not exist." in result.err
