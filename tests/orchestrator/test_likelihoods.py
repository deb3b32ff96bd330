"""Log-likelihoods that are none: an error row, whichever engine returned them."""

import math
from types import SimpleNamespace

import pytest
from standin.files import CHOOSE, choices, write_task

from orchestrator.config.schema import PromptConfig, SamplingConfig
from orchestrator.engines.base import GENERATE, LOGLIKELIHOOD, ROLLING, Answer, Query
from orchestrator.engines.vllm_requests import prompt_scores, summed
from orchestrator.rundir.identity import Rerun
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.tasks import TaskLibrary, TaskSpec, items_of
from orchestrator.workers.answer_block import answer_block, checked

IMPOSSIBLE = [math.nan, math.inf, -math.inf, 0.5, True, "-1", None, 10**400]


@pytest.mark.parametrize("value", IMPOSSIBLE, ids=str)
def test_a_value_that_is_no_log_likelihood_is_an_error(value):
    """NaN, infinite, positive or not a number: for one continuation and for a whole text."""
    for kind, response in ((LOGLIKELIHOOD, (value, True)), (ROLLING, value)):
        answer = checked(Query(kind, ("a", "b")), Answer(response))
        assert (answer.response, answer.error is None) == (None, False)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-6, -1e30])
def test_what_rounding_leaves_is_a_log_likelihood(value):
    """A certain token may come out a hair above 0."""
    assert checked(Query(LOGLIKELIHOOD, ("a", "b")), Answer((value, True))).error is None


@pytest.mark.parametrize("value", [None, 3, ["text"]])
def test_a_text_is_text(value):
    """Anything else is an error, whatever the task's filters would make of it."""
    assert checked(Query(GENERATE, ("a", {})), Answer(value)).error.startswith("TypeError")


def vllm_output(*logprobs):
    """What vLLM returns for a prompt whose tokens have these log-likelihoods."""
    tokens = range(len(logprobs))
    scored = SimpleNamespace(token_ids=tokens, logprobs=logprobs, ranks=[1 for _ in tokens])
    return SimpleNamespace(prompt_token_ids=tokens, prompt_logprobs=scored, num_cached_tokens=None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 5.0])
def test_one_wrong_token_of_vllm_is_an_error(value):
    """Also where the sum of all tokens would look sound."""
    answer = summed(prompt_scores(1, vllm_output(0.0, -20.0, value, -1.0)), 4, 0, whole=False)
    assert (answer.response, answer.error.split(":")[0]) == (None, "ValueError")
    assert summed(prompt_scores(1, vllm_output(value, -1.0)), 2, 0, whole=True).response == -1.0


def test_nan_everywhere_is_no_score(tmp_path):
    """lm-eval takes the first of several NaN for the greatest: items whose target is 0 would be right."""
    name = write_task(tmp_path / "pack", "t", choices(2), **CHOOSE)
    library = TaskLibrary((str(tmp_path / "pack"),))
    task = library.open(TaskSpec(task=name, include_path=library.include_path))
    built = task.build(PromptConfig(), None, "plain")
    block = Block("v", name, "c", tuple(items_of(built)), (Rerun(0.0),))
    engine = SimpleNamespace(answer=lambda queries: [Answer((math.nan, False)) for _ in queries])
    samples = answer_block(block, task.score_each, built, engine, SamplingConfig())
    assert [sample.scored for sample in samples] == [None, None]
    assert all("log-likelihood is nan" in sample.error for sample in samples)
