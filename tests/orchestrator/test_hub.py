"""What the answers of a hub of models mean for a load, in vLLM and in transformers themselves."""

import json
import os
import subprocess
import sys

import pytest
from standin.command import ROOT
from standin.hub import ANSWERS

pytestmark = pytest.mark.ray

PASSING = {"busy", "down", "cut-off"}


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Per engine and model, the class and the words of the error."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-m", "standin.hub", tmp_path_factory.mktemp("hub")],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("engine", ["vllm", "hf"])
@pytest.mark.parametrize("name", ANSWERS)
def test_only_a_gated_or_absent_model_is_a_refusal(failures, engine, name):
    """A hub that is busy, down or cut off may answer another attempt."""
    kind, words = failures[f"{engine} {name}"]
    assert kind == ("EngineDiedError" if name in PASSING else "EngineOptionError"), words
