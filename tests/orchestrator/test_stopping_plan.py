"""The plan of a sweep that stops early: what the first submit fixes, and what a later one may not change."""

import json
from itertools import pairwise

import pytest
from standin.files import CHOOSE, GENERATE, choices, questions, write_sweep, write_task

from jobs.analysis.sequential.run_monitor import RunMonitor
from jobs.formats.run_files import RunFiles
from jobs.submit import dry_run
from orchestrator.errors import UserError
from orchestrator.sweep.blocks import in_order_of_work
from orchestrator.sweep.plan import plan_sweep
from orchestrator.sweep.prepare import prepare
from orchestrator.workers.execute import write_documents
from stats.sequential.plan import items_at_look

SAMPLING = {"temperatures": [0.0, 0.7], "seeds": 2}


@pytest.fixture
def plan(tmp_path):
    """Plans a sweep over a generating and a choosing task; writes its manifest and items if asked."""
    docs = [{**doc, "passage": f"p{number // 5}"} for number, doc in enumerate(questions(41))]
    write_task(tmp_path / "pack", "asked", docs, **GENERATE)
    write_task(tmp_path / "pack", "chosen", choices(23), **CHOOSE)

    def make(*, write=False, finish=False, retry_errors=False, **keys):
        asked = {"task": "asked", "cluster": "passage"}
        path = write_sweep(tmp_path, **{"tasks": [asked, "chosen"], "sampling": SAMPLING, **keys})
        sweep = prepare(path, run_dir=str(tmp_path / "run"))
        made = plan_sweep(sweep, config_path=path, finish=finish, retry_errors=retry_errors)
        if write:
            write_documents(made)
        return made

    return make


def test_without_it_nothing_changes(plan):
    """No entry in the manifest, items in the order of the task, blocks of one look."""
    made = plan()
    assert "stopping" not in made.manifest
    assert [item.item for item in made.cells[0].items] == list(range(41))
    assert {block.look for block in in_order_of_work(made.cells)} == {1}


def test_the_manifest_holds_the_whole_plan(plan):
    """Looks, spending, level, margin, and every variant at every temperature."""
    entry = plan(stopping={"looks": 4}, analysis={"margin": 0.02}).manifest["stopping"]
    assert entry == {
        "looks": 4,
        "until": "degraded",
        "spending": {"degraded": "hsd-2", "certified": "hsd-4"},
        "certificate": "default",
        "alpha": 0.05,
        "margin": 0.02,
        "comparisons": [("other", 0.0), ("other", 0.7)],
        "metrics": {"asked": "exact_match,number", "chosen": "acc,none"},
        "seed": entry["seed"],
        "documents": True,
    }


def test_every_run_draws_an_order(plan):
    """Two runs of one sweep have two seeds, unless the configuration has one."""
    assert len({plan(stopping={"looks": 4}).manifest["stopping"]["seed"] for _ in range(3)}) > 1
    assert plan(stopping={"looks": 4, "seed": 7}).manifest["stopping"]["seed"] == 7


def test_a_run_of_an_older_version_keeps_its_order_and_its_signs(plan, tmp_path):
    """All had the seed 0, one kind of certificate, and equal documents of one task had a sign each."""
    plan(write=True, stopping={"looks": 4})
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["stopping"]["documents"], manifest["stopping"]["certificate"]
    manifest["stopping"]["seed"] = 0
    path.write_text(json.dumps(manifest))
    assert plan(stopping={"looks": 4}).manifest["stopping"] == manifest["stopping"]


def test_blocks_come_look_by_look_with_all_reruns(plan):
    """The first blocks hold ⌈n/K⌉ items of every task, at all temperatures and seeds; no sample twice."""
    made = plan(stopping={"looks": 4})
    blocks = list(in_order_of_work(made.cells_of("base")))
    assert [block.look for block in blocks] == sorted(block.look for block in blocks)
    for name, items in (("asked", 41), ("chosen", 23)):
        of_task = [block for block in blocks if block.task == name]
        for look in range(1, 5):
            seen = [item.item for block in of_task if block.look <= look for item in block.items]
            assert len(seen) == len(set(seen)) == items_at_look(look, 4, items)
    assert sum(block.samples for block in blocks) == sum(cell.planned for cell in made.cells_of("base"))


