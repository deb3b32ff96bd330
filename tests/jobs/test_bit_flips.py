"""A changed bit anywhere in the files of a run: every reader names the file, or finds what it found before.

12 bits in an ordinary run; as many as LLDEG_FUZZ says in the nightly one.
"""

import contextlib
import functools
import io
import os
import random
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from standin.runs import MadeTask, make_run

import lldeg as api
from jobs.analysis.analyze import analyze
from jobs.analysis.request import AnalyzeRequest
from jobs.report.page import report
from jobs.report.server import Catalog
from jobs.reruns.summary import summarize
from jobs.scores.read import read_reruns
from jobs.submit.progress import run_status
from jobs.text.outputs import verdicts
from orchestrator.errors import UserError
from orchestrator.rundir.store import RunStore

pytestmark = pytest.mark.slow  # every reader, for each bit

BITS = int(os.environ.get("LLDEG_FUZZ", "12"))
ITEMS = 24


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two models whose answers differ, at two temperatures, in twelve files of samples and one of items."""
    draw = random.Random(0)

    def asked(reruns):
        scores = [[draw.random() < 0.5 for _ in range(ITEMS)] for _ in range(reruns)]
        return [[(f"answer {draw.random()}", float(score)) for score in rerun] for rerun in scores]

    scores = {(model, t): asked(reruns) for t, reruns in ((0.0, 1), (0.7, 3)) for model in ("base", "v")}
    task = MadeTask(scores, block=4, clusters=[i // 2 for i in range(ITEMS)])
    return make_run(tmp_path_factory.mktemp("bits") / "run", {"t": task})


def analyzed(run):
    """All verdicts and warnings."""
    return verdicts(analyze([str(run)], AnalyzeRequest()))


def reported(run):
    """The page, with prompts and answers."""
    return report(analyze([str(run)], AnalyzeRequest()))


def viewed(run):
    """What a search of the answers finds, beside all warnings."""
    (seen,) = Catalog([str(run)]).runs().values()
    content, texts, find = seen.analyze()
    found = find("answer")
    return (
        content["verdicts"],
        found,
        [
            texts.answers("v", task, t, metric, found.items[found.part == number])
            for number, (_, t, task, metric) in enumerate(found.places)
        ],
    )


def exported(run):
    """The samples in lm-eval's form."""
    with TemporaryDirectory() as folder:
        api.export(run, to="lm-eval", out=folder)
        return [path.read_text() for path in sorted(Path(folder).rglob("samples*.jsonl"))]


def followed(run):
    """What is found of the run on two dates, with all warnings."""
    folder = run.parent / "dates"
    if not folder.exists():
        folder.mkdir()
        for date in ("2026-11-01", "2026-11-02"):
            (folder / date).symlink_to(run)
    return api.history(folder).entry


READERS = {
    "analyze": analyzed,
    "report": reported,
    "view": viewed,
    "history": followed,
    "status": lambda run: run_status(str(run)),
    "flips": lambda run: summarize(read_reruns([str(run)])),
    "subset": lambda run: [cell.scores for cell in read_reruns([str(run)]).cells],
    "export": exported,
    "load_samples": lambda run: api.load_samples(run).to_pylist(),
    "load_items": lambda run: api.load_items(run).to_pylist(),
    "submit": lambda run: {path: str(rows) for path, rows in RunStore(run).read_cell("v", "t").items()},
}


def told(run):
    """What every reader finds, as text, or the sentence that it ends in."""
    return {name: _told(run, read) for name, read in READERS.items()}


def _told(run, read):
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            found = repr(read(run))
    except UserError as error:
        found = f"refused: {error}"
    return re.sub(r"samples_t_[-0-9T.]+", "", found) + printed.getvalue()


@pytest.fixture(scope="module")
def whole(run):
    """What every reader finds in the run as it was written."""
    return told(run)


@pytest.fixture(scope="module")
def without(run):
    """The same with one file torn to nothing; all of those readers that need the file name it."""

    @functools.cache
    def find(path):
        content = path.read_bytes()
        path.write_bytes(b"")
        try:
            return told(run)
        finally:
            path.write_bytes(content)

    return find


def test_files_of_a_run_are_opened_in_one_place():
    """No reader passes the checksum by; lighteval's files are Parquet, too."""
    root = Path(__file__).parents[2]
    modules = [path for folder in ("lldeg", "jobs", "orchestrator") for path in (root / folder).rglob("*.py")]
    opening = {path.name for path in modules if "import pyarrow.parquet" in path.read_text()}
    assert opening == {"lighteval.py", "store.py"}


@pytest.mark.parametrize("number", range(BITS))
def test_a_changed_bit_is_named_or_harmless(run, whole, without, number):
    """Every reader finds what the whole run has, or what it finds without the file, which it names."""
    draw = random.Random(number)
    path = draw.choice(sorted(run.rglob("*.parquet")))
    content = path.read_bytes()
    place, bit = draw.randrange(len(content)), draw.randrange(8)
    torn = without(path)
    path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
    found = told(run)
    path.write_bytes(content)
    for reader, text in found.items():
        assert text in (whole[reader], torn[reader]), (reader, path, place)
        is_for_nothing = torn[reader] == whole[reader]
        assert is_for_nothing or path.name in torn[reader] or "items of task t" in torn[reader], reader
