"""`limit`: which items of a task a sweep uses, and what becomes of a run when it changes."""

import json
from hashlib import blake2b

import pytest
from standin.files import GENERATE, questions, write_small_sweep, write_task

from orchestrator.errors import UserError
from orchestrator.sweep.plan import plan_sweep
from orchestrator.sweep.prepare import prepare

ITEMS = 40
SHOTS = {**GENERATE, "num_fewshot": 2, "fewshot_split": "test"}


@pytest.fixture
def write(tmp_path):
    """Writes a sweep over a task of forty items with few-shot examples, limited so."""
    path = write_small_sweep(tmp_path)
    write_task(tmp_path / "pack", "shots", questions(ITEMS), **SHOTS)

    def write(limit=None, **keys):
        write_small_sweep(tmp_path, tasks=[{"task": "shots", "limit": limit}], **keys)
        return path

    return write


def plan(path, run):
    """The plan of a sweep in a run directory."""
    return plan_sweep(prepare(path, run_dir=str(run)), config_path=path)


def begin(path, run):
    """Write the manifest of a run as its first submit does."""
    planned = plan(path, run)
    planned.sweep.store.write_manifest(planned.manifest)
    return planned


def items(planned):
    """The items of the baseline: hashes of document and prompt, by number."""
    return {item.item: (item.doc_hash, item.prompt_hash) for item in planned.cells_of("base")[0].items}


def smallest(count):
    """The numbers that the documentation promises."""
    return set(
        sorted(range(ITEMS), key=lambda n: blake2b(f"1234\0{n}".encode(), digest_size=16).digest())[:count]
    )


@pytest.mark.parametrize("limit", [7, {"random": 7}])
def test_a_limit_chooses_the_same_random_items_everywhere(write, tmp_path, limit):
    """Those with the smallest digests of their numbers, for every variant."""
    planned = plan(write(limit), tmp_path / "run")
    assert set(items(planned)) == smallest(7) != set(range(7))
    assert [[item.item for item in cell.items] for cell in planned.cells] == [sorted(smallest(7))] * 2


@pytest.mark.parametrize("limit", [7, {"first": 7}])
def test_limited_items_are_those_of_the_whole_task(write, tmp_path, limit):
    """With its numbers, documents and prompts, few-shot examples included."""
    whole = items(plan(write(), tmp_path / "run"))
    assert items(plan(write(limit), tmp_path / "run")).items() <= whole.items()


def test_first_takes_the_first(write, tmp_path):
    """As lm-eval's limit does."""
    assert set(items(plan(write({"first": 7}), tmp_path / "run"))) == set(range(7))


@pytest.mark.parametrize("limit", [ITEMS, ITEMS + 1])
def test_a_limit_above_all_items_is_none(write, tmp_path, limit):
    """All of them are used."""
    assert set(items(plan(write(limit), tmp_path / "run"))) == set(range(ITEMS))


def test_a_higher_limit_adds_to_a_run(write, tmp_path):
    """What is there stays of use."""
    before = items(begin(write(7), tmp_path / "run"))
    for limit in (9, None):
        after = items(begin(write(limit), tmp_path / "run"))
        assert before.items() < after.items()


def test_a_lower_limit_is_refused(write, tmp_path):
    """It would leave answers of the run without their items."""
    begin(write(9), tmp_path / "run")
    with pytest.raises(UserError, match=r"tasks\.shots\.items: 9 → 7"):
        plan(write(7), tmp_path / "run")


def test_a_limit_follows_a_run_of_the_first_items(write, tmp_path):
    """And says so; a run of an older version does not tell, and had no other limit."""
    begin(write({"first": 7}), tmp_path / "run")
    for _ in range(2):
        again = plan(write(8), tmp_path / "run")
        assert set(items(again)) == set(range(8))
        assert any("first items of shots" in warning for warning in again.warnings)
        path = tmp_path / "run" / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["tasks"]["shots"].pop("limit", None)
        path.write_text(json.dumps(manifest))


def test_a_run_of_random_items_takes_no_first_ones(write, tmp_path):
    """The two would be one task with two meanings."""
    begin(write(7), tmp_path / "run")
    with pytest.raises(UserError, match=r'tasks\.shots\.limit: "random" → "first"'):
        plan(write({"first": 9}), tmp_path / "run")


@pytest.mark.parametrize(("limit", "chosen"), [({"first": 2}, {1, 5}), (2, smallest(ITEMS) & {1, 5, 9})])
def test_a_limit_chooses_among_the_items_of_a_subset(write, tmp_path, limit, chosen):
    """And not among all, of which few might be in both."""
    (tmp_path / "subset.json").write_text(json.dumps({"shots": [1, 5, 9]}))
    found = set(items(plan(write(limit, items="subset.json"), tmp_path / "run")))
    assert len(found) == 2
    assert found <= chosen


@pytest.mark.parametrize(
    "limit", [0, -1, 2.5, True, "many", [3], {}, {"first": 0}, {"random": 1, "first": 1}, {"last": 3}]
)
def test_impossible_limits_are_refused(write, tmp_path, limit):
    """In one sentence that names the key."""
    with pytest.raises(UserError, match=r"tasks\.0\.limit"):
        prepare(write(limit), run_dir=str(tmp_path / "run"))
