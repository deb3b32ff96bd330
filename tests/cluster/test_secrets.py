"""What a sweep keeps to itself: tokens, its ports, its configuration's claim to run code."""

from contextlib import suppress

import psutil
import pytest
from standin.command import finish, wait_for
from standin.engine import KIND, read_words
from standin.files import GENERATE, questions, write_small_sweep, write_sweep, write_task

from orchestrator.config.environment import library_variables

pytestmark = pytest.mark.ray

SECRETS = {"HF_TOKEN": "hf_plantedplantedplanted", "OPENAI_API_KEY": "sk-plantedplantedplanted"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for a sweep."""
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def sweep(command, folder):
    """A sweep on this machine alone, run with tokens in the environment.

    Returns the addresses its processes listened on while it was at work, and how it ended.
    """
    command.environment.update(SECRETS)
    write_task(folder / "pack", "asked", questions(8), **GENERATE)
    path = write_sweep(
        folder,
        engine={"kind": KIND, "pids": str(folder / "pids"), "hold": str(folder / "hold")},
        variants={"base": {}},
        tasks=["asked"],
    )
    (folder / "hold").touch()
    process = command.start("submit", path, "--run-dir", folder / "run", cwd=folder)
    wait_for(lambda: read_words(folder / "pids"), process)
    connections = []
    for one in command.alive():
        with suppress(psutil.NoSuchProcess):  # some of Ray's end at any time
            connections += one.net_connections("tcp")
    listening = [one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN]
    (folder / "hold").unlink()
    return listening, finish(process)


def test_no_token_is_written(sweep, folder):
    """Not to the manifest, the logs, the items or the samples, nor shown."""
    _, (status, out, err) = sweep
    assert status == 0, err
    files = [path for path in (folder / "run").rglob("*") if path.is_file()]
    assert len(files) >= 6
    for secret in SECRETS.values():
        assert secret not in out + err
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_nothing_listens_to_the_network(sweep):
    """Ray's servers of a sweep on one machine are for this machine alone."""
    listening, _ = sweep
    assert len(listening) >= 4
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_usage_is_reported_to_nobody(monkeypatch):
    """Unless the user's own environment says otherwise."""
    for name in (
        "RAY_USAGE_STATS_ENABLED",
        "VLLM_NO_USAGE_STATS",
        "DO_NOT_TRACK",
        "HF_HUB_DISABLE_TELEMETRY",
    ):
        monkeypatch.delenv(name, raising=False)
    quiet = library_variables()
    assert quiet["RAY_USAGE_STATS_ENABLED"] == "0"
    assert quiet["VLLM_NO_USAGE_STATS"] == quiet["DO_NOT_TRACK"] == quiet["HF_HUB_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("place", ["file", "--set"])
def test_yaml_with_code_is_refused(lldeg, tmp_path, place):
    """A configuration is data: an object of Python in it is a mistake, and nothing is called."""
    attack = f"!!python/object/apply:os.mkdir ['{tmp_path}/made']"
    path = write_small_sweep(tmp_path)
    arguments = ["--set", f"name={attack}"] if place == "--set" else []
    if place == "file":
        path.write_text(path.read_text().replace("name: small", f"name: {attack}"))
    result = lldeg("submit", path, "--dry-run", *arguments)
    assert result.status == 2
    assert "YAML" in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("key", ["api_key", "hf_token"])
def test_a_token_in_the_configuration_is_refused(lldeg, tmp_path, key):
    """It would stand in the run directory; the sentence names the place and not the token."""
    path = write_small_sweep(tmp_path, engine={"kind": KIND, key: SECRETS["HF_TOKEN"]})
    result = lldeg("submit", path, "--dry-run")
    assert result.status == 2
    assert f"'{key}' looks like a secret" in result.err
    assert SECRETS["HF_TOKEN"] not in result.out + result.err
