"""Resuming a run: which changes are accepted, and which are refused with a command that works."""

import copy

import pytest

from orchestrator.errors import UserError
from orchestrator.rundir.manifest import merge, package_versions, software_id, version_changes
from orchestrator.rundir.schema import Manifest, misshapen

COMMAND = "lldeg submit x.yaml --run-dir runs/x-2"
OLD = {
    "format": 1,
    "versions": {"vllm": "1"},
    "prompt": {"apply_chat_template": False},
    "sampling": {"top_p": 1.0},
    "variants": {"a": {"model": "m", "revision": "r", "engine": {"dtype": "bf16"}, "digest": "1"}},
    "tasks": {"t": {"definition": {"fewshot": 0}, "items": 5, "reruns": [[0.0, None]], "metric": "acc"}},
}


def changed(path, value):
    """The old manifest with one value changed."""
    new = copy.deepcopy(OLD)
    *parents, last = path
    section = new
    for parent in parents:
        section = section[parent]
    section[last] = value
    return new


def test_a_new_run_takes_the_manifest_as_it_is():
    """Nothing to compare with."""
    assert merge(None, OLD, COMMAND) == OLD


def test_the_same_sweep_again_is_no_change():
    """Resuming changes nothing."""
    assert merge(OLD, copy.deepcopy(OLD), COMMAND) == OLD


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tasks", "t", "items"), 50),
        (("tasks", "t", "reruns"), [[0.0, None], [0.7, 1]]),
        (("tasks", "t", "metric"), "acc_norm"),
        (("versions", "vllm"), "2"),
        (("variants", "b"), {"model": "n"}),
        (("tasks", "u"), {"definition": {}}),
    ],
)
def test_growth_is_allowed(path, value):
    """More items, reruns, variants or tasks, another deciding metric or version: the run goes on."""
    new = changed(path, value)
    assert merge(OLD, new, COMMAND) == new


def test_what_this_submit_leaves_out_stays():
    """A submit of one variant and one task forgets none of the others."""
    new = {**OLD, "variants": {"b": {"model": "n"}}, "tasks": {"u": {"definition": {}}}}
    merged = merge(OLD, new, COMMAND)
    assert (list(merged["variants"]), list(merged["tasks"])) == (["a", "b"], ["t", "u"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("variants", "a", "model"), "n"),
        (("variants", "a", "revision"), "s"),
        (("variants", "a", "engine", "dtype"), "fp16"),
        (("variants", "a", "engine", "kv_cache_dtype"), "fp8"),
        (("variants", "a", "engine", "extra_body"), {"seed": "omit"}),
        (("tasks", "t", "definition", "fewshot"), 5),
        (("prompt", "apply_chat_template"), True),
        (("sampling", "top_p"), 0.9),
    ],
)
def test_a_changed_meaning_is_refused_with_the_key_and_a_command(path, value):
    """The sentence names what differs and prints the command that would work."""
    with pytest.raises(UserError) as refusal:
        merge(OLD, changed(path, value), COMMAND)
    assert ".".join(path) in str(refusal.value)
    assert str(refusal.value).endswith(COMMAND)


def test_several_changes_are_all_named():
    """Nobody has to find out one after the other."""
    new = changed(("variants", "a", "model"), "n") | {"sampling": {"top_p": 0.9}}
    with pytest.raises(UserError, match=r"sampling\.top_p: 1\.0 → 0\.9; variants\.a\.model"):
        merge(OLD, new, COMMAND)


def test_another_version_is_told():
    """Answers of two engine versions would mix, so the packages that changed are named."""
    assert version_changes(OLD, changed(("versions", "vllm"), "2")) == ['vllm: "1" → "2"']
    assert version_changes(None, OLD) == []


def test_the_environment_holds_no_secrets(monkeypatch):
    """Tokens in the environment never reach the manifest."""
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-s3cr3t")
    found = package_versions()
    assert "s3cr3t" not in repr(found)
    assert {"python", "ray", "lm-eval"} <= set(found)


def with_software(manifest, version):
    """The manifest of a submit with a version of vLLM."""
    entry = {"versions": {"vllm": version}, "commit": None}
    return {**manifest, "versions": entry["versions"], "software": {software_id(entry): entry}}


WHOLE = {**OLD, "tasks": {"t": {**OLD["tasks"]["t"], "group": None, "output_type": "generate_until"}}}
WHOLE["tasks"]["t"] |= {"metrics": {"acc,none": {"higher_is_better": True}}, "filters": ["none"]}


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("format",), 1, None),
        (("tasks", "t", "limit"), {"random": 7}, None),
        (("tasks", "t", "reruns"), [[0.7, True]], "tasks.t.reruns has an invalid value"),
        (("tasks", "t", "items"), -1, "tasks.t.items has an invalid value"),
        (("variants", "a"), {"engine": {}}, "variants.a.model has an invalid value"),
        (("stopping",), {"looks": 3}, "stopping has an invalid value"),
        (("skipped",), [], "skipped has an invalid value"),
        (("variants",), dict.fromkeys(map(str, range(1001)), OLD["variants"]["a"]), "too many variants"),
    ],
)
def test_a_damaged_manifest_is_named_by_its_part(path, value, problem):
    """And one that is whole is read, whether its numbers of pairs are JSON's lists or Python's tuples."""
    whole = copy.deepcopy(WHOLE)
    section = whole
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    assert (problem or "None") in str(misshapen(whole, Manifest))


def test_the_history_of_the_software_is_kept():
    """Three submits with two versions: both stay in the manifest, whatever the last one is."""
    merged = merge(None, with_software(OLD, "1"), COMMAND)
    merged = merge(merged, with_software(OLD, "2"), COMMAND)
    merged = merge(merged, with_software(OLD, "1"), COMMAND)
    assert sorted(entry["versions"]["vllm"] for entry in merged["software"].values()) == ["1", "2"]


def test_a_manifest_without_a_history_has_its_last_software():
    """Runs of earlier versions of lldeg go on, and their software counts."""
    merged = merge(OLD, with_software(OLD, "2"), COMMAND)
    assert sorted(entry["versions"]["vllm"] for entry in merged["software"].values()) == ["1", "2"]
