"""The ledger of looks: answers that a look has used are never redrawn without every reader being told."""

import json

import numpy as np
import pytest
from analyze_runner import run_analyze
from pyarrow.fs import LocalFileSystem
from standin.runs import cell_folder, digest
from standin.sequential_runs import BASE, a_sweep, make_stopped_run, write_samples

from jobs.analysis.analyze import analyze
from jobs.analysis.request import AnalyzeRequest
from jobs.analysis.sequential.early_stopping import EarlyStopping
from orchestrator.errors import UserError
from orchestrator.rundir.store import read_whole
from orchestrator.workers.stopping import NO_SEED, SCORES
from stats.sequential.plan import item_order

pytestmark = pytest.mark.slow  # made sweeps with all their looks

ITEMS = 300
KEYS = [(BASE, 0.0), ("v", 0.0)]


@pytest.fixture(scope="module")
def bad():
    """Answers of a baseline and a variant that is degraded at the first looks."""
    return a_sweep({"v": {"worse": 0.4, "better": 0.02}}, {"sums": ITEMS}, {0.0: 1})


@pytest.fixture(scope="module")
def good(bad):
    """The same with a variant that answers as the baseline does."""
    return {**bad, KEYS[1]: bad[KEYS[0]]}


@pytest.fixture
def run(tmp_path, bad):
    """A run of which nothing has been asked yet."""
    made = make_stopped_run(tmp_path / "run", bad, looks=5, owed={KEYS[1]: 0.0})
    path = made.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ledger": True}))
    for file in (made.path / "samples").rglob("*.parquet"):
        file.unlink()
    (made.path / "looks.json").unlink()
    return made.path


def submit(run, scores):
    """Ask for what is missing, as a submit does; returns what it warns of."""
    for path in (run / "samples").rglob("*.parquet"):
        if read_whole(LocalFileSystem(), str(path)) is None:
            path.unlink()
    said = []
    policy = EarlyStopping(str(run), said.append)
    for model, t in KEYS:
        values = scores[model, t]["sums"][0]
        items = np.arange(ITEMS, dtype=np.int32)
        seeds = np.full(ITEMS, NO_SEED, np.int32)
        columns = items, np.full(ITEMS, t), seeds, values
        policy.take_scores(model, "sums", np.rec.fromarrays(columns, dtype=SCORES))
    kept = {name: (run / name).read_bytes() for name in ("manifest.json", "sweep.yaml")}
    order = {"sums": item_order([digest(f"sums{i}") for i in range(ITEMS)])}
    write_samples(run, scores, None, order, dict.fromkeys(KEYS, 1.0))
    for name, content in kept.items():
        (run / name).write_bytes(content)
    return said


def analyzed(run, gate="degraded", *, strict=False):
    """Exit status, verdict and codes of the warnings."""
    try:
        analysis = analyze([str(run)], AnalyzeRequest(strict=strict))
    except UserError as error:
        return 2, None, str(error)
    codes = [notice.code for notice in analysis.warnings]
    return analysis.exit_status(gate), analysis.results[0].comparison.verdict, codes


def lines(run):
    """What is in the ledger."""
    return [json.loads(line) for line in (run / "looks.jsonl").read_text().splitlines()]


