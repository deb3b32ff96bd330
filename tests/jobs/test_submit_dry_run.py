"""`lldeg submit --dry-run` shows what a sweep would run, and writes nothing."""

import sys

import pytest
from standin.files import questions, write_small_sweep, write_task

from orchestrator.config.schema import PromptConfig
from orchestrator.rundir.identity import sample_key
from orchestrator.sweep.plan import plan_sweep
from orchestrator.sweep.prepare import prepare

SAMPLING = {"temperatures": [0.0, 0.7], "seeds": 3}


def everything(folder):
    """Every file and folder below a folder, with content and time of change."""
    return {
        path: (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


def keys(path, run_dir, **cells):
    """Keys of all samples a sweep plans."""
    plan = plan_sweep(prepare(path, run_dir=str(run_dir)), config_path=path)
    return {
        (cell.variant, cell.task, item.item, rerun): sample_key(cell.digest, item, rerun)
        for cell in plan.cells
        for item in cell.items
        for rerun in cell.reruns
    }


def write_answers(path, run_dir):
    """Begin a run and write a file that is torn."""
    sweep = prepare(path, run_dir=str(run_dir))
    sweep.store.write_manifest(plan_sweep(sweep, config_path=path).manifest)
    torn = run_dir / "samples/variant=base/task=asked/0000000-0123456789ab.parquet"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"PAR1")


@pytest.fixture
def no_bytecode(monkeypatch):
    """Keep Python from writing bytecode of the task pack's loader."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.mark.usefixtures("no_bytecode")
def test_a_dry_run_writes_nothing(lldeg, tmp_path):
    """Neither the run directory nor anything beside the configuration comes to be."""
    path = write_small_sweep(tmp_path)
    before = everything(tmp_path)
    assert lldeg("submit", path, "--dry-run").status == 0
    assert everything(tmp_path) == before


@pytest.mark.usefixtures("no_bytecode")
def test_a_dry_run_leaves_a_run_as_it_is(lldeg, tmp_path):
    """Not even a torn file is removed, and no log or lock is made."""
    path = write_small_sweep(tmp_path)
    write_answers(path, tmp_path / "run")
    before = everything(tmp_path)
    assert lldeg("submit", path, "--dry-run", "--run-dir", tmp_path / "run").status == 0
    assert everything(tmp_path) == before


def test_a_dry_run_shows_the_plan(lldeg, tmp_path):
    """Samples per variant and task, the sum, and which engines would be loaded."""
    path = write_small_sweep(tmp_path, sampling=SAMPLING)
    shown = " ".join(lldeg("submit", path, "--dry-run", "--run-dir", "r").out.split())
    assert "r: 56 samples, 0 done, 56 missing; engines to load: base, other" in shown
    assert shown.count("│ asked │ 6 │ 4 │ 24 │ 0 │ 24 │") == 2
    assert shown.count("│ chosen │ 4 │ 1 │ 4 │ 0 │ 4 │") == 2


@pytest.mark.parametrize(("least", "said"), [(4, False), (5, True), (100, True)])
def test_a_policy_that_cannot_pass_is_told(lldeg, tmp_path, least, said):
    """It asks for more items than are planned of a task; ten of both are enough."""
    policy = {"margin": 0.05, "min_items": least, "tasks": {"*": "not-degraded"}, "overall": "certified"}
    path = write_small_sweep(tmp_path, stopping={"until": "decided", "policy": policy})
    shown = " ".join(lldeg("submit", path, "--dry-run").out.split())
    assert (f"requires {least} items of chosen, and 4 are planned: it cannot pass." in shown) == said
    assert ("items of asked, chosen, and 10 are planned: it cannot pass." in shown) == (least > 10)


@pytest.mark.parametrize("columns", [30, 40, 47, 48, 49, 50, 60])
def test_a_narrow_terminal_breaks_no_word_of_the_plan(lldeg, tmp_path, monkeypatch, columns):
    """Where the tables do not fit there is a list."""
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = lldeg("submit", write_small_sweep(tmp_path), "--dry-run", "--run-dir", "r").out
    words = {word.strip(":;") for word in shown.split()}
    assert {"base", "other", "asked", "chosen", "items", "planned", "missing", "flips", "smallest"} <= words
    assert not words & {"varian", "planne", "missin"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "grown",
    [
        {"sampling": {"temperatures": [0.0, 0.7], "seeds": 5}},
        {"sampling": {"temperatures": [0.0, 0.7, 1.0], "seeds": 3}},
        {"analysis": {"alpha": 0.01}},
        {"cluster": {"replicas": 1}},
        {"name": "renamed"},
        {"baseline": "other"},
        {"tasks": ["asked", {"task": "chosen", "cluster": "answer"}]},
        {"tasks": ["asked", {"task": "chosen", "metric": "acc,none"}]},
    ],
)
def test_what_leaves_the_meaning_alone_leaves_the_keys_alone(tmp_path, grown):
    """More reruns, and what concerns only the cluster or the analysis, keep every key there was."""
    before = keys(write_small_sweep(tmp_path, sampling=SAMPLING), tmp_path / "r")
    after = keys(write_small_sweep(tmp_path, **{"sampling": SAMPLING} | grown), tmp_path / "r")
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    "changed",
    [
        {"sampling": SAMPLING | {"top_p": 0.9}},
        {"sampling": SAMPLING | {"max_gen_toks": 4}},
        {"engine": {"dtype": "float16"}},
        {"prompt": {"system_instruction": "Be brief."}},
    ],
)
def test_what_changes_the_meaning_changes_every_key(tmp_path, changed):
    """Another sampling setting, engine option or prompt leaves no key in common."""
    before = keys(write_small_sweep(tmp_path, sampling=SAMPLING), tmp_path / "r")
    after = keys(write_small_sweep(tmp_path, **{"sampling": SAMPLING} | changed), tmp_path / "r")
    assert not set(before.values()) & set(after.values())
    assert before.keys() == after.keys()


def test_no_two_samples_of_a_plan_share_a_key(tmp_path):
    """Variants, tasks, items, temperatures and seeds are all in the key."""
    found = keys(write_small_sweep(tmp_path, sampling=SAMPLING), tmp_path / "r")
    assert len(set(found.values())) == len(found) == 56


def test_another_model_behind_the_same_path_changes_the_keys(tmp_path):
    """A model folder is known by its content, not by its name."""
    path = write_small_sweep(tmp_path)
    before = keys(path, tmp_path / "r")
    (tmp_path / "model" / "config.json").write_text('{"n": 1}')
    assert not set(before.values()) & set(keys(path, tmp_path / "r").values())


def test_a_changed_document_changes_its_own_keys_only(tmp_path):
    """Correcting one item owes that item again and no other."""
    path = write_small_sweep(tmp_path)
    before = keys(path, tmp_path / "r")
    docs = questions(6)
    docs[2]["question"] += "?"
    (tmp_path / "pack" / "asked.jsonl").unlink()
    rest = (tmp_path / "pack" / "asked.yaml").read_text()
    write_task(tmp_path / "pack", "asked", docs)
    (tmp_path / "pack" / "asked.yaml").write_text(rest)
    after = keys(path, tmp_path / "r")
    assert {place[:3] for place in before if before[place] != after[place]} == {
        ("base", "asked", 2),
        ("other", "asked", 2),
    }


@pytest.mark.parametrize("control", [True, False])
def test_fidelity_without_a_control_is_said_to_show_little(lldeg, tmp_path, control):
    """Before it is paid for."""
    variants = {"base": {}, "v": {"control": control, "engine": {"max_num_seqs": 8}}}
    shown = lldeg("submit", write_small_sweep(tmp_path, variants=variants, fidelity={}), "--dry-run").out
    assert ("make a variant a control" in " ".join(shown.split())) is not control


def test_a_control_that_is_the_baseline_itself_is_named(lldeg, tmp_path):
    """Once for each such variant; one with another batch size is none."""
    variants = {"base": {}, "same": {}, "control": {"engine": {"max_num_seqs": 8}}}
    shown = " ".join(lldeg("submit", write_small_sweep(tmp_path, variants=variants), "--dry-run").out.split())
    assert "Warning: same has the same engine settings as the baseline base" in shown
    assert "control does not differ" not in shown


def test_a_prompt_that_may_not_be_cut_has_other_answers(tmp_path):
    """`error` and `refuse` mean the same answers, with other keys than those of prompts that were cut."""
    cut, error = (
        keys(write_small_sweep(tmp_path, prompt={"overflow": overflow}), tmp_path / "r")
        for overflow in ("cut", "error")
    )
    assert keys(write_small_sweep(tmp_path), tmp_path / "r") == cut
    assert PromptConfig(overflow="refuse").meaning() == PromptConfig(overflow="error").meaning()
    assert not set(cut.values()) & set(error.values())