def test_the_analysis_finds_the_order_that_was_asked(plan, tmp_path):
    """From the items in the run directory alone; items of a cluster stay together."""
    made = plan(write=True, stopping={"looks": 4})
    asked = {cell.task: [item.item for item in cell.items] for cell in made.cells_of("other")}
    tasks = RunMonitor(RunFiles.open(str(tmp_path / "run"))).tasks
    assert {task.info.name: task.items.tolist() for task in tasks} == asked
    assert asked["asked"] != sorted(asked["asked"])
    clusters = [item // 5 for item in asked["asked"]]
    assert sum(a != b for a, b in pairwise(clusters)) == len(set(clusters)) - 1


def test_tasks_without_sampling_count_at_temperature_0_only(plan, tmp_path):
    """A comparison at 0.7 has the generating task alone."""
    plan(write=True, stopping={"looks": 4})
    found = RunMonitor(RunFiles.open(str(tmp_path / "run")))
    at = {place: [task.task for task in found.plan.of((*place, None)).tasks] for place in found.places}
    assert at == {("other", 0.0): ["asked", "chosen"], ("other", 0.7): ["asked"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"stopping": {"looks": 5}}, "stopping.looks"),
        ({"stopping": {"looks": 4, "until": "decided"}}, "stopping.until"),
        ({"stopping": {"looks": 4, "seed": 7}}, "stopping.seed"),
        ({"stopping": {"looks": 4, "certificate": "proven"}}, "stopping.certificate"),
        ({"stopping": {"looks": 4, "spending": {"degraded": "obf"}}}, "stopping.spending.degraded"),
        ({"analysis": {"alpha": 0.01}}, "stopping.alpha"),
        ({"sampling": {"temperatures": [0.0, 0.7], "seeds": 3}}, "tasks.asked.reruns"),
        ({"sampling": {"temperatures": [0.0], "seeds": 2}}, "stopping.comparisons"),
        ({"tasks": ["chosen"]}, "stopping.metrics"),
        ({"tasks": [{"task": "asked", "cluster": "passage", "limit": 30}, "chosen"]}, "tasks.asked.items"),
    ],
)
def test_what_decides_must_not_change(plan, changed, key):
    """Whether the looks have begun or not: the refusal names what differs."""
    plan(write=True, stopping={"looks": 4}, variants={"base": {}, "other": {}})
    keys = {"stopping": {"looks": 4}, "variants": {"base": {}, "other": {}}, **changed}
    with pytest.raises(UserError, match=key):
        plan(**keys)


def test_a_variant_may_join_with_a_level_of_its_own(plan):
    """As the first of a family: what was planned before keeps its share, whether it is asked on or not."""
    stopping = {"looks": 4}
    first = plan(write=True, stopping=stopping).manifest["stopping"]
    for number, names in ((1, ("third", "fourth")), (2, ("fifth",))):
        made = plan(write=True, stopping=stopping, variants={name: {} for name in ("base", *names)})
        entry = made.manifest["stopping"]
        assert {name for name, of in entry["families"].items() if of == number} == {*names}
        assert any("level of its own" in warning for warning in made.warnings)
    assert [pair for pair in map(tuple, entry["comparisons"]) if pair[0] == "other"] == first["comparisons"]
    again = plan(stopping=stopping, variants={"base": {}, "fifth": {}})
    assert json.dumps(again.manifest["stopping"]) == json.dumps(entry)
    assert not any("level of its own" in warning for warning in again.warnings)


