import pytest

from orchestrator.engines.base import EngineSpec
from orchestrator.engines.vllm_engine import engine_arguments


def arguments(gpus, **options):
    """Arguments for a model with some options."""
    return engine_arguments(EngineSpec("model", None, {"kind": "vllm", **options}), gpus=gpus)


@pytest.mark.parametrize(("gpus", "share"), [(0.5, 0.45), (0.25, 0.225)])
def test_a_part_of_a_gpu_is_that_part_of_its_memory(gpus, share):
    """Engines that share a GPU fit beside each other: vLLM's own 0.9 times the part."""
    assert arguments(gpus)["gpu_memory_utilization"] == pytest.approx(share)


@pytest.mark.parametrize("gpus", [0.0, 1.0, 4.0])
def test_whole_gpus_and_none_are_left_to_vllm(gpus):
    """The key is not set."""
    assert "gpu_memory_utilization" not in arguments(gpus)


def test_the_users_own_memory_share_wins():
    """As every option does."""
    assert arguments(0.5, gpu_memory_utilization=0.3)["gpu_memory_utilization"] == 0.3


def test_chunked_prefill_is_off_on_a_cpu_only():
    """It breaks seeded requests there, and nowhere else."""
    assert arguments(0.0)["enable_chunked_prefill"] is False
    assert "enable_chunked_prefill" not in arguments(0.5)
