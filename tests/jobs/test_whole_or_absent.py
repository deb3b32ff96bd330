"""Every file is there whole or not at all, and those of a command together, whichever step fails.

Each step that changes a folder fails in turn, for every command that leaves files: once, or from there on,
which is what a killed process and a power failure leave. Then the command is run again. Memory fails, too.
"""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from standin.faults import FailingDisk, no_memory
from standin.files import write_small_sweep
from standin.runs import MadeTask, make_run

import jobs.history
import jobs.report.page
import jobs.text.figure_style
import jobs.text.junit
import lldeg as api
import orchestrator.sweep.prepare
from jobs.export import export_run
from jobs.formats.run_files import RunFiles
from jobs.formats.samples import PLAIN
from jobs.formats.write_run import read_logs, write_run
from jobs.report.page import analysis_files
from jobs.reruns.outputs import write_flips
from jobs.reruns.summary import summarize
from jobs.scores.read import read_reruns
from jobs.submit.request import SubmitRequest
from jobs.submit.run_sweep import run_sweep
from orchestrator.errors import UserError
from orchestrator.rundir.manifest import software_id
from orchestrator.rundir.progress import write_status
from orchestrator.rundir.store import MANIFEST
from orchestrator.rundir.whole_files import UNFINISHED
from orchestrator.sweep.blocks import in_order_of_work
from orchestrator.workers.answer_block import failed_block, samples_table

pytestmark = pytest.mark.slow  # every step of every command

DENSE = int(os.environ.get("LLDEG_FUZZ", "4"))  # so many lines one by one, then ever fewer
FAILURES = (UserError, OSError, MemoryError)


def a_run(folder, right=6):
    """Two variants on eight items, with two reruns."""
    sides = {("base", 0.5): [[1] * 8, [1] * 8], ("v", 0.5): [[1] * right + [0] * (8 - right), [1] * 8]}
    return make_run(folder, {"t": MadeTask(sides)})


@dataclass
class Case:
    """A command, and the folder it writes to, with a set of an earlier command and a file of mine in it.

    Args:
        out: the folder.
        run: runs the command.
        mark: name of the file that tells that the set is complete.
    """

    out: Path
    run: object
    mark: str

    def __post_init__(self):
        self.out.mkdir(exist_ok=True)
        if self.mark:
            (self.out / "notes.txt").write_text("mine")
        self.before = self.out.with_name("before")
        shutil.copytree(self.out, self.before)
        self.old = self.visible()
        self.run()
        self.new = self.visible()

    def restore(self):
        """Take the folder back to how it was before the command."""
        shutil.rmtree(self.out)
        shutil.copytree(self.before, self.out)

    def visible(self):
        """Contents of the files, without hidden ones and logs."""
        paths = [path for path in self.out.rglob("*") if path.is_file() and not path.name.startswith(".")]
        names = {str(path.relative_to(self.out)): path for path in paths}
        return {name: path.read_bytes() for name, path in names.items() if not name.startswith("logs/")}

    def check(self, *, for_good=False):
        """What is there is of one set, whole; a set with its mark is complete, and mine is there."""
        found = self.visible()
        assert [name for name in found if found[name] not in (self.old.get(name), self.new.get(name))] == []
        if self.mark == MANIFEST:  # of a sweep, whose samples come one block after the other
            run = RunFiles.open(str(self.out))
            assert [run.items(task, ["item"]).num_rows for task in run.tasks] == [6, 4]
        else:
            sets = [one for one in (self.old, self.new) if found.items() <= one.items()]
            assert sets
            assert self.mark not in found or found in sets
        assert found.get("notes.txt") == self.old.get("notes.txt")
        assert for_good or self.unfinished() == []

    def unfinished(self):
        """Half-written files."""
        return [path.name for path in self.out.rglob("*") if UNFINISHED.fullmatch(path.name)]

    def repeat(self):
        """The command again ends as if nothing had happened."""
        if self.mark or self.visible() != self.new:  # a folder that is filled once may have been completed
            self.run()
        assert (self.visible(), self.unfinished()) == (self.new, [])


def analyze(folder):
    """The analysis of a run after one of another run, with a policy, whose decision has to go."""
    out, run = folder / "out", a_run(folder / "run")
    policy = {"tasks": {"*": {"require": "not-degraded"}}}
    api.analyze(a_run(folder / "other", right=2), policy=policy, out=str(out))
    found = api.analyze(run)

    def write():
        analysis_files(str(out)).remove()
        found.write(str(out))

    return Case(out, write, "verdicts.json")