def test_the_policy_is_a_part_of_the_plan(plan, tmp_path):
    """Its level and margin are those of the looks; which variants it judges may change between submits."""
    rules = {"alpha": 0.01, "margin": 0.03, "tasks": {"*": "certified"}}
    (tmp_path / "policy.yaml").write_text(json.dumps(rules | {"variants": ["other"]}))
    stopping = {"looks": 4, "until": "decided", "policy": "policy.yaml"}
    entry = plan(write=True, stopping=stopping).manifest["stopping"]
    assert (entry["policy"], entry["alpha"], entry["margin"]) == (rules, 0.01, 0.03)
    assert json.dumps(plan().manifest["stopping"]) == json.dumps(entry)
    for changed in (None, rules | {"margin": 0.02}):
        with pytest.raises(UserError, match=r"stopping\.(policy|margin)"):
            plan(stopping={**stopping, "policy": changed})


def test_a_dry_run_shares_the_level_among_the_cases_of_the_policy(plan):
    """Both tasks and all together at temperature 0, one task alone at 0.7; at the policy's own level."""
    rules = {"alpha": 0.01, "margin": 0.03, "tasks": {"*": "certified"}}
    made = plan(stopping={"looks": 4, "until": "decided", "policy": rules})
    designs = dry_run.detectable_designs(made, lambda *_: (0.1, None))
    table = dry_run.detection_table(made, designs, "if so", dry_run.expected_shares(made, designs))
    assert {design.alpha for tasks, _ in designs.values() for design in tasks.values()} == {0.01 / 4}
    assert "until decided: the 4 cases" in table.caption
    assert "at level 0.01" in table.title


def test_it_goes_on_stopping_if_that_is_asked_for_no_more(plan):
    """The first submit decides; a later one without the section or the option keeps the plan."""
    first = plan(write=True, stopping={"looks": 4})
    again = plan()
    assert json.dumps(again.manifest["stopping"]) == json.dumps(first.manifest["stopping"])


def test_it_cannot_be_added_later(plan):
    """Answers of the run may have been seen."""
    plan(write=True)
    with pytest.raises(UserError, match="cannot be added"):
        plan(stopping={"looks": 4})


def test_finishing_is_noted_for_good_and_changes_nothing_else(plan):
    """The manifest says so, also after later submits; a run that does not stop has nothing to finish."""
    with pytest.raises(UserError, match="--finish"):
        plan(finish=True)
    plan(write=True, stopping={"looks": 4})
    assert plan(write=True, finish=True).manifest["stopping"]["finished"]
    assert plan().manifest["stopping"]["finished"]


def test_errors_are_final(plan):
    """A look has counted them as missing."""
    plan(write=True, stopping={"looks": 4})
    with pytest.raises(UserError, match="--retry-errors"):
        plan(retry_errors=True)


def test_there_must_be_a_variant_to_decide_on(plan, tmp_path):
    """With a baseline alone nothing can be decided; that is said before a run directory exists."""
    with pytest.raises(UserError, match="no variant"):
        plan(write=True, stopping={"looks": 4}, variants={"base": {}})
    assert not (tmp_path / "run").exists()


def test_a_run_that_stops_early_takes_no_fidelity(plan):
    """Nor one that does so by an earlier submit alone."""
    engine = {"engine": {"kind": "vllm"}}
    plan(stopping={"looks": 4}, write=True, **engine)
    with pytest.raises(UserError, match="needs all answers of the baseline, and this run stops early"):
        plan(fidelity={}, **engine)


def test_answers_are_scored_after_all_others_of_items_that_more_extend(plan):
    """Of texts alone, in the first rerun of each temperature, with keys that the number of items leaves."""
    some, more = (plan(engine={"kind": "vllm"}, fidelity={"items": items}).cells for items in (10, 20))
    cells = [[cell for cell in of if cell.fidelity] for of in (some, more)]
    assert [(cell.variant, cell.task, cell.planned) for cell in cells[0]] == [
        ("base", "asked", 20),
        ("other", "asked", 20),
    ]
    assert {(rerun.temperature, rerun.seed) for rerun in cells[0][0].reruns} == {(0.0, None), (0.7, 0)}
    for few, many in zip(*cells, strict=True):
        assert set(few.items) < set(many.items)
        assert few.digest == many.digest
    blocks = [block.fidelity for block in in_order_of_work([c for c in some if c.variant == "other"])]
    assert blocks == sorted(blocks)