def flip_every_block(run):
    """Change a bit of every file of the variant."""
    for path in cell_folder(run, "v", "sums").glob("*.parquet"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def delete_every_block(run):
    """Remove every file of the variant."""
    for path in cell_folder(run, "v", "sums").glob("*.parquet"):
        path.unlink()


def delete_one_block(run):
    """Remove one file of the variant."""
    next(cell_folder(run, "v", "sums").glob("*.parquet")).unlink()


LOSSES = [flip_every_block, delete_every_block, delete_one_block]


def test_every_look_is_a_line(run, bad):
    """With the digest of its scores and, where it decides, the verdict; a later submit adds none."""
    assert submit(run, bad) == []
    first, line = lines(run)
    assert first["begins_late"] is False
    assert (line["variant"], line["temperature"], line["look"]) == ("v", 0.0, 1)
    assert (len(line["scores"]), line["verdict"]) == (32, "degraded")
    assert submit(run, bad) == []
    assert lines(run) == [first, line]
    assert analyzed(run, strict=True) == (1, "degraded", [])


@pytest.mark.parametrize("lose", LOSSES)
def test_a_second_draw_is_said_and_passes_no_gate(run, bad, good, lose):
    """A variant that was degraded gets better answers after its files were lost."""
    submit(run, bad)
    lose(run)
    (said,) = submit(run, good)
    assert "look 1 of v at temperature 0" in said
    assert [line["scores"] for line in lines(run) if "look" in line][1] is None
    for gate in ("degraded", "certified"):
        code, verdict, codes = analyzed(run, gate)
        assert (code, verdict != "degraded", "looks-redrawn" in codes) == (3, True, True)
    assert analyzed(run, strict=True)[0] == 2


def test_a_second_draw_with_the_same_answers_is_said_too(run, bad):
    """Whoever repeats until it suits has repeated, whatever came out."""
    submit(run, bad)
    delete_every_block(run)
    submit(run, bad)
    assert analyzed(run) == (1, "degraded", ["looks-redrawn"])


def test_it_stays_said(run, bad, good):
    """A third submit, with nothing to do, does not wash it off."""
    submit(run, bad)
    delete_every_block(run)
    submit(run, good)
    assert submit(run, good) == []
    assert "looks-redrawn" in analyzed(run)[2]


@pytest.mark.parametrize("lose", LOSSES)
def test_lost_files_alone_leave_no_verdict(run, bad, lose):
    """Before anybody submits again the run is incomplete, and its record tells of more than it holds."""
    submit(run, bad)
    lose(run)
    code, verdict, said = analyzed(run)
    if lose is delete_one_block:
        assert (code, verdict, "looks-differ" in said) == (3, "inconclusive", True)
    else:
        assert (code, "No item was answered by both" in said) == (2, True)


@pytest.mark.parametrize("names", [["looks.jsonl"], ["looks.jsonl", "looks.json"]])
def test_a_ledger_that_is_lost_with_the_files_is_said(run, bad, good, names):
    """What is gone cannot tell whether a look was taken before."""
    submit(run, bad)
    delete_every_block(run)
    for name in names:
        (run / name).unlink()
    submit(run, good)
    code, _, codes = analyzed(run)
    assert (code, "looks-redrawn" in codes) == (3, True)


@pytest.mark.parametrize("names", [[], ["looks.json"]], ids=["looks.json stays", "looks.json goes"])
def test_a_ledger_that_is_cut_to_its_beginning_is_said(run, bad, good, names):
    """A first line alone does not make the answers of lost looks new ones."""
    submit(run, bad)
    delete_every_block(run)
    path = run / "looks.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    for name in names:
        (run / name).unlink()
    submit(run, good)
    code, _, codes = analyzed(run)
    assert (code, "looks-redrawn" in codes) == (3, True)


def test_a_look_that_the_ledger_lost_is_missed(run, good):
    """Looks.json has it."""
    submit(run, good)
    path = run / "looks.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert analyzed(run) == (3, "certified", ["looks-missing"])


def test_a_ledger_that_is_removed_afterwards_is_missed(run, good):
    """The manifest says that there was one."""
    submit(run, good)
    assert analyzed(run)[0] == 0
    (run / "looks.jsonl").unlink()
    assert analyzed(run) == (3, "certified", ["looks-missing"])


@pytest.mark.parametrize("content", [b"{", b"[]\n", b'{"variant": "v"}\n', b"\xff\n", b"1\n", b"[" * 10**5])
def test_a_line_that_cannot_be_read_is_said(run, good, content):
    """A sentence, no certificate, and the lines before it stay."""
    submit(run, good)
    path = run / "looks.jsonl"
    path.write_bytes(path.read_bytes() + content)
    assert analyzed(run) == (3, "certified", ["looks-missing"])


def test_samples_that_were_replaced_contradict_the_ledger(run, bad, good, monkeypatch):
    """Files of another run in the place of its own, with a looks.json that agrees with them."""
    submit(run, bad)
    with monkeypatch.context() as patch:
        patch.setattr("jobs.analysis.sequential.ledger.Ledger.add", lambda *_: None)
        submit(run, good)
    code, _, codes = analyzed(run)
    assert (code, "looks-differ" in codes) == (3, True)


def test_a_run_of_an_earlier_version_is_read_and_continued(run, bad, good):
    """Without a ledger looks.json tells which looks were taken."""
    path = run / "manifest.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "ledger"}))
    submit(run, bad)
    (run / "looks.jsonl").unlink()
    assert analyzed(run, strict=True) == (1, "degraded", [])
    delete_every_block(run)
    (said,) = submit(run, good)
    assert "generated again" in said
    assert "looks-redrawn" in analyzed(run)[2]


def test_a_dry_run_leaves_the_ledger_alone(run, bad):
    """It asks for nothing."""
    submit(run, bad)
    delete_every_block(run)
    before = (run / "looks.jsonl").read_bytes()
    EarlyStopping(str(run), pytest.fail, record=False)
    assert (run / "looks.jsonl").read_bytes() == before


def test_a_sweep_killed_before_its_first_look_has_not_drawn_twice(run, bad):
    """Answers that no look has used may be missing and asked for whenever it suits."""
    EarlyStopping(str(run), pytest.fail)
    begun = {name: (run / name).read_bytes() for name in ("looks.jsonl", "looks.json")}
    submit(run, bad)
    delete_every_block(run)
    for name, content in begun.items():
        (run / name).write_bytes(content)
    assert submit(run, bad) == []
    assert analyzed(run) == (1, "degraded", [])


def test_verdicts_name_the_samples_they_were_made_from(run, bad, good):
    """The same digest from the same scores, in whichever files; another from others."""
    submit(run, bad)
    first, again = (analyze([str(run)], AnalyzeRequest()).samples_digest for _ in range(2))
    delete_every_block(run)
    submit(run, good)
    assert (again == first, analyze([str(run)], AnalyzeRequest()).samples_digest == first) == (
        True,
        False,
    )


def test_a_pipeline_is_told(run, tmp_path, bad, good):
    """Exit status 3 with the reason, an error in junit.xml, and the sentence among the warnings."""
    submit(run, bad)
    delete_every_block(run)
    submit(run, good)
    ran = run_analyze(run, "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, "Exit status 3, whatever the verdicts: Answers that looks" in ran.text) == (3, True)
    assert 'type="looks-redrawn"' in (ran.out / "junit.xml").read_text()
    assert len(ran.verdicts["samples_digest"]) == 32
