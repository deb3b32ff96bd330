"""On real Ray: a sweep ends before it costs more than its budget, and a larger one resumes it."""

import json

import pyarrow.parquet as pq
import pytest
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import block_files, contents, identities, planned
from standin.server import StandInServer

from orchestrator.rundir.progress import ReplicaProgress, SweepProgress, VariantProgress
from orchestrator.rundir.schema import SPEED_KEY, BlockSpeed, misshapen

ITEMS, BUDGET = 400, 300.0
PRICES = {"input": 1e5, "output": 1e5}
"""A sample of the stand-in has 7 tokens of its prompt and 3 of its answer, and costs 1."""


@pytest.fixture(scope="module")
def submits(tmp_path_factory, command):
    """What three submits of 800 samples said and left: a budget of 300, the same once more, a larger one."""
    folder = tmp_path_factory.mktemp("budget")
    server, run, told = StandInServer(), folder / "run", []
    write_task(folder / "pack", "asked", questions(ITEMS), **GENERATE)
    engine = {"kind": "lm-eval:local-completions", "base_url": server.url, "num_concurrent": 4}
    sweep = write_sweep(
        folder,
        model="small",
        engine={**engine, "tokenizer_backend": "None"},
        variants={"base": {}, "other": {"engine": {"max_length": 512}}},
        tasks=["asked"],
        sampling={"temperatures": [0.7]},
        cost=PRICES,
    )
    for budget in (BUDGET, BUDGET, 2000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
            said = command.run("submit", sweep, "--run-dir", run, "--set", f"budget={budget}", cwd=folder)
        status = json.loads((run / "logs" / "status.json").read_text())
        told.append((*said, contents(block_files(run)), len(server.bodies), status))
    server.end()
    return run, told


@pytest.mark.ray
def test_a_sweep_ends_at_its_budget(submits):
    """Exit status 3, with a sentence; it has spent nearly all of it, and not more."""
    _, ((status, out, err, files, asked, told), *_) = submits
    spent = sum(one["spent"] for one in told["variants"].values())
    assert (status, "Traceback" in out + err) == (3, False), out + err
    assert "the budget of 300 allows no more answers" in " ".join(out.split())
    assert BUDGET - 64 < spent <= BUDGET
    assert told["state"] == "incomplete"
    assert any("the budget of 300" in note for note in told["notes"])
    assert len(files) > 0
    assert asked == spent


@pytest.mark.ray
def test_what_was_asked_is_written(submits):
    """It ends in order: each of the answers that were paid for is in the run."""
    run, ((*_, asked, _), *_, last) = submits
    assert last[4] == 2 * ITEMS
    assert asked < last[4]
    assert all(
        misshapen(json.loads(pq.read_schema(path).metadata[SPEED_KEY]), BlockSpeed) is None
        for path in block_files(run)
    )


@pytest.mark.ray
def test_the_same_budget_buys_nothing_more(submits):
    """No engine is started, and no answer touched."""
    _, ((*_, files, asked, before), (status, out, _, again, more, after), _) = submits
    assert (status, again, more) == (3, files, asked)
    assert "the budget of 300 allows no more answers" in " ".join(out.split())
    assert [one["spent"] for one in after["variants"].values()] == [
        one["spent"] for one in before["variants"].values()
    ]


@pytest.mark.ray
def test_a_larger_budget_finishes_the_sweep(submits):
    """Every planned sample stands once, what was there is untouched, and all of it was paid for."""
    run, (_, (*_, files, _, _), (status, out, _, after, _, told)) = submits
    assert status == 0, out
    assert identities(run) == planned(run)
    assert files.items() <= after.items()
    assert sum(one["spent"] for one in told["variants"].values()) == pytest.approx(2 * ITEMS)
    assert "It has cost 800.00." in out


@pytest.mark.parametrize(
    ("spent", "in_flight", "more", "exceeds"),
    [
        (0.0, 500, 500, False),
        (5.0, 0, 99, False),
        (5.0, 0, 100, True),
        (5.0, 60, 40, True),
        (10.0, 0, 0, True),
    ],
)
def test_what_is_in_flight_counts_at_the_mean_price(spent, in_flight, more, exceeds):
    """A hundred samples have cost so much of a budget of 10."""
    progress = SweepProgress({"v": VariantProgress(planned=900, done=100, spent=spent)}, 10.0)
    progress.replicas[1] = ReplicaProgress(number=1, variant="v", in_flight=in_flight)
    assert progress.exceeds_budget(more) is exceeds
    assert len(progress.notes) == exceeds
