"""How fast variants are and what they cost: over the blocks that both answered, on equal hardware only."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from analyze_runner import run_analyze
from standin.runs import MadeTask, cell_folder, make_run
from test_changes import changes

from orchestrator.rundir.manifest import software_id
from orchestrator.rundir.schema import SPEED_KEY
from orchestrator.rundir.store import RunStore
from stats.change import RateChange

BLOCKS = 12
SECONDS = {"base": 2.0, "v": 4.0}
ALL = {"samples_per_second", "tokens_per_second", "load_seconds", "peak_gib"}


def speed_of(variant, number, **facts):
    """Ten samples of 70 tokens each in as many seconds as the variant always takes; the last ones drain."""
    counts = {"samples": 10, "prompt_tokens": 500, "output_tokens": 200}
    state = {"ended": 3.0 + SECONDS[variant] * number, "full": number < BLOCKS - 2, "load_seconds": 3.0}
    taken = {"peak_gib": 1.5, "gpus": 1.0, "cpus": 4.0}
    return {"replica": variant, **counts, **state, **taken, **facts}


@pytest.fixture
def made(tmp_path):
    """Makes a run of twelve blocks a side, on the devices and with the facts that are given by variant."""

    def made(speed=speed_of, devices=("H100", "H100"), **sweep):
        right = [[1, 0] * 60]
        task = MadeTask({("base", 0.0): right, ("v", 0.0): right}, block=10)
        run = make_run(tmp_path / "run", {"t": task}, **sweep)
        software = {}
        for variant, device in zip(("base", "v"), devices, strict=True):
            entry = {"versions": {}, "commit": "c", "hardware": {"host": "a", "device": device}}
            software[software_id(entry)] = entry
            for number, path in enumerate(sorted(cell_folder(run, variant, "t").iterdir())):
                table, facts = pq.read_table(path, partitioning=None), speed(variant, number)
                told = {"software": software_id(entry), "speed": facts}
                RunStore(run).write_block(variant, "t", Path(path).stem, table, **told)
        manifest = json.loads((run / "manifest.json").read_text())
        (run / "manifest.json").write_text(json.dumps({**manifest, "software": software}))
        return run

    return made


@pytest.fixture
def analyzed(made, tmp_path):
    """Analyzes such a run."""
    return lambda *given, **sweep: run_analyze(made(*given, **sweep), out=tmp_path / "out")


def test_a_variant_of_half_the_speed_is_half_as_fast(analyzed):
    """Samples and tokens by the seconds of the blocks that count, with means, and no part of any verdict."""
    ran = analyzed()
    found = changes(ran.comparison("v"))
    speed = found["samples_per_second"]
    assert (speed["baseline_mean"], speed["variant_mean"]) == (5.0, 2.5)
    assert (speed["change"], speed["change_interval"]) == (pytest.approx(-0.5), pytest.approx([-0.5, -0.5]))
    assert (speed["verdict"], speed["p"]) == ("described", None)
    assert found["tokens_per_second"]["baseline_mean"] == pytest.approx(350.0)
    assert (found["load_seconds"]["variant_mean"], found["peak_gib"]["baseline_mean"]) == (3.0, 1.5)
    assert found.keys() == {*ALL, "empty"}
    assert "samples per second" in ran.text
    assert "-50.00 % [-50.00, -50.00]" in ran.text
    assert "seconds to load" not in ran.text  # one value a replica shows no change
    assert ran.comparison("v")["verdict"] == "inconclusive"


def test_a_speed_that_may_be_the_same_is_in_the_files_alone(analyzed):
    """Of the terminal's tables, since its interval says nothing."""
    ran = analyzed(lambda variant, number: speed_of("base", number, replica=variant))
    assert changes(ran.comparison("v"))["samples_per_second"]["change"] == 0.0
    assert "samples per second" not in ran.text
    assert "samples per second" in (ran.out / "report.html").read_text()


def test_the_first_block_and_those_of_a_draining_engine_do_not_count(analyzed):
    """However long they take: nine of twelve are left."""

    def speed(variant, number):
        ended = speed_of(variant, number)["ended"] + 500.0 + 1000.0 * (number >= BLOCKS - 2)
        return speed_of(variant, number, ended=ended)

    found = changes(analyzed(speed).comparison("v"))["samples_per_second"]
    assert (found["items"], found["change"]) == (BLOCKS - 3, pytest.approx(-0.5))


