"""Tasks that draw from the global random state: the same prompts everywhere, and those of lm-eval."""

import random
from itertools import pairwise

import numpy as np
import pytest
from standin.files import GENERATE, SHUFFLING, questions, write_model, write_sweep, write_task
from standin.reference import Replay, evaluate

from orchestrator.sweep.prepare import prepare

GROUP = """
group: pair
task: [first, second]
"""


@pytest.fixture
def pack(tmp_path):
    """Two tasks that shuffle, and a group of both."""
    for name in ("first", "second", "third"):
        write_task(tmp_path / "pack", name, questions(4), {"process_docs": SHUFFLING}, **GENERATE)
    (tmp_path / "pack" / "pair.yaml").write_text(GROUP)
    return tmp_path / "pack"


def prompts(pack, *tasks):
    """The prompts of a sweep over tasks, by task and item; somebody else has drawn before."""
    random.random()
    np.random.rand()
    model = str(write_model(pack.parent / "model"))
    sweep = prepare(write_sweep(pack.parent, model=model, tasks=list(tasks)), run_dir="unused")
    return {
        (task, item): requests[0].args[0]
        for (_, task), built in sweep.built.items()
        for item, requests in built.items()
    }


class Silent(Replay):
    """A model whose answers do not matter."""

    def __init__(self):
        super().__init__([])

    def generate_until(self, requests, disable_tqdm=False):
        """Nothing."""
        return [""] * len(requests)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["first", "second", "pair"])
def test_prompts_are_those_of_lm_eval(pack, task):
    """Of a task, or of the tasks of a group in one call."""
    expected = evaluate(Silent(), [pack], [task], None)
    assert prompts(pack, task) == {place: logged[0]["arguments"][0][0] for place, logged in expected.items()}


def test_every_task_has_draws_of_its_own(pack):
    """What else is in a sweep, and in which order, changes no prompt, so that a run can grow."""
    alone = {name: prompts(pack, name) for name in ("first", "third")}
    assert prompts(pack, "first", "third") == alone["first"] | alone["third"]
    assert prompts(pack, "third", "first") == alone["first"] | alone["third"]


def test_the_tasks_do_shuffle(pack):
    """Else agreement would show nothing."""
    texts = [text for (_, item), text in prompts(pack, "pair").items() if item == 0]
    assert all(left != right for left, right in pairwise(texts))
    assert all(text.rpartition(" ")[0] != "What comes after naught? Item 0" for text in texts)


def test_the_global_state_is_left_alone(pack):
    """Whoever draws after a sweep was prepared gets what it would have got without."""
    random.seed(5)
    np.random.seed(5)
    expected = (random.Random(5), np.random.RandomState(5))
    prepare(write_sweep(pack.parent, tasks=["first"]), run_dir="unused")
    assert (random.random(), np.random.rand()) == (expected[0].random(), expected[1].rand())
