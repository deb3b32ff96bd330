"""The steps of the GitHub Action, run here as shell, as GitHub runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from standin.command import ROOT, RUN
from standin.runs import MadeTask, make_run

pytestmark = pytest.mark.slow  # each test starts commands

FOLDER = ROOT / ".github" / "actions" / "lldeg"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text(encoding="utf-8"))
SAME, WORSE = [1] * 300 + [0] * 100, [1] * 200 + [0] * 200


class Runner:
    """Runs the steps of a composite action with given inputs; the folder is the workspace."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {name: folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        self.outputs = {}
        programs = folder / "bin"
        programs.mkdir()
        self._program(programs / "lldeg", f'exec "{sys.executable}" -c "{RUN}" "$@"')
        self._program(programs / "python", f'echo "$@" > "{folder}/installed"')
        self.environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
            "GITHUB_ACTION_PATH": str(FOLDER),
            **{name: str(path) for name, path in self.files.items()},
        }  # fmt: skip

    @staticmethod
    def _program(path, line):
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def run(self, **inputs):
        """The exit status of the first step that fails, else 0."""
        given = {name: entry.get("default", "") for name, entry in ACTION["inputs"].items()} | inputs
        for path in self.files.values():
            path.write_text("")
        for step in ACTION["runs"]["steps"]:
            if step.get("if") == "inputs.install == 'true'" and given["install"] != "true":
                continue
            own = {name: self._filled(text, given) for name, text in step.get("env", {}).items()}
            shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
            done = subprocess.run(shell, cwd=self.folder, env=self.environment | own, check=False)
            lines = self.files["GITHUB_OUTPUT"].read_text().splitlines()
            self.outputs = dict(line.split("=", 1) for line in lines)
            if done.returncode:
                return done.returncode
        return 0

    def _filled(self, text, given):
        def value(found):
            where, _, name = found[1].partition(".")
            return given[name] if where == "inputs" else self.outputs[name.rsplit(".", 1)[1]]

        return re.sub(r"\$\{\{ (\S+) \}\}", value, text)

    @property
    def summary(self):
        """What the page of the job shows."""
        return self.files["GITHUB_STEP_SUMMARY"].read_text()


@pytest.fixture
def runner(tmp_path):
    """A runner whose workspace holds a run without damage, one with, and a policy."""
    for name, answers in (("fine", SAME), ("bad", WORSE)):
        make_run(tmp_path / name, {"a": MadeTask({("base", 0.0): [SAME], ("v", 0.0): [answers]})})
    (tmp_path / "policy.yaml").write_text("margin: 0.02\ntasks: {a: certified}\n")
    return Runner(tmp_path)


@pytest.mark.parametrize(("run", "status"), [("fine", 0), ("bad", 1)])
def test_the_job_fails_if_the_model_is_worse(runner, run, status):
    """The exit status, the outputs, and the summary of the job."""
    assert runner.run(paths=run, policy="policy.yaml", install="false") == status
    assert runner.outputs["status"] == str(status)
    assert runner.outputs["line"].startswith("lldeg policy: blocked" if status else "lldeg policy: pass")
    assert runner.outputs["line"] in runner.summary.replace("\\", "")
    assert (runner.folder / "lldeg-analysis" / "junit.xml").exists()


def test_wrong_input_fails_the_job(runner):
    """A policy that names an unknown task ends with 2, and the summary says where to look."""
    (runner.folder / "wrong.yaml").write_text("tasks: {b: certified}\n")
    assert runner.run(paths="fine", policy="wrong.yaml", install="false") == 2
    assert "could not analyze" in runner.summary


def test_inputs_are_never_run(runner):
    """Quotes, spaces and commands in an input are part of a path."""
    assert runner.run(paths='$(touch owned); "`touch owned`"', install="false") == 2
    assert not (runner.folder / "owned").exists()


def test_arguments_come_one_a_line(runner):
    """Options of the command, with values that may hold spaces."""
    assert runner.run(paths="fine\n", arguments="--out\nother\n--gate\ncertified\n", install="false") in {
        0,
        3,
    }
    assert runner.outputs["line"].startswith("lldeg ")


def test_lldeg_is_installed_from_the_commit_of_the_action(runner):
    """The first step installs the folder that holds pyproject.toml."""
    runner.run(paths="fine")
    target = (runner.folder / "installed").read_text().split()[-1]
    assert (Path(target) / "pyproject.toml").exists()