def test_blocks_of_other_replicas_are_counted_by_themselves(analyzed):
    """Two replicas a side that work at the same time: the speed is that of one."""

    def speed(variant, number):
        return speed_of(variant, number // 2 + 1, replica=f"{variant}{number % 2}", full=True)

    found = changes(analyzed(speed).comparison("v"))["samples_per_second"]
    assert (found["items"], found["baseline_mean"], found["variant_mean"]) == (10, 5.0, 2.5)


def test_blocks_stand_in_the_order_of_either_side(analyzed):
    """The variant takes them from the last to the first, and others in between; the larger error counts."""
    taken = [(5 * number) % 13 for number in range(1, 13)]  # 1 … 12, in the variant's order

    def speed(variant, number):
        turn = taken.index(number + 1) if variant == "v" else number
        return speed_of("base", turn + 0.05 * turn**2 * (variant == "v"), replica=variant, full=True)

    found = changes(analyzed(speed).comparison("v"))["samples_per_second"]
    seconds = {number: 2.0 + 0.1 * (2 * turn - 1) for turn, number in enumerate(taken) if turn}
    blocks = [number for number in range(2, 13) if number in seconds]
    sides = [np.array([[10.0] * len(blocks), own]) for own in
             ([2.0] * len(blocks), [seconds[number] for number in blocks])]  # fmt: skip
    order = np.array([blocks.index(number) for number in taken if number in blocks])
    assert found["change_interval"] == pytest.approx(RateChange(*sides, order).interval(0.05))
    assert found["change_interval"] != pytest.approx(RateChange(*sides).interval(0.05))


@pytest.mark.parametrize(
    ("devices", "facts", "said"),
    [
        (("H100", "A100"), {}, "it ran on 1 × A100, base on 1 × H100"),
        (("H100", "H100"), {"gpus": 2.0}, "it ran on 2 × H100, base on 1 × H100"),
        (("H100", None), {}, "what computes behind a server is not known"),
        (("H100", "H100"), {"full": False}, "no block of samples ended in both while a batch was full"),
    ],
    ids=["models", "numbers", "unknown", "never-full"],
)
def test_nothing_is_compared_between_different_hardware(analyzed, devices, facts, said):
    """One sentence says why, on the terminal and in verdicts.json, and no cost by the hour, either."""

    def speed(variant, number):
        return speed_of(variant, number, **(facts if variant == "v" else {}))

    ran = analyzed(speed, devices, cost={"gpu_hour": 2.5})
    note = f"The speed of v is not compared with that of base: {said}."
    assert changes(ran.comparison("v")).keys() == {"empty"}
    assert ran.comparison("v")["speed_note"] == note
    assert note in " ".join(ran.text.split())


def test_prices_by_the_hour_make_a_slow_variant_dear(analyzed):
    """1,000 samples at 5 a second take 200 s; a GPU at half the price makes up for half of the speed."""
    hour = {"cost": {"gpu_hour": 1.8}}
    cost = changes(analyzed(**hour).comparison("v"))["cost"]
    assert (cost["baseline_mean"], cost["variant_mean"]) == (pytest.approx(0.1), pytest.approx(0.2))
    assert (cost["change"], cost["better"]) == (pytest.approx(1.0), "lower")
    cost = changes(analyzed(**hour, variants={"v": {"cost": {"gpu_hour": 0.9}}}).comparison("v"))["cost"]
    assert cost["change"] == pytest.approx(0.0, abs=1e-12)


def test_the_report_draws_drops_against_what_is_known(analyzed):
    """With the number of verdicts.json, the area that is worth it, and no such section without any speed."""
    for prices, drawn in ({}, "faster"), ({"cost": {"gpu_hour": 1.8}}, "cheaper"):
        ran = analyzed(**prices)
        section = (ran.out / "report.html").read_text().partition('id="worth"')[2].partition("</section>")[0]
        name = "cost" if prices else "samples_per_second"
        change = changes(ran.comparison("v"))[name]["change"]
        assert f'<data value="{change}" data-field="changes.{name}.change">' in section
        assert f"a variant is {drawn}," in section
        assert '<rect class="worth"' in section
    ran = analyzed(devices=("H100", None))
    assert 'id="worth"' not in (ran.out / "report.html").read_text()


def test_prices_of_tokens_need_no_equal_hardware(analyzed):
    """A sample has 50 tokens of its prompt and 20 of its answer; all twelve blocks count."""
    prices = {"cost": {"input": 1.0, "output": 5.0}, "variants": {"v": {"cost": {"output": 1.0}}}}
    cost = changes(analyzed(devices=("H100", None), **prices).comparison("v"))["cost"]
    assert cost["items"] == BLOCKS
    assert (cost["baseline_mean"], cost["variant_mean"]) == (pytest.approx(0.15), pytest.approx(0.07))


@pytest.mark.parametrize(
    "damage", [{"ended": "soon"}, {"ended": 1e301}, {"samples": -1}, {"replica": None}, {"full": 1}]
)
def test_a_damaged_record_of_a_block_is_none(analyzed, damage):
    """Here all of one side: nothing is said, and nothing fails."""
    ran = analyzed(lambda variant, number: speed_of(variant, number, **(damage if variant == "v" else {})))
    assert (ran.code, changes(ran.comparison("v")).keys()) == (0, {"empty"})
    assert ran.comparison("v")["speed_note"] is None


def test_a_wrong_price_is_named(analyzed):
    """In one sentence, as it may have been changed by hand."""
    ran = analyzed(cost={"gpu_hours": 2.5}, variants={"v": {"cost": {"input": -1}}})
    assert ran.code == 2
    assert "unknown key 'gpu_hours' (did you mean 'gpu_hour'?)" in ran.error


def test_what_was_spent_is_said(made, tmp_path):
    """By variant in verdicts.json, in all for people."""
    run = made()
    told = {"variants": {"base": {"spent": 1.25}, "v": {"spent": 2.5}}}
    RunStore(run).write_log("status.json", json.dumps(told).encode())
    ran = run_analyze(run, out=tmp_path / "out")
    assert ran.verdicts["spent"] == {"base": 1.25, "v": 2.5}
    assert "The sweep has cost 3.75." in ran.text


def test_a_run_of_an_older_version_has_no_speed(made, tmp_path):
    """Its files tell nothing."""
    run = made(lambda *_: None)
    (path, *_) = cell_folder(run, "v", "t").iterdir()
    assert SPEED_KEY not in pq.read_schema(path).metadata
    assert run_analyze(run, out=tmp_path / "out").comparison("v")["speed_note"] is None
