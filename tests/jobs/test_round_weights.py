"""Rounded weights are those of weight-only quantization, in a folder that is otherwise the same model."""

from types import SimpleNamespace

import pytest

from jobs.round_weights import round_folder, rounded
from orchestrator.errors import UserError

pytestmark = pytest.mark.slow  # torch takes seconds to import, also when these tests are not wanted
FORMATS = [(8, None), (4, 64), (4, 32), (2, None)]


@pytest.fixture(scope="module")
def torch():
    """The library."""
    import torch

    return torch


@pytest.fixture(scope="module")
def weight(torch):
    """Some weights of a linear layer."""
    return torch.randn(6, 128, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)


@pytest.fixture(scope="module")
def files(torch):
    """What reads and writes files of weights."""
    from safetensors.torch import load_file, save_file

    return SimpleNamespace(load=load_file, save=save_file)


def by_compressed_tensors(weight, bits, group_size):
    """The same with the library that vLLM reads such checkpoints with."""
    # imported here: collecting the tests would take twice as long
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    strategy = {"strategy": "group", "group_size": group_size} if group_size else {"strategy": "channel"}
    arguments = QuantizationArgs(num_bits=bits, symmetric=True, **strategy)
    groups = weight.unflatten(1, (-1, group_size or weight.shape[1]))
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), arguments)
    return fake_quantize(weight.float(), scale.float(), zero, arguments)


@pytest.mark.parametrize(("bits", "group_size"), FORMATS)
def test_values_are_those_of_compressed_tensors(torch, weight, bits, group_size):
    """Scale, integer and product are what the usual library for such checkpoints computes."""
    expected = by_compressed_tensors(weight, bits, group_size)
    assert torch.equal(rounded(weight, bits, group_size), expected)


@pytest.mark.parametrize(("bits", "group_size"), FORMATS)
def test_a_group_has_no_more_values_than_its_bits_allow(weight, bits, group_size):
    """Within a group there are at most 2^bits different weights, and each is near the one it replaces."""
    result = rounded(weight, bits, group_size)
    size = group_size or weight.shape[1]
    for group, was in zip(result.reshape(-1, size), weight.float().reshape(-1, size), strict=True):
        step = 2 * was.abs().max() / (2**bits - 1)
        assert len(group.unique()) <= 2**bits
        assert (group - was).abs().max() <= 0.51 * step


def test_weights_of_zero_stay_zero(torch):
    """A group without any weight needs no scale, and does not become NaN."""
    assert torch.equal(rounded(torch.zeros(2, 64), 4, 64), torch.zeros(2, 64))


def test_groups_that_do_not_divide_are_refused(torch):
    """100 inputs have no groups of 64."""
    with pytest.raises(UserError, match="100 inputs cannot be divided into groups of 64"):
        rounded(torch.ones(2, 100), 4, 64)


@pytest.fixture
def source(tmp_path, weight, files):
    """A model folder with an embedding, a norm and one linear layer."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    tensors = {
        "model.embed_tokens.weight": weight,
        "model.layers.0.mlp.up_proj.weight": weight.clone(),
        "model.norm.weight": weight[0].clone(),
    }
    files.save(tensors, folder / "model.safetensors")
    return folder


def test_only_linear_layers_are_rounded(torch, weight, files, source, tmp_path):
    """Embeddings and norms keep every bit, and the other files are copied."""
    round_folder(source, tmp_path / "int4", bits=4, group_size=64)
    before, after = (files.load(folder / "model.safetensors") for folder in (source, tmp_path / "int4"))
    same = [name for name in before if torch.equal(before[name], after[name])]
    assert same == ["model.embed_tokens.weight", "model.norm.weight"]
    assert torch.equal(after["model.layers.0.mlp.up_proj.weight"], rounded(weight, 4, 64))
    assert (tmp_path / "int4" / "config.json").read_text() == "{}"


def test_a_failure_leaves_no_folder(source, tmp_path):
    """Groups that do not fit end in an error and nothing else."""
    with pytest.raises(UserError):
        round_folder(source, tmp_path / "int4", bits=4, group_size=100)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_without_weights_is_named(tmp_path):
    """The sentence says which folder, and what it lacks."""
    with pytest.raises(UserError, match="is not a model folder: it has no"):
        round_folder(tmp_path, tmp_path / "new", bits=4)
