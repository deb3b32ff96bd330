"""Command lines and sweeps that are wrong in any way end in one sentence, exit status 2 and no file.

100 of them in an ordinary run, as many as LLDEG_FUZZ says in the nightly one; the same ones every time.
"""

import math
import os
import re
import shutil
import socket
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel
from standin.files import write_small_sweep
from standin.runs import MadeTask, make_run

from jobs.cli import COMMANDS, load_command
from orchestrator.config.schema import SweepConfig
from orchestrator.sweep.tasks import TaskLibrary

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("LLDEG_FUZZ", "100"))
LINES = CASES * 3 // 5
SWEEPS = CASES - LINES

GOOD = {
    "submit": ["sweep.yaml", "--dry-run"], "status": ["run"], "logs": ["run"], "stop": ["run"],
    "analyze": ["run"], "history": ["runs"], "import": ["run", "--out", "new"],
    "export": ["run", "--to", "lm-eval", "--out", "new"], "view": ["run"], "flips": ["run"],
    "subset": ["run", "--out", "new.json"],
    "power": ["--items", "100", "--flip-rate", "0.1"], "figures": ["--out", "file"],
    "configs": ["copy", "quickstart", "new"],
}  # fmt: skip
"""A right line of each command, but for figures, which take a minute."""
PATHS = [
    "", "nowhere", "file", "file/below", "empty", "binary", "sweep.yaml", "run/manifest.json",
    "/dev/null", "/dev/null/x", "~nosuchuser/x", "caf\udce9", "strange", "s3://", "s3:///x", "gs://",
    "file://", "foo://x/y", "http://127.0.0.1:1/x", "x" * 5000, "语" * 90, "a\nb", "\x1b[2Jx", "*", "[",
    "$X", "\u202ex",
]  # fmt: skip
WORDS = [
    "nan", "inf", "-inf", "-1", "0", "2", "1e999", "1e-400", "9" * 30, "0x1", "1,5", "½", "x", "t",
    "base", "v", "t=", "=1", "t=x", "t=nan", "t=0:", "t=1:0", "t=-inf:inf", "*=", "a=b=c", "[", "{",
    "t,t", "bleu", "http://a b/v1", "http://a:999999", "127.0.0.1:1", "ray://127.0.0.1:1",
    "sampling.seeds=-1", "name=", "tasks=[", "x.y=1", *PATHS,
]  # fmt: skip
WRITTEN = ("--out", "--run-dir")
OUTS = [
    "", "file", "file/below", "/dev/null", "/dev/null/x", "/proc/nowhere/x", "s3://", "s3:///x", "gs://",
    "foo://x/y", "x" * 5000, "语" * 90,
]  # fmt: skip
ODD = ["--nosuch", "--out", "--alhpa=1", "-", "--", "---", "-z", "--format=pdf", "caf\udce9", "--help=x"]
KINDS = ["path", "option", "option", "odd"]


def options_of(name):
    """The options of a command as its help lists them, each with whether it takes a value."""
    command = load_command(name)
    return [
        (option.opts[0], not option.is_flag)
        for part in getattr(command, "commands", {"": command}).values()
        for option in part.params
        if option.param_type_name == "option"
    ]


def wrong_line(name, random):
    """A right command line with one to three mistakes."""
    line = list(GOOD[name])
    for _ in range(random.randint(1, 3)):
        kind, options = random.choice(KINDS), options_of(name)
        if kind == "path":
            place = random.randrange(len(line))
            line[place] = random.choice(OUTS if "new" in line[place] else PATHS)
        elif kind == "option" and options:
            option, valued = random.choice(options)
            values = OUTS if option in WRITTEN else WORDS
            line += [option, random.choice(values)] if valued else [random.choice([option, f"{option}=x"])]
        else:
            line.insert(random.randint(0, len(line)), random.choice(ODD))
    return [name, *line]


VALUES = [
    None, True, "", "x", -1, 0, 0.5, 2, 10**30, 1e308,
    math.nan, math.inf, -0.0, [], {}, [[]], {"": 1}, {1: 2}, ["x", "x"], [math.nan], [-1],
    {"x": {"y": []}}, "~nosuchuser/x", "$X", "${", "\x00", "\x1b[2J", "\u202e", "a\nb", "..", "/",
    "语" * 90, "a" * 5000, "file", "binary", "s3://", "http://127.0.0.1:1", "hsd-nan", "1e999", "*", "[",
    "base", {"random": 0}, {"first": 1, "random": 1},
]  # fmt: skip
SERVED = {"kind": "lm-eval:local-completions", "base_url": "http://127.0.0.1:1/v1/completions"}
ENGINE = [
    "kind", "base_url", "header", "max_length", "timeout", "patience", "num_concurrent", "tokenizer",
    "dtype", "max_num_seqs", "max_model_len", "gpu_memory_utilization", "tensor_parallel_size",
    "quantization", "env", "seed", "device", "nosuch",
]  # fmt: skip