def history(folder):
    """A history of three dates after one of two."""
    out, runs = folder / "out", folder / "runs"
    for day in (1, 2):
        a_run(runs / f"2026-10-0{day}")
    api.history(runs, out=str(out))
    a_run(runs / "2026-10-03", right=5)
    found = api.history(runs)
    return Case(out, lambda: found.write(str(out)), "history.json")


def flips(folder):
    """Counts of flips of one run after those of another."""
    out = folder / "out"

    def of(run):
        reruns = read_reruns([str(run)])
        return lambda: write_flips(reruns, summarize(reruns), out)

    of(a_run(folder / "other", right=2))()
    return Case(out, of(a_run(folder / "run")), "flips.json")


def import_(folder):
    """A table of scores, imported into a new folder."""
    table = folder / "scores.csv"
    rows = [f"{model},q{i},{int(i > 3)}" for model in ("base", "v") for i in range(8)]
    table.write_text("\n".join(["model,prompt_id,score", *rows]) + "\n")
    run = read_logs([str(table)], PLAIN)
    return Case(folder / "out", lambda: write_run(str(folder / "out"), *run), "")


def export(folder):
    """A run, exported into a new folder, always at the same time."""
    run = make_run(folder / "run", {"t": MadeTask({("base", 0.0): [[1] * 8]})})
    return Case(folder / "out", lambda: api.export(run, to="lm-eval", out=folder / "out"), "")


def submit(folder):
    """A sweep with two seeds after one seed of it; its samples are errors, for there is no engine."""
    out = folder / "out"
    found = [
        orchestrator.sweep.prepare.prepare(write_small_sweep(folder, sampling=sampling), run_dir=str(out))
        for sampling in ({"temperatures": [0.7], "seeds": seeds} for seeds in (1, 2))
    ]

    def run(sweep):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("jobs.submit.run_sweep.prepare", lambda *_, **__: sweep)
            patch.setattr("jobs.submit.run_sweep.execute", write_errors)
            run_sweep(SubmitRequest(folder / "sweep.yaml", run_dir=str(out)))

    run(found[0])
    return Case(out, lambda: run(found[1]), MANIFEST)


def write_errors(plan, progress, **_):
    """Write the blocks that are missing, without Ray."""
    store = plan.sweep.store
    for variant in plan.sweep.config.variants:
        for block in in_order_of_work(plan.cells_of(variant)):
            rows = samples_table(block, failed_block(block, "no engine"), plan.columns)
            store.write_block(block.variant, block.task, block.name, rows, software_id(plan.software))
    write_status(store, progress)


@pytest.fixture(params=(analyze, history, flips, import_, export, submit), ids=lambda made: made.__name__)
def case(request, tmp_path, monkeypatch):
    """A command after it was run once."""
    now = SimpleNamespace(now=lambda _: datetime(2026, 11, 29))
    monkeypatch.setattr(export_run, "datetime", now)
    monkeypatch.setattr(jobs.text.junit, "datetime", now)
    monkeypatch.setattr(jobs.report.page, "report", lambda *_: "<html/>")  # slow to make, as these are
    monkeypatch.setattr(jobs.history, "picture", lambda _: "<svg/>")
    monkeypatch.setattr(jobs.text.figure_style, "figure_files", lambda _, name: {f"{name}.pdf": b"drawn"})
    return request.param(tmp_path)


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_whichever_step_of_the_disk_fails(case, for_good):
    """No half file, no mixed set, nothing of mine lost; and the next time all is as it should be."""
    step = 0
    while True:
        case.restore()
        with FailingDisk(case.out.parent, step, for_good=for_good) as disk, suppress(*FAILURES):
            case.run()
        if not disk.failed:
            break
        case.check(for_good=for_good)
        case.repeat()
        step += 1
    assert step > 10


def test_wherever_memory_ends(case):
    """The same, whichever line finds none; a half-written file may be left until the next time."""
    at, in_a_row = 0, 0  # commands that ended well
    while in_a_row < 5:
        case.restore()
        in_a_row += 1
        with suppress(*FAILURES), no_memory(at):
            case.run()
        if case.visible() != case.new:
            in_a_row = 0
            case.check(for_good=True)
            case.repeat()
        at += at // DENSE + 1
    assert at > 100
