"""The steps that ship lldeg, run here as shell with stand-ins for what changes a machine."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from standin.command import ROOT

WORKFLOWS = {path.stem: path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
WORKFLOWS["gate"] = re.search("```yaml\n(name: .*?)```", (ROOT / "docs/weekly.md").read_text(), re.S)[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = {text.split()[2]: text for text in re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]}
PINNED = re.search(r"^ray==.*", (ROOT / "constraints.txt").read_text(), re.M)[0]
IMAGE = "vllm==0.31.0+cu130"


def context(folder):
    """What .dockerignore lets through, and every name is there."""
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source, target = ROOT / line[1:], folder / line[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return folder


@pytest.mark.parametrize(
    ("target", "installed"),
    [
        ("cpu", "--constraint constraints.txt .[cpu]"),
        ("gpu", f"{IMAGE} {PINNED} .[gpu]"),
    ],
)
def test_an_image_keeps_its_engine_and_its_user_is_not_root(tmp_path, target, installed):
    """Every step succeeds, and pip is told to leave the vLLM of the image as it is."""
    source, programs, log = context(tmp_path / "src"), tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    for name in ("apt-get", "python3", "rm", "useradd"):
        program = programs / name
        says = f'case "$*" in *"pip list"*) printf "torch==2.13.0\\n{IMAGE}\\nvllm-x==1\\n";; esac'
        program.write_text(f'#!/bin/sh\necho "{name} $@" >> "{log}"\n{says}\n')
        program.chmod(0o755)
    for step in re.findall(r"^RUN ((?:.*\\\n)*.*)", STAGES[target], flags=re.M):
        shell = re.sub(r"--mount=\S+ ", "", step).replace("/src", str(source))
        path = f"{programs}:{os.environ['PATH']}"
        subprocess.run(["sh", "-e", "-c", shell], check=True, env={"PATH": path}, cwd=tmp_path)
    assert f"python3 -m pip install --no-cache-dir {installed}" in log.read_text().splitlines()
    user = re.search(r"^USER (\d+)", STAGES[target], flags=re.M)[1]
    assert f"--uid {user} " in log.read_text()
    assert f"runAsUser: {user}," in (ROOT / "jobs/templates/kuberay-rayjob.yaml").read_text()


@pytest.mark.slow
def test_the_context_of_the_image_is_all_that_the_wheel_needs(tmp_path):
    """Nothing that the package is built from is kept out of the image."""
    pytest.importorskip("hatchling")
    names = []
    for number, source in enumerate((ROOT, context(tmp_path / "src"))):
        folder = tmp_path / str(number)
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        subprocess.run(build, cwd=source, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        names.append(sorted(zipfile.ZipFile(wheel).namelist()))
    assert names[0] == names[1]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_holds_together(name):
    """Scripts that Bash can read, jobs that exist, an end in time, and no right that a job does not need."""
    workflow = yaml.safe_load(WORKFLOWS[name])
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job.get("needs", next(iter(workflow["jobs"]))) in workflow["jobs"]
        assert job["timeout-minutes"] > 0
        assert "environment" in job or "id-token" not in job.get("permissions", {})
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"\w[\w-]*/[\w-]+@(v\d+|release/v\d+)", step.get("uses", "a/b@v1"))
            if "run" in step:
                expressions = re.findall(r"\$\{\{(.*?)\}\}", step["run"])  # text that others can write
                assert all(expression.strip() == "matrix.target" for expression in expressions)
                subprocess.run(["bash", "-n", "-c", step["run"]], check=True)


def test_a_release_is_announced_with_its_section(tmp_path):
    """A tag that pyproject.toml or the changelog does not know is refused before anything is built."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/notes", tmp_path / ".ci")
    (tmp_path / "pyproject.toml").write_text('version = "1.2.0"\n')
    text = "## Unreleased\n- a\n## 1.2.0 – 2026-12-01\n- b\n\n### Fixed\n- c\n## 1.2.0rc1 – 2026-11-01\n- d\n"

    def notes(tag):
        done = subprocess.run([tmp_path / ".ci/notes", tag], capture_output=True, text=True, check=False)
        return done.returncode, (done.stdout + done.stderr).strip()

    (tmp_path / "CHANGELOG.md").write_text(text)
    assert notes("v1.2.0") == (0, "- b\n\n### Fixed\n- c")
    assert notes("v1.2.1") == (1, "pyproject.toml does not have the version 1.2.1.")
    (tmp_path / "CHANGELOG.md").write_text(text.replace("## 1.2.0 ", "## 1.1.0 "))
    assert notes("v1.2.0") == (1, "CHANGELOG.md has no section '## 1.2.0'.")
