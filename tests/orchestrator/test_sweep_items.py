"""`items: subset.json` in a sweep: the chosen items, as they are in the whole task, not by their choosers."""

import json

import pytest
import yaml

from orchestrator.errors import UserError
from orchestrator.sweep.plan import plan_sweep
from orchestrator.sweep.prepare import prepare
from orchestrator.sweep.tasks import items_of
from orchestrator.workers.execute import write_documents

TASK = {
    "task": "toy",
    "dataset_path": "json",
    "test_split": "test",
    "fewshot_split": "test",
    "num_fewshot": 2,
    "output_type": "generate_until",
    "doc_to_text": "{{q}}",
    "doc_to_target": "{{a}}",
    "metric_list": [{"metric": "exact_match"}],
}


@pytest.fixture
def sweep(tmp_path):
    """Prepares a sweep over one toy task; with a subset if one is given."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "tasks").mkdir()
    docs = tmp_path / "docs.jsonl"
    docs.write_text("".join(json.dumps({"q": f"{i}?", "a": f"{i}"}) + "\n" for i in range(8)))
    task = {**TASK, "dataset_kwargs": {"data_files": {"test": str(docs)}}}
    (tmp_path / "tasks" / "toy.yaml").write_text(yaml.safe_dump(task))

    def make(subset=None, seeds=(5, 6), run_dir="run"):
        config = {
            "name": "toy",
            "baseline": "base",
            "model": str(tmp_path / "model"),
            "variants": {"base": {}, "cheap": {"engine": {"max_num_seqs": 4}}},
            "include_path": "tasks",
            "tasks": ["toy"],
            "sampling": {"temperatures": [0.5], "seeds": list(seeds)},
        }
        if subset is not None:
            (tmp_path / "subset.json").write_text(json.dumps(subset))
            config["items"] = "subset.json"
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(config))
        return prepare(path, run_dir=str(tmp_path / run_dir))

    return make


def _items(sweep):
    (built,) = sweep.built.values()
    return {item.item: (item.doc_hash, item.prompt_hash) for item in items_of(built)}


def test_only_the_chosen_items_are_planned(sweep, tmp_path):
    """Two of eight items, two seeds, two variants."""
    plan = plan_sweep(sweep({"toy": [6, 1]}), config_path=tmp_path / "sweep.yaml")
    assert [cell.planned for cell in plan.cells] == [4, 4]
    assert plan.manifest["tasks"]["toy"]["items"] == 2


def test_chosen_items_are_those_of_the_whole_task(sweep):
    """Numbers, documents and prompts, few-shot examples and all."""
    whole, chosen = _items(sweep()), _items(sweep({"toy": [1, 6]}))
    assert chosen == {item: whole[item] for item in (1, 6)}


def test_a_file_for_other_tasks_is_refused(sweep):
    """The file may name more tasks than the sweep has, but not none of them."""
    with pytest.raises(UserError, match="names none of the sweep's tasks"):
        sweep({"other": [1]})


def test_an_item_that_is_not_there_is_refused(sweep):
    """A file made for other data is found out before anything starts."""
    with pytest.raises(UserError, match="item 80 of task 'toy', which does not exist"):
        sweep({"toy": [1, 80]})


def test_the_seeds_that_chose_are_refused(sweep):
    """The same weights, temperature and seed; fresh seeds are welcome."""
    revision = next(iter(sweep().variants.values())).identity
    origin = {"model": "elsewhere", "revision": revision, "runs": [[0.5, 0], [0.5, 5]]}
    with pytest.raises(UserError, match=r"seed 5 at temperature 0\.5 chose this subset"):
        sweep({"toy": [1], "chosen_by": origin}, seeds=(5, 6))
    sweep({"toy": [1], "chosen_by": origin}, seeds=(6, 7))


def test_the_manifest_remembers_who_chose(sweep):
    """So that an analysis can refuse those runs."""
    origin = {"model": "elsewhere", "revision": "abc", "runs": [[0.5, 0]]}
    assert sweep({"toy": [1], "chosen_by": origin}).manifest()["subset"]["chosen_by"] == origin


def test_a_run_keeps_its_items(sweep, tmp_path):
    """Another choice in the same directory is another sweep."""
    first = sweep({"toy": [1, 2]})
    first.store.write_manifest(first.manifest())
    with pytest.raises(UserError, match=r"subset\.digest"):
        plan_sweep(sweep({"toy": [1, 3]}), config_path=tmp_path / "sweep.yaml")


def test_a_run_keeps_its_documents(sweep, tmp_path):
    """An item with another document is another one, and its answers would mix with those that stand."""
    path, docs = tmp_path / "sweep.yaml", tmp_path / "docs.jsonl"
    write_documents(plan_sweep(sweep(), config_path=path))
    docs.write_text(docs.read_text() + '{"q": "more?", "a": "8"}\n')
    assert len(plan_sweep(sweep(), config_path=path).cells[0].items) == 9
    docs.write_text(docs.read_text().replace('"2?"', '"two?"').replace('"3?"', '"three?"'))
    with pytest.raises(UserError, match=r"documents of toy \(2 items\)"):
        plan_sweep(sweep(), config_path=path)


def test_an_imported_run_is_not_continued(sweep, tmp_path):
    """Its samples have no sweep, whatever its manifest has in common with one."""
    first = sweep()
    first.store.write_manifest({**first.manifest(), "imported": True})
    with pytest.raises(UserError, match="was imported"):
        plan_sweep(sweep(), config_path=tmp_path / "sweep.yaml")
