"""Variants in a Python environment of their own: what is recorded and refused, and that they run there."""

import json
import sys
import sysconfig
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from ray.runtime_env import RuntimeEnv
from standin.cluster import bare_environment
from standin.engine import KIND, read_words
from standin.files import write_small_sweep
from standin.rows import identities, planned

from orchestrator.engines import kind_of
from orchestrator.engines.base import EngineSpec
from orchestrator.errors import UserError
from orchestrator.rundir.manifest import merge
from orchestrator.sweep.models import versions_of
from orchestrator.sweep.prepare import prepare
from orchestrator.workers.replica_slots import runtime_environment

MARKED = f"{version('transformers')}.post1"


@pytest.fixture
def python(tmp_path):
    """The interpreter of an environment without lldeg, in which a package claims to have another version."""
    found = bare_environment(tmp_path / "env") / "python"
    base = {"base": str(tmp_path / "env"), "platbase": str(tmp_path / "env")}
    marker = Path(sysconfig.get_path("purelib", vars=base)) / f"transformers-{MARKED}.dist-info"
    marker.mkdir()
    (marker / "METADATA").write_text(f"Metadata-Version: 2.1\nName: transformers\nVersion: {MARKED}\n")
    return found


def sweep_with(folder, python, **keys):
    """A sweep whose second variant has a Python of its own."""
    variants = {"base": {}, "other": {"python": str(python)}}
    return write_small_sweep(folder, engine={"kind": KIND, **keys}, variants=variants)


def interpreter(folder, answer):
    """What passes for an interpreter that answers so when it is asked for its versions."""
    folder.mkdir(exist_ok=True)
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def test_versions_are_those_of_the_environment(python):
    """Asked of its own interpreter, not of the one that runs lldeg."""
    assert versions_of(sys.executable)["transformers"] == version("transformers")
    assert versions_of(str(python))["transformers"] == MARKED


def test_the_engines_version_is_part_of_a_variants_identity(tmp_path, python):
    """The manifest has all versions, and those of the engine decide; other variants keep their entries."""
    path = sweep_with(tmp_path, python)
    entries = prepare(path, run_dir=str(tmp_path / "run")).manifest()["variants"]
    decide = entries["other"]["engine"]
    assert decide["packages"] == {"lm-eval": version("lm-eval"), "transformers": MARKED}
    assert decide["python"] == str(python)
    assert entries["other"]["versions"]["ray"] == version("ray")
    assert entries["base"].keys() == {"model", "revision", "engine", "digest"}
    assert not {"python", "packages"} & entries["base"]["engine"].keys()


def test_another_version_is_another_variant(tmp_path, python):
    """An environment that was updated in between is refused, by the name of the package."""
    path = sweep_with(tmp_path, python)
    old = prepare(path, run_dir=str(tmp_path / "run")).manifest()
    (marker,) = (tmp_path / "env").rglob(f"transformers-{MARKED}.dist-info")
    marker.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 99\n")
    new = prepare(path, run_dir=str(tmp_path / "run")).manifest()
    with pytest.raises(UserError, match=r"variants\.other\.engine\.packages\.transformers"):
        merge(old, new, "again")
    assert old["variants"]["other"]["digest"] != new["variants"]["other"]["digest"]


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (None, "does not exist"),
        ("hello", "is not a Python interpreter"),
        ("5", "is not a Python interpreter"),
        ({"ray": "1.0"}, "has ray 1.0"),
        ({"lm-eval": "0.1"}, "has lm-eval 0.1"),
        ({"python": "3.9.1"}, "has python 3.9"),
        ({"lm-eval": None}, "has no package lm-eval"),
    ],
)
def test_an_environment_that_cannot_be_compared_is_refused(tmp_path, answer, wrong):
    """What talks to the driver and what scores must be the same; the message says what differs."""
    same = {"python": sys.version.split()[0], "ray": version("ray"), "lm-eval": version("lm-eval")}
    if isinstance(answer, dict):
        answer = json.dumps({name: value for name, value in (same | answer).items() if value})
    python = tmp_path / "none" if answer is None else interpreter(tmp_path / "bin", answer)
    with pytest.raises(UserError) as refused:
        prepare(sweep_with(tmp_path, python), run_dir=str(tmp_path / "run"))
    assert f"variants.other: python: {python} {wrong}" in str(refused.value)


def test_the_path_must_be_absolute():
    """Replicas run in another folder, on other nodes."""
    assert "absolute" in versions_of("bin/python")


def test_options_of_another_version_are_not_checked_here():
    """They are known where that version is."""
    options = {"kind": "vllm", "option_of_tomorrow": 1, "python": "/other/bin/python"}
    assert list(kind_of(EngineSpec("m", options=options)).problems()) == []


def test_a_variant_may_have_a_container_image(tmp_path):
    """It is part of what decides answers, and Ray is asked for it; a server's is only recorded."""
    served = {"kind": "lm-eval:local-completions", "base_url": "http://127.0.0.1:9/v1/completions"}
    variants = {"base": {}, "new": {"image": "vllm:2", "env": {"A": "1"}}}
    path = write_small_sweep(tmp_path, engine={"kind": KIND}, variants=variants)
    sweep = prepare(path, run_dir=str(tmp_path / "run"))
    entries, new = sweep.manifest()["variants"], runtime_environment(sweep.variants["new"])
    assert [entries[name]["engine"].get("image") for name in variants] == [None, "vllm:2"]
    assert (new["image_uri"], new["env_vars"]["A"]) == ("vllm:2", "1")
    assert RuntimeEnv(**new).image_uri() == "vllm:2"
    assert runtime_environment(sweep.variants["base"]) == {}
    at = replace(sweep.variants["new"], options={**sweep.variants["new"].options, **served})
    assert "image_uri" not in runtime_environment(at)


@pytest.mark.parametrize(("here", "other"), [(False, {}), (True, {"python": sys.executable})])
def test_no_code_can_be_sent_into_an_image(tmp_path, here, other):
    """So neither a Ray cluster elsewhere nor a variant with a Python can be in the same sweep."""
    variants = {"base": {}, "new": {"image": "vllm:2"}, "other": other}
    path = write_small_sweep(tmp_path, engine={"kind": KIND}, variants=variants)
    with pytest.raises(UserError, match=r"variants\.new: image: "):
        prepare(path, run_dir=str(tmp_path / "run"), here=here)


@pytest.mark.ray
def test_a_variant_runs_in_its_own_environment(tmp_path, command, python):
    """Both variants are answered, the second by the other interpreter with the code that was sent there."""
    path, run = sweep_with(tmp_path, python, pids=str(tmp_path / "pids")), tmp_path / "run"
    status, out, err = command.run("submit", path, "--run-dir", run, cwd=tmp_path)
    assert status == 0, err
    assert identities(run) == planned(run)
    assert MARKED in " ".join(out.split())
    words = {word["prefix"]: word["code"] for word in read_words(tmp_path / "pids").values()}
    assert words.keys() == {sys.prefix, str(tmp_path / "env")}
    assert "py_modules" in words[str(tmp_path / "env")]
