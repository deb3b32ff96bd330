"""What is shipped can be installed, is small, and does all that needs no extra."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lm_eval_maker import write_results, write_samples
from standin.command import ROOT
from standin.runs import MadeTask, make_run
from test_fuzz_readers import FORMATS

pytestmark = pytest.mark.slow

MOST_PACKAGES, MOST_MIB = 30, 480
RUN = """import contextlib, io, json, sys
import jobs.cli
ended = []
for arguments in json.load(sys.stdin):
    sys.argv = ["lldeg", *arguments]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            jobs.cli.main()
        except SystemExit as end:
            ended.append([end.code or 0, said.getvalue()])
print(json.dumps(ended))"""


def run(*command, **options):
    """A command's process, ended; its output is text."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)


def interpreter(version):
    """A Python of a version that can make environments."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    for path in (Path(sys.executable), *(folder / f"python{version}" for folder in folders)):
        code = f"import ensurepip, sys; assert '%d.%d' % sys.version_info[:2] == '{version}'"
        if path.exists() and run(path, "-c", code).returncode == 0:
            return path
    return pytest.skip(f"there is no Python {version}")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The wheel and the sdist."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("shipped")
    built = run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module", params=["3.11 wheel", "3.12 wheel", "3.13 sdist"])
def environment(request, shipped, tmp_path_factory):
    """The programs of an environment of its own into which one of them was installed."""
    version, kind = request.param.split()
    folder = tmp_path_factory.mktemp("environment")
    run(interpreter(version), "-m", "venv", folder)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    options = [] if kind == "wheel" else ["--no-compile"]  # the size of one is enough
    installed = run(*pip, *options, shipped[kind])
    if installed.returncode and run(*pip, "h11").returncode:
        pytest.skip(f"pip reaches no packages: {installed.stderr[-200:]}")
    assert installed.returncode == 0, installed.stderr
    return folder / "bin"


@pytest.fixture
def results(tmp_path):
    """A folder with a small run in it, a policy, dated runs, a score table and logs of every other tool."""
    folder = tmp_path / "results"
    folder.mkdir()
    scores = {("base", 0.5): [[1, 1, 0, 1] * 20, [1, 0, 0, 1] * 20], ("v", 0.5): [[1, 0, 0, 0] * 20] * 2}
    for name in ("run", "dated/2026-10-01", "dated/2026-10-02"):
        make_run(folder / name, {"t": MadeTask(scores)})
    (folder / "policy.yaml").write_text("tasks: {t: certified}\n")
    rows = [f"{model},q{i},{int(i < right)}" for model, right in (("a", 30), ("b", 5)) for i in range(40)]
    (folder / "scores.csv").write_text("\n".join(["model,prompt_id,score", *rows]))
    for name, score in (("base", 1.0), ("worse", 0.0)):
        write_samples(folder / name, [score] * 20)
        write_results(folder / name, model=name)
    for name, (rows, write) in FORMATS.items():
        (folder / "logs" / name).mkdir(parents=True)
        write(folder / "logs" / name, rows)
    return folder


COMMANDS = {
    "analyze run": 1,
    "analyze run --policy policy.yaml --out decided": 1,
    "analyze scores.csv --out scored": 1,
    "analyze base worse --out compared": 1,
    "history dated": 1,
    "flips run": 0,
    "subset run --temperature 0.5": 0,
    "export run --to lm-eval --out exported": 0,
    "export run --to every-eval-ever --out exported-too": 0,
    "power --items 1000 --flip-rate 0.1": 0,
    "configs list": 0,
    "status run": 0,
    "logs run": 0,
    "stop run": 0,
    "view nowhere": 2,
    "submit sweep.yaml": 2,
    "figures --out drawn": 2,
}
"""Exit statuses. What the last two say is tested in test_extras.py."""


def test_the_core_is_small_and_does_what_needs_no_extra(environment, results):
    """Every command on results of every kind; those that need more say so."""
    listed = run(environment / "python", "-m", "pip", "list", "--format", "freeze").stdout.splitlines()
    assert len({line.partition("==")[0] for line in listed} - {"pip", "setuptools"}) <= MOST_PACKAGES
    files = [path.lstat() for path in environment.parent.rglob("*")]
    assert sum(file.st_blocks for file in files) * 512 <= MOST_MIB << 20
    assert re.match(r"lldeg \d", run(environment / "lldeg", "--version").stdout)
    imports = [["import", f"logs/{name}", "--out", f"imported/{name}"] for name in FORMATS]
    wanted = [*map(str.split, COMMANDS), *imports]
    ended = run(environment / "python", "-I", "-c", RUN, input=json.dumps(wanted), cwd=results)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    expected = [*COMMANDS.values(), *(2 if "calls" in name else 0 for name in FORMATS)]
    assert [status for status, _ in found] == expected, list(zip(wanted, found, strict=True))
    refused = [said for status, said in found if status == 2]
    assert ["needs" in said for said in refused] == [False, True, True, True]
    assert not any("lldeg failed" in said for said in refused)
