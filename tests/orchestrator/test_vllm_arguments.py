"""vLLM's arguments that depend on where a replica runs, and what is read of its answers beside the text."""

import os
from types import SimpleNamespace

import pytest

from orchestrator.engines.base import EngineSpec
from orchestrator.engines.vllm_engine import engine_arguments, set_up_cpu
from orchestrator.engines.vllm_requests import read_text


def arguments(gpus, **options):
    """Arguments for a model with some options."""
    return engine_arguments(
        EngineSpec("model", None, {"kind": "vllm", **options}), gpus=gpus, on_cpu=not gpus
    )


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


@pytest.fixture
def cores(monkeypatch):
    """Sets up an engine on so many of four cores; returns how vLLM is to bind threads, and how many."""

    def set_up(threads, **environment):
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
        monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": str(threads), **environment})
        set_up_cpu(EngineSpec("model"))
        return os.environ.get("VLLM_CPU_OMP_THREADS_BIND"), os.environ.get("OMP_NUM_THREADS")

    return set_up


def test_engines_beside_each_other_are_not_bound_to_the_same_cores(cores):
    """Left alone, vLLM knows of no other engine on the machine and gives each the first cores."""
    assert cores(1) == ("nobind", "1")


def test_an_engine_with_all_cores_is_left_to_vllm(cores):
    """It may bind its threads, and choose their number."""
    assert cores(4) == (None, None)


def test_the_users_own_binding_wins(cores):
    """As every setting does."""
    assert cores(2, VLLM_CPU_OMP_THREADS_BIND="2-3") == ("2-3", "2")


@pytest.mark.parametrize("times", [None, SimpleNamespace(scheduled_ts=0.0)])
def test_times_that_vllm_does_not_keep_are_unknown(times):
    """It keeps none by default."""
    answer = read_text((), 0, _output(times))
    assert (answer.response, answer.seconds, answer.first_token_seconds) == ("so", None, None)


def test_times_that_vllm_keeps_are_those_in_the_engine():
    """With disable_log_stats: false, from when a request left the queue to its first and its last token."""
    times = SimpleNamespace(queued_ts=1.0, scheduled_ts=10.0, first_token_ts=10.25, last_token_ts=12.0)
    answer = read_text((), 0, _output(times))
    assert (answer.seconds, answer.first_token_seconds) == (2.0, 0.25)


def _output(times):
    """What vLLM returns for a request."""
    completion = SimpleNamespace(text="so", finish_reason="stop", token_ids=[5])
    return SimpleNamespace(outputs=[completion], prompt_token_ids=[1, 2], metrics=times)
