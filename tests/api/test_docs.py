"""The examples of docs/api.md run as they are, on a sweep of lm-eval's own dummy model."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from standin.command import ROOT
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.runs import MadeTask, make_run

import lldeg

pytestmark = pytest.mark.ray

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the sweep and the daily runs that the page speaks of."""
    folder = tmp_path_factory.mktemp("api")
    write_task(folder / "pack", "sums", questions(40), **GENERATE)
    write_sweep(
        folder,
        baseline="bf16",
        engine={"kind": "lm-eval:dummy"},
        variants={"bf16": {}, "int8": {}},
        tasks=["sums"],
        cluster={"cpus_per_replica": 1},
    )
    for date in ("2026-11-25", "2026-11-26"):
        answers = {(model, 0.0): [[1] * 30 + [0] * 10] for model in ("reference", "endpoint")}
        make_run(folder / "runs" / "daily" / date, {"sums": MadeTask(answers)})
    return folder


@pytest.fixture(scope="module")
def printed(folder):
    """What all examples print, run one after the other in the folder."""
    path = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-c", "\n".join(BLOCKS)]
    ended = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_every_function_has_an_example(printed):
    """The page calls each public function, and all of it runs."""
    functions = [name for name in lldeg.__all__ if name.islower()]
    assert all(f"lldeg.{name}(" in "".join(BLOCKS) for name in functions)
    assert "degraded" in printed


def test_submit_fills_the_run_directory(printed, folder):
    """40 items for each of two variants; a second submit writes nothing."""
    assert "runs/quickstart 80 0" in printed
    again = lldeg.submit(folder / "sweep.yaml", run_dir=folder / "runs" / "quickstart")
    assert (again.planned, again.written, again.missing) == (80, 0, 0)


def test_tables_have_all_samples_and_items(printed, folder):
    """A row per answer, with variant and task; a row per item."""
    samples = lldeg.load_samples(folder / "runs" / "quickstart")
    assert samples.num_rows == 80
    assert set(samples["variant"].to_pylist()) == {"bf16", "int8"}
    assert len(set(samples["sample_key"].to_pylist())) == 80
    assert lldeg.load_items(folder / "runs" / "quickstart").num_rows == 40


def test_mistakes_are_errors_not_exits(tmp_path):
    """What the command would print is the text of a UserError."""
    (tmp_path / "sweep.yaml").write_text("name: x\nvariant: {}\n")
    with pytest.raises(lldeg.UserError, match="did you mean 'variants'"):
        lldeg.submit(tmp_path / "sweep.yaml")
    with pytest.raises(lldeg.UserError, match="Ray jobs"):
        lldeg.submit(tmp_path / "sweep.yaml", address="http://127.0.0.1:8265")
