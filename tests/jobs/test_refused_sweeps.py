"""What no sweep can have is named by the dry run, before anything is written; each was accepted before."""

import pytest
import yaml
from standin.files import write_small_sweep

SERVED = {"kind": "lm-eval:local-completions", "base_url": "http://127.0.0.1:1/v1/completions"}
REFUSED = {
    "a space in an address": {"engine": {**SERVED, "base_url": "http://a b/v1/completions"}},
    "a line break in an address": {"engine": {**SERVED, "base_url": "http://a/v1\n/completions"}},
    "a port that is none": {"engine": {**SERVED, "base_url": "http://a:999999/v1/completions"}},
    "a header of two lines": {"engine": {**SERVED, "header": {"X": "a\r\nB: c"}}},
    "a header in a header": {"engine": {**SERVED, "header": {"X": {"Y": "z"}}}},
    "a space in a header's name": {"engine": {**SERVED, "header": {"X Y": "z"}}},
    "a smile in a header's name": {"engine": {**SERVED, "header": {"\U0001f600": "z"}}},
    "a line break in a header's name": {"engine": {**SERVED, "header": {"X\n": "z"}}},
    "no length": {"engine": {**SERVED, "max_length": 0}},
    "a text as length": {"engine": {**SERVED, "max_length": "long"}},
    "too many GPUs": {"cluster": {"gpus_per_replica": 1e300}},
    "too many replicas": {"cluster": {"replicas": 1_000_000_000}},
    "a resource of Ray's own": {"cluster": {"resources": {"CPU": 1}}},
    "too many tokens": {"sampling": {"max_gen_toks": 2**40}},
    "a line break in a name": {"variants": {"base": {}, "a\nb": {}}},
    "an escape in a name": {"variants": {"base": {}, "a\x1bb": {}}},
    "a change of direction in a name": {"variants": {"base": {}, "a\u202eb": {}}},
    "a name that is no folder and no name of the hub": {"model": "~nosuchuser/x"},
    "a wildcard": {"tasks": ["*"]},
}


@pytest.fixture
def refused(lldeg, tmp_path):
    """Submits what must be refused; returns the sentence. Nothing may have been written."""

    def run(path, *arguments):
        before = sorted(tmp_path.rglob("*"))
        result = lldeg("submit", path, *arguments)
        assert (result.status, result.err[:7]) == (2, "Error: "), result
        assert "lldeg failed" not in result.err
        assert sorted(tmp_path.rglob("*")) == before
        return result.err

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_dry_run_refuses_what_cannot_run(refused, tmp_path, name):
    """One sentence, exit status 2."""
    path = write_small_sweep(tmp_path)
    keys = REFUSED[name]
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **keys}))
    refused(path, "--dry-run")


@pytest.mark.parametrize("place", ["sweep.yaml", "sweep.yaml/run"])
def test_a_run_directory_below_a_file_is_refused(refused, tmp_path, place):
    """Also by the dry run."""
    path = write_small_sweep(tmp_path)
    assert "cannot hold a run directory" in refused(path, "--run-dir", tmp_path / place, "--dry-run")


@pytest.mark.parametrize("option", ["--run-dir=", "--address="])
def test_an_empty_option_is_refused(refused, tmp_path, option):
    """It is a variable that was not set, not the current folder."""
    assert "empty" in refused(write_small_sweep(tmp_path), option)


@pytest.mark.parametrize("address", ["foo", "ray://", "ray://:1", "a b", "127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_leaves_nothing(refused, tmp_path, address):
    """No run directory with a plan that nobody works on, and no lock."""
    assert "Cannot join" in refused(write_small_sweep(tmp_path), "--address", address)


def test_finish_of_a_new_run_leaves_no_lock(refused, tmp_path):
    """It is refused once the lock is taken."""
    assert "--finish" in refused(write_small_sweep(tmp_path), "--finish")


@pytest.mark.parametrize("command", [["status"], ["analyze"], ["flips"], ["import", "--out", "o"], ["logs"]])
def test_a_url_without_a_bucket_is_refused(lldeg, command):
    """It names nothing."""
    result = lldeg(*command, "s3://")
    assert (result.status, "names no bucket" in result.err) == (2, True)


@pytest.mark.parametrize("command", ["status", "analyze", "logs", "flips", "stop"])
def test_a_run_of_a_later_version_is_refused(lldeg, tmp_path, command):
    """Its files may mean something else."""
    (tmp_path / "manifest.json").write_text('{"format": 99, "variants": {}, "tasks": {}}')
    result = lldeg(command, tmp_path)
    assert (result.status, "later version" in result.err) == (2, True)


def test_a_name_that_is_not_utf8_is_named(lldeg, tmp_path):
    """In a folder of runs."""
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / b"caf\xe9".decode(errors="surrogateescape")).mkdir()
    result = lldeg("analyze", folder)
    assert (result.status, "Not valid UTF-8" in result.err) == (2, True)


def test_engines_that_do_not_score_tokens_are_refused(refused, tmp_path):
    """Where variants are to score the baseline's answers; the sentence says which ones can."""
    path = write_small_sweep(tmp_path)
    path.write_text(
        yaml.safe_dump({**yaml.safe_load(path.read_text()), "fidelity": {}, "engine": {"kind": "lm-eval:hf"}})
    )
    said = refused(path, "--dry-run")
    assert "variants.base: its engine does not tell log-probabilities of given answers" in said
    assert "kind vllm does, and servers of completions that echo a prompt" in said


def test_a_policy_about_a_variant_that_is_not_there_is_refused(refused, tmp_path):
    """Before answers are paid for about which it decides nothing."""
    (tmp_path / "p.yaml").write_text('{tasks: {"*": not-degraded}, variants: [othr]}')
    said = refused(
        write_small_sweep(tmp_path), "--dry-run", "--until-decided", "--policy", tmp_path / "p.yaml"
    )
    assert "there is no variant 'othr' to judge (did you mean 'other'?)" in said
