"""lm-eval's own scoring of MATH and IFEval, with the packages it needs, from a thread of a replica."""

import threading

import pytest
from standin.files import GENERATE, write_task

from orchestrator.config.schema import PromptConfig
from orchestrator.sweep.tasks import TaskLibrary, TaskSpec
from orchestrator.workers.scoring_pool import ScoringPool

pytestmark = pytest.mark.slow  # processes that import lm-eval and sympy

MATH = [
    {"problem": "What is 1/2 + 1/4?", "solution": "It is $\\boxed{\\frac{3}{4}}$.", "answer": "\\frac{3}{4}"},
    {"problem": "Solve x^2 = 9 for x > 0.", "solution": "Thus $x = \\boxed{3}$.", "answer": "3"},
]
RIGHT = "So $0.75$. Final Answer: The final answer is $\\frac{3}{4}$. I hope it is correct."
WRONG = "Final Answer: The final answer is $4$. I hope it is correct."
IFEVAL = [
    {
        "key": 1,
        "problem": "",
        "prompt": "Answer in lower case, without commas.",
        "instruction_id_list": ["punctuation:no_comma", "change_case:english_lowercase"],
        "kwargs": [{}, {}],
    }
]
METRICS = {
    "leaderboard/math": ["exact_match", "exact_match_original"],
    "minerva_math": ["exact_match", "math_verify"],
    "leaderboard/ifeval": ["prompt_level_strict_acc", "prompt_level_loose_acc"],
}


@pytest.fixture
def score(tmp_path):
    """Scores texts, one for each document, with the code of one of lm-eval's task folders."""
    pools = []

    def score(folder, docs, said):
        task = {
            **GENERATE,
            "doc_to_text": "{{problem}}",
            "doc_to_target": "",
            "filter_list": [{"name": "none", "filter": [{"function": "take_first"}]}],
            "metric_list": [
                {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in METRICS[folder]
            ],
        }
        code = f"from lm_eval.tasks.{folder.replace('/', '.')}.utils import process_results"
        name = write_task(tmp_path, "copy", docs, {"process_results": code}, **task)
        spec = TaskSpec(task=name, include_path=(str(tmp_path),))
        built = TaskLibrary(spec.include_path).open(spec).build(PromptConfig(), None, "plain")
        pools.append(ScoringPool({name: spec}, 1))
        batch = [(one, [[text]]) for one, text in zip(built.values(), said, strict=True)]
        results = []
        thread = threading.Thread(target=lambda: results.extend(pools[-1].score(name, batch)))
        thread.start()
        thread.join()
        return [[result.scores[f"{metric},none"] for metric in METRICS[folder]] for result in results]

    yield score
    for pool in pools:
        pool.close()


@pytest.mark.parametrize("folder", ["leaderboard/math", "minerva_math"])
def test_math_is_scored(score, folder):
    """math_verify sets alarms; both metrics tell a right answer from a wrong one."""
    pytest.importorskip("math_verify", reason="needs lm_eval[math]")
    assert score(folder, MATH, [RIGHT, WRONG]) == [[1.0, 1.0], [0.0, 0.0]]


def test_instructions_are_checked(score):
    """IFEval's own checks of what an answer has to keep to."""
    pytest.importorskip("langdetect", reason="needs lm_eval[ifeval]")
    pytest.importorskip("immutabledict", reason="needs lm_eval[ifeval]")
    assert score("leaderboard/ifeval", IFEVAL, ["all of this is lower case"]) == [[1.0, 1.0]]
