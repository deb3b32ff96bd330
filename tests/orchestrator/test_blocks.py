"""Cutting owed samples into blocks: each sample in one block, none of them too large."""

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.schema import SamplingConfig
from orchestrator.rundir.identity import Item, Rerun, sample_key
from orchestrator.sweep.blocks import (
    LARGEST_BLOCK,
    Block,
    Cell,
    in_order_of_work,
    longest_first,
    missing_samples,
    reruns,
)

CELL = "c"


def items(count):
    """Items as a task has them."""
    return tuple(Item(i, f"d{i}", f"p{i}") for i in range(count))


def passes(seeds):
    """One greedy pass and a pass per seed."""
    return (Rerun(0.0), *(Rerun(0.7, seed) for seed in range(seeds)))


def cell(count, seeds, done=()):
    """A cell of which some (item, rerun) are there."""
    keys = pa.chunked_array([pa.array([sample_key(CELL, *sample) for sample in done], pa.string())])
    missing = missing_samples(CELL, items(count), passes(seeds), [keys])
    return Cell("v", "t", CELL, items(count), passes(seeds), 8, missing)


def in_blocks(blocks):
    """How often each (item, rerun) stands in some blocks."""
    return Counter((item, rerun) for block in blocks for item in block.items for rerun in block.reruns)


@st.composite
def cells(draw):
    """Cells of any size with any part done; returns (cell, what is planned, what is done)."""
    count, seeds = draw(st.integers(0, 80)), draw(st.integers(0, 4))
    planned = [(item, rerun) for item in items(count) for rerun in passes(seeds)]
    done = draw(st.sets(st.sampled_from(planned))) if planned else set()
    return cell(count, seeds, done), set(planned), done


@given(cells())
def test_blocks_hold_what_is_planned_and_not_done_exactly_once(drawn):
    """Owed = planned minus done, however much is done; no sample in two blocks."""
    held, planned, done = drawn
    assert in_blocks(in_order_of_work([held])) == Counter(planned - done)


@pytest.mark.slow
@given(cells())
def test_blocks_have_different_names(drawn):
    """Two blocks of a cell never overwrite each other's file."""
    held, _, _ = drawn
    names = [block.name for block in in_order_of_work([held])]
    assert len(set(names)) == len(names)


@given(cells())
def test_blocks_keep_all_reruns_of_an_item_together(drawn):
    """No item is in two blocks, so that its reruns share one prefill."""
    held, _, _ = drawn
    owners = Counter(item for block in in_order_of_work([held]) for item in block.items)
    assert all(count == 1 for count in owners.values())


@given(st.integers(1, 60), st.integers(0, 3), st.integers(1, 3))
def test_more_seeds_owe_only_the_new_ones(count, seeds, more):
    """After a finished run, further seeds are all that is owed."""
    old = cell(count, seeds)
    new = cell(count, seeds + more, in_blocks(in_order_of_work([old])))
    fresh = {Rerun(0.7, seed) for seed in range(seeds, seeds + more)}
    expected = Counter((item, rerun) for item in items(count) for rerun in fresh)
    assert in_blocks(in_order_of_work([new])) == expected


@given(st.integers(1, 60), st.integers(1, 30))
def test_a_higher_limit_owes_only_the_new_items(count, more):
    """After a finished run, further items are all that is owed."""
    old = cell(count, 2)
    new = cell(count + more, 2, in_blocks(in_order_of_work([old])))
    assert {item.item for item, _ in in_blocks(in_order_of_work([new]))} == set(range(count, count + more))


@given(cells())
def test_what_is_owed_is_counted(drawn):
    """A cell owes what is planned and not there."""
    held, planned, done = drawn
    assert (held.planned, held.owed) == (len(planned), len(planned) - len(done))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_what_is_owed_takes_no_more_memory_with_more_seeds(done, fresh, more):
    """Items that lack the same reruns share one row: done, new and extended ones make two kinds at most."""
    finished = cell(done, 2)
    extended = cell(done + fresh, 2 + more, in_blocks(in_order_of_work([finished])))
    assert len(finished.missing[0]) == 1
    assert len(extended.missing[0]) == 2


def test_a_big_cell_is_cut_into_blocks_no_larger_than_allowed():
    """A loss costs at most one block's worth of work, and files stay few."""
    blocks = list(in_order_of_work([cell(20_000, 4)]))
    assert max(block.samples for block in blocks) <= LARGEST_BLOCK
    assert len(blocks) < 60


def test_an_item_with_more_reruns_than_a_block_holds_is_still_one_block():
    """A thousand reruns of an item are never zero items a block."""
    assert [block.samples for block in in_order_of_work([cell(2, 1000)])] == [1001, 1001]


@given(st.integers(1, 9), st.integers(1, 5))
def test_halving_to_the_end_gives_every_sample_once(count, seeds):
    """Splitting in search of the sample that kills engines loses and repeats nothing."""
    waiting = [Block("v", "t", CELL, items(count), passes(seeds))]
    whole, singles = in_blocks(waiting), []
    while waiting:
        block = waiting.pop()
        if block.samples == 1:
            singles.append(block)
        else:
            waiting += block.halves()
    assert in_blocks(singles) == whole


def test_names_are_constants_of_their_content():
    """The same items and reruns have the same file name in every process and every release."""
    block = Block("v", "t", CELL, items(3), passes(1))
    assert block.name == "0000000-829de6d8f5a8"
    assert replace(block, deaths=1, failures=2).name == block.name


@pytest.mark.parametrize("part", [0, 1])
def test_halves_have_names_of_their_own(part):
    """The file of a half replaces neither the whole's nor the other half's."""
    block = Block("v", "t", CELL, items(1), passes(1))
    halves = block.halves()
    assert halves[part].name not in {block.name, halves[1 - part].name}


def test_log_likelihoods_are_asked_once():
    """What is not sampled has one answer, whatever temperatures and seeds are asked for."""
    sampling = SamplingConfig(temperatures=(0.0, 0.7), seeds=3)
    assert reruns(sampling, sampled=False) == (Rerun(0.0),)


def test_greedy_answers_are_asked_once_and_sampled_ones_once_a_seed():
    """Temperature 0 has no seed; every other temperature has them all."""
    sampling = SamplingConfig(temperatures=(0.0, 0.7), seeds=[4, 9])
    assert reruns(sampling, sampled=True) == (Rerun(0.0), Rerun(0.7, 4), Rerun(0.7, 9))


@pytest.mark.parametrize("sampled", [True, False])
def test_repeat_greedy_asks_everything_once_a_seed(sampled):
    """To measure the engine's own noise, unsampled requests are repeated too."""
    sampling = SamplingConfig(seeds=2, repeat_greedy=True)
    assert reruns(sampling, sampled=sampled) == (Rerun(0.0, 0), Rerun(0.0, 1))


def test_the_longest_work_comes_first():
    """Long answers, then large tasks, so that no straggler is left at the end."""
    small, large, long = cell(2, 0), cell(9, 0), replace(cell(1, 0), longest_answer=99)
    assert longest_first([small, large, long]) == [long, large, small]