def models_in(annotation):
    """The sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def keys_of(model, above=()):
    """The path of every key of the schema; lists and mappings of sections have their first entry's."""
    for name, field in model.model_fields.items():
        path = (*above, name)
        yield path
        entry = {"variants": ("other",), "tasks": (0,)}.get(name, ()) if not above else ()
        for section in models_in(field.annotation):
            yield from keys_of(section, path + entry)
        if name == "engine":
            yield from ((*path, option) for option in ENGINE)


def wrong_sweep(path, number):
    """A good sweep, in which one to two keys have a value that none should have."""
    random, keys = Random(number), list(keys_of(SweepConfig))
    sweep = {**yaml.safe_load(path.read_text()), **random.choice([{}, {"engine": dict(SERVED)}])}
    sweep["tasks"] = [{"task": "asked"}, "chosen"]
    for where in (keys[number % len(keys)], *random.sample(keys, random.randint(0, 1))):
        section = sweep
        for key, below in pairwise(where):
            if not isinstance(section[key] if key in section or key == 0 else None, dict | list):
                section[key] = [{}] if below == 0 else {}
            section = section[key]
        if isinstance(section, dict):
            section[where[-1]] = random.choice(VALUES)
    return sweep


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with a sweep, a run, and what can be taken for one."""
    folder = tmp_path_factory.mktemp("template")
    write_small_sweep(folder, model="model")
    task = MadeTask({("base", 0.0): [[1, 0, 1]], ("v", 0.0): [[1, 1, 0]]})
    make_run(folder / "run", {"t": task})
    shutil.copytree(folder / "run", folder / "runs" / "2024-01-01")
    (folder / "empty").mkdir()
    (folder / "file").write_text("mine")
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "strange" / os.fsdecode(b"caf\xe9")).mkdir(parents=True)
    return folder


@pytest.fixture
def ended(lldeg, template, tmp_path, monkeypatch):
    """Runs a line in a fresh copy of the folder, and says what is wrong with its end, "" if nothing."""
    monkeypatch.setattr(socket.socket, "listen", _no_server)
    own_tasks_only = property(lambda library: library._own)  # scanning lm-eval's takes six seconds
    monkeypatch.setattr(TaskLibrary, "_all", own_tasks_only)

    def run(line, sweep=None):
        folder = tmp_path / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        monkeypatch.chdir(folder)
        if sweep is not None:
            Path("sweep.yaml").write_text(yaml.dump(sweep), "utf-8")
        before = state(folder)
        result = lldeg(*line)
        return result, fault(result, written=before != state(folder))

    return run


def _no_server(*_):
    raise OSError("no server in this test")


def state(folder):
    """Every file, and when it was changed."""
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")}


def fault(result, *, written):
    """What a command line may not do."""
    said = result.err
    if "Traceback" in said + result.out or "lldeg failed" in said:
        return "a traceback or 'lldeg failed'"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said):
        return "a control character"
    if result.status in (0, 1, 3):  # it turned out right
        return ""
    if result.status != 2:
        return "the status"
    if len(re.findall(r"^(?:Error: |╭─ Error)", said, re.MULTILINE)) != 1:
        return "not one sentence"
    return "a file" if written else ""


@pytest.mark.parametrize("name", GOOD)
def test_a_wrong_command_line_is_one_sentence(ended, name):
    """Wrong paths, values, options and repetitions; most of them are refused."""
    place = list(GOOD).index(name)
    lines = [wrong_line(name, Random(number)) for number in range(place, LINES, len(GOOD))]
    ends = [(line, *ended(line)) for line in lines]
    assert [end for end in ends if end[2]] == []
    assert sum(result.status == 2 for _, result, _ in ends) >= len(ends) / 2


@pytest.mark.parametrize("part", range(8))
def test_a_wrong_sweep_is_one_sentence(ended, template, part):
    """Keys of the schema with wrong types and values; what the dry run refuses, `submit` refuses too."""
    faults = []
    for number in range(part, SWEEPS, 8):
        sweep = wrong_sweep(template / "sweep.yaml", number)
        result, wrong = ended(["submit", "sweep.yaml", "--dry-run"], sweep)
        if result.status == 2 and not wrong:
            again, wrong = ended(["submit", "sweep.yaml"], sweep)
            wrong = wrong or ("" if again.status == 2 else "the dry run alone refuses")
        faults += [(sweep, result, wrong)] if wrong else []
    assert faults == []


def test_every_command_is_tried():
    """A new one needs a right line above."""
    assert GOOD.keys() == COMMANDS.keys()
