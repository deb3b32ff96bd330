"""vLLM's options are known without importing it."""

from importlib.util import find_spec

import pytest

from orchestrator.engines import vllm_options as engine_options

needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")


@needs_vllm
@pytest.mark.parametrize("option", ["dtype", "kv_cache_dtype", "quantization", "max_num_seqs", "seed"])
def test_vllms_options_are_read_from_its_source(option):
    """The options that variants differ in are known without importing vLLM."""
    assert option in engine_options.vllm_options()


@needs_vllm
@pytest.mark.model
def test_the_options_read_are_those_vllm_has():
    """Reading the source gives the very fields of the class, so no valid option is refused."""
    import dataclasses

    from vllm import EngineArgs

    assert engine_options.vllm_options() == {field.name for field in dataclasses.fields(EngineArgs)}


def test_without_vllm_nothing_is_known(monkeypatch):
    """On a driver without vLLM no option can be called wrong."""
    monkeypatch.setattr(engine_options, "find_spec", lambda _: None)
    assert engine_options.vllm_options.__wrapped__() == frozenset()
