"""The sweeps that come with lldeg: valid as far as that can be seen without a network, listed and copied."""

from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from jobs.commands.configs import configs, purpose, shipped, shipped_path
from orchestrator.config.load import load_config, resolve
from orchestrator.engines import vllm_kind
from orchestrator.errors import UserError
from orchestrator.hardware import Hardware
from orchestrator.sweep.fit_to_machine import same_as_baseline
from orchestrator.sweep.tasks import listed_names

NAMES = [path.stem for path in shipped()]
PAPER = {"llama3", "llama33-70b", "mistral-small31", "mmlu-temperature", "mmlu-true-models"}
OURS = {"quickstart", "cpu-temperature", "provider", "two-versions"}


@pytest.fixture(scope="module")
def lm_eval_index():
    """Every task, group and tag that lm-eval knows."""
    from lm_eval.tasks import TaskManager

    return TaskManager().task_index


@pytest.fixture
def run():
    """Runs `lldeg configs ...`; raises the user's error."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.add_typer(configs, name="configs")

    @app.callback()
    def _main():
        """A group, as the real command is."""

    def invoke(*arguments):
        done = CliRunner().invoke(app, ["configs", *map(str, arguments)])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    return invoke


def _load(name):
    config, problems = load_config(shipped_path("configs") / f"{name}.yaml")
    assert problems == []
    return config


def test_every_promised_sweep_is_there():
    """The paper's sweeps and ours; first those that most people come for, each with its job."""
    assert set(NAMES) >= PAPER | OURS
    jobs = {path.stem: purpose(path).split(":")[0] for path in shipped()[1:4]}
    assert jobs == {
        "llama3": "A quantized model",
        "two-versions": "An engine, every week",
        "provider": "A provider, every night",
    }


@pytest.mark.parametrize("name", NAMES)
def test_keys_are_known_and_the_name_is_the_files(name):
    """The configuration loads without a mistake and its run is called after the file."""
    assert _load(name).name == name


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_tasks_exist(name, lm_eval_index):
    """Each task is one of lm-eval's, or a file of the sweep's own task folders, conversations included."""
    from lm_eval.tasks import TaskManager

    config = _load(name)
    own = set(TaskManager(include_path=list(config.include_path), include_defaults=False).task_index)
    own |= {path.stem for folder in config.include_path for path in Path(folder).glob("*.jsonl")}
    assert {task.task for task in config.tasks} <= own | set(lm_eval_index)


def leaf(index, name):
    """The configuration of a task, or of the first one of a group or tag."""
    entry = index[name]
    if entry.cfg is None:
        return leaf(index, min(entry.tags))
    return leaf(index, entry.cfg["task"][0]) if "group" in entry.cfg else entry.cfg


@pytest.mark.slow
def test_every_name_of_the_collection_is_in_its_texts(lm_eval_index):
    """In which an unknown one is looked for; whatever file it is inherited from (one in a hundred)."""
    assert len(lm_eval_index) > 10_000
    assert [name for name in list(lm_eval_index)[::100] if name.encode() not in listed_names()] == []


@pytest.mark.slow
def test_most_of_the_default_suite_generates(lm_eval_index):
    """Log-likelihoods cannot show what decoding does; the metrics that decide are those of the tasks."""
    leaves = [(task, leaf(lm_eval_index, task.task)) for task in _load("llama3").tasks]
    generating = [config for _, config in leaves if config["output_type"] == "generate_until"]
    assert 2 * len(generating) > len(leaves)
    for task, config in leaves:
        known = [entry["metric"] for entry in config["metric_list"]]
        assert (task.metric or known[0]).partition(",")[0] in known


@pytest.mark.parametrize("name", NAMES)
def test_engine_options_exist(name):
    """Every engine option of every variant is one of the installed vLLM, or right for a served model."""
    for variant in resolve(_load(name)).values():
        assert list(variant.kind.problems()) == []


@pytest.mark.parametrize("gpu_bytes", [24 << 30, 80 << 30])
@pytest.mark.parametrize("name", NAMES)
def test_no_control_is_the_baseline_itself(monkeypatch, name, gpu_bytes):
    """On none of the GPUs does vLLM choose by itself what a variant asks for."""
    monkeypatch.setattr(vllm_kind, "built_for_cpus", lambda: False)
    machine = Hardware(8, 8, fp8_kv_cache=False, native_bfloat16=True, gpu_bytes=gpu_bytes)
    config = _load(name)
    assert same_as_baseline(resolve(config), config.baseline, machine) == []


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_is_for(name):
    """The list has a whole sentence for each."""
    assert purpose(shipped_path("configs") / f"{name}.yaml").endswith((".", "?"))


def test_true_models_take_fresh_seeds():
    """No seed of the runs that choose the items is tested on them."""
    assert not set(_load("mmlu-temperature").sampling.seeds) & set(_load("mmlu-true-models").sampling.seeds)


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_all_are_listed(run, arguments):
    """`lldeg configs` lists, with or without the word."""
    shown = run(*arguments)
    assert all(name in shown for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_complete(run, tmp_path, name):
    """The copied sweep loads where it lands, its task files with it."""
    assert "lldeg submit" in run("copy", name, tmp_path / "mine")
    config, problems = load_config(tmp_path / "mine" / f"{name}.yaml")
    assert problems == []
    assert all(folder.startswith(str(tmp_path)) for folder in config.include_path)


def test_a_copy_never_overwrites(run, tmp_path):
    """An edited sweep stays as it is."""
    run("copy", "llama3", tmp_path)
    (tmp_path / "llama3.yaml").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        run("copy", "llama3", tmp_path)
    assert (tmp_path / "llama3.yaml").read_text() == "mine"


def test_two_copies_share_their_tasks(run, tmp_path):
    """A second sweep with the same task folder leaves the first one's tasks alone."""
    run("copy", "quickstart", tmp_path)
    (tmp_path / "tasks" / "quickstart" / "mine.txt").write_text("kept")
    run("copy", "cpu-temperature", tmp_path)
    assert (tmp_path / "tasks" / "quickstart" / "mine.txt").exists()


def test_an_unknown_name_is_answered_with_the_nearest(run, tmp_path):
    """A typing mistake costs one sentence."""
    with pytest.raises(UserError, match="did you mean 'llama3'"):
        run("copy", "lama3", tmp_path)


def test_the_baseline_variant_changes_nothing():
    """In every sweep the baseline is the model as it is, with the sweep's own settings."""
    for path in shipped():
        raw = yaml.safe_load(path.read_text())
        assert not raw["variants"][raw["baseline"]]
