"""Scoring in processes of their own: alarms work, and what never ends or dies costs one sample."""

import shutil
import threading

import psutil
import pytest
from standin.files import GENERATE, questions, write_task

from orchestrator.config.schema import PromptConfig
from orchestrator.sweep.tasks import TaskLibrary, TaskSpec
from orchestrator.workers import scoring_pool as pools
from orchestrator.workers.scoring_pool import ScoringError, ScoringPool

pytestmark = pytest.mark.slow  # each process imports lm-eval

TASK_CODE = '''
import os, re, signal, time

def process_results(doc, results):
    """Does as the model says."""
    said = results[0]
    if said == "alarm":
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.alarm(5)
        signal.alarm(0)
    if said == "forever":
        re.match("(a+)+$", "a" * 40 + "b")  # does not let any other thread run
    if said == "exit":
        os._exit(7)
    if said == "raise":
        raise ZeroDivisionError("no")
    return {"exact_match": float(said == "alarm" or said == doc["answer"])}
'''


@pytest.fixture
def scoring(tmp_path):
    """Starts a pool for a task whose code does what it is told; returns what scores texts."""
    pools_made = []

    def start(seconds_per_sample=60.0, broken=False):
        folder = tmp_path / "pack"
        name = write_task(folder, "told", questions(6), {"process_results": TASK_CODE}, **GENERATE)
        spec = TaskSpec(task=name, include_path=(str(folder),))
        built = TaskLibrary(spec.include_path).open(spec).build(PromptConfig(), None, "plain")
        if broken:
            shutil.rmtree(folder)
        pool = ScoringPool({name: spec}, 1, seconds_per_sample)
        pools_made.append(pool)
        requests = list(built.values())

        def score(*said):
            batch = [(one, [[text]]) for one, text in zip(requests, said, strict=False)]
            return [marked(result) for result in pool.score(name, batch)]

        return score

    yield start
    for pool in pools_made:
        pool.close()


def marked(result):
    """The score of a result, or the reason why there is none."""
    return result.scores["exact_match,whole"] if result.reason is None else result.reason


def test_alarms_work_from_every_thread_of_a_replica(scoring):
    """Blocks are scored from threads, where Python refuses to set an alarm."""
    score, results = scoring(), []
    thread = threading.Thread(target=lambda: results.extend(score("alarm", "no")))
    thread.start()
    thread.join()
    assert results == [1.0, 0.0]


def test_a_sample_that_never_ends_is_an_error_and_the_others_are_scored(scoring):
    """Even one that does not let another thread of its process run."""
    results = scoring(seconds_per_sample=1.0)("0", "forever", "2", "no")
    assert results[1].startswith("ScoringStopped: ")
    assert (results[0], results[2:]) == (1.0, [1.0, 0.0])


def test_a_sample_that_ends_its_process_is_an_error_and_the_others_are_scored(scoring):
    """The process is started again."""
    results = scoring()("exit", "1", "raise", "exit", "4")
    assert [result if isinstance(result, float) else result.split(":")[0] for result in results] == [
        "ScoringStopped",
        1.0,
        "ZeroDivisionError",
        "ScoringStopped",
        1.0,
    ]


def test_a_process_is_kept_for_the_next_batch(scoring):
    """Starting one takes seconds."""
    score = scoring()
    score("0")
    before = psutil.Process().children()
    score("0")
    assert psutil.Process().children() == before != []


def test_a_task_that_cannot_be_opened_fails_its_block(scoring):
    """Its samples are owed again; they are not error rows."""
    with pytest.raises(ScoringError, match="told"):
        scoring(broken=True)("0")


def test_processes_that_die_before_they_begin_fail_the_block(scoring, monkeypatch):
    """After a few attempts, with nobody to blame."""
    score = scoring()
    monkeypatch.setattr(pools, "CODE", "raise SystemExit(1)")
    with pytest.raises(ScoringError):
        score("0")
