"""Digests and sample keys: what changes them, what does not, and that they stay what they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.rundir.identity import (
    Item,
    Rerun,
    differences,
    digest,
    folder_digest,
    sample_key,
    sample_keys,
)

BASE = {"cell": "c", "item": 1, "doc": "d", "prompt": "p", "temperature": 0.7, "seed": 0}

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
meanings = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def key(**changes):
    """The key of a sample that differs from the base in what is named."""
    parts = BASE | changes
    item = Item(parts["item"], parts["doc"], parts["prompt"])
    return sample_key(parts["cell"], item, Rerun(parts["temperature"], parts["seed"]))


def test_the_same_meaning_has_the_same_key():
    """A key is a constant of what is passed: runs of an earlier lldeg can be gone on with."""
    assert key() == "670d4eb69c971602e250da8288bbef82"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("cell", "C"),
        ("item", 2),
        ("doc", "D"),
        ("prompt", "P"),
        ("temperature", 0.70001),
        ("temperature", 0.0),
        ("seed", 1),
        ("seed", None),
    ],
)
def test_every_part_of_the_meaning_changes_the_key(part, value):
    """Two samples that differ in one thing alone have different keys."""
    assert key(**{part: value}) != key()


def test_parts_cannot_run_into_each_other():
    """Text moved from one part to the next is another meaning."""
    assert key(doc="ab", prompt="c") != key(doc="a", prompt="bc")


def test_keys_of_many_samples_are_those_of_each():
    """What the keys of an item share is hashed once; that shows in no key."""
    items = [Item(i, f"d{i}", f"p{i}") for i in range(3)]
    reruns = [Rerun(0.0), Rerun(0.7, 0), Rerun(0.7, 11)]
    each = [sample_key("c", item, rerun) for item in items for rerun in reruns]
    assert list(sample_keys("c", items, reruns)) == each


@given(st.dictionaries(st.text(max_size=4), meanings, min_size=2, max_size=5))
def test_the_order_of_keys_means_nothing(mapping):
    """A mapping read in another order has the same digest."""
    assert digest(mapping) == digest(dict(reversed(mapping.items())))


@given(meanings, meanings)
def test_digests_are_equal_exactly_if_nothing_differs(left, right):
    """Digest and named differences agree on what a change is."""
    nothing_differs = list(differences({"x": left}, {"x": right})) == []
    assert (digest(left) == digest(right)) == nothing_differs


@pytest.mark.parametrize(("old", "new"), [(1, True), (0, False), (1, 1.0)])
def test_equal_numbers_of_different_types_differ(old, new):
    """What Python takes for equal may be two settings to an engine; digest and differences both say so."""
    assert digest(old) != digest(new)
    assert len(list(differences({"x": old}, {"x": new}))) == 1


def test_differences_name_place_old_and_new():
    """What changed, what is new and what is gone, each by its path."""
    old = {"engine": {"dtype": "bf16", "gone": 1}, "model": "m"}
    new = {"engine": {"dtype": "fp16", "come": 2}, "model": "m"}
    assert list(differences(old, new)) == [
        "engine.come: (none) → 2",
        'engine.dtype: "bf16" → "fp16"',
        "engine.gone: 1 → (none)",
    ]


def test_a_long_difference_is_cut():
    """A changed prompt of a thousand words does not flood the sentence."""
    (line,) = differences({"x": "a" * 1000}, {"x": "b" * 1000})
    assert len(line) < 140


def test_a_model_folder_changes_with_a_small_file(tmp_path):
    """Another tokenizer or configuration is another model."""
    (tmp_path / "config.json").write_text("{}")
    before = folder_digest(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert folder_digest(tmp_path) != before


@pytest.mark.parametrize("place", [0, -1])
def test_a_model_folder_changes_with_the_edges_of_its_weights(tmp_path, place):
    """Weights of many megabytes are told apart by their first and last one."""
    weights = bytearray(20 << 20)
    (tmp_path / "w.safetensors").write_bytes(weights)
    before = folder_digest(tmp_path)
    weights[place] = 1
    (tmp_path / "w.safetensors").write_bytes(weights)
    assert folder_digest(tmp_path) != before


def test_a_model_folder_may_move(tmp_path):
    """The same files elsewhere are the same model."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert folder_digest(tmp_path / "a") == folder_digest(tmp_path / "b")
