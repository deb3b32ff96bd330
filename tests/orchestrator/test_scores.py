"""Whatever shape a task's scores have, they arrive; code that a model wrote is scored only on request."""

import pytest
from standin.files import GENERATE, questions, write_task

from orchestrator.sweep.tasks import TaskError, TaskLibrary, TaskSpec

NEEDS_PERMISSION = """
import os

if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
    raise ValueError("set HF_ALLOW_CODE_EVAL to run what a model wrote")

def process_results(doc, results):
    return {"exact_match": 1.0}
"""


@pytest.mark.parametrize("allowed", [True, False])
def test_code_is_allowed_before_the_task_is_loaded(tmp_path, monkeypatch, allowed):
    """HumanEval tries code out while it is imported, so permission must be there by then, or be asked for."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "0")
    code = {"process_results": NEEDS_PERMISSION}
    name = write_task(tmp_path, "coded", questions(2), code, **GENERATE, unsafe_code=True)
    library = TaskLibrary((str(tmp_path),), allowed)
    spec = TaskSpec(name, include_path=library.include_path, unsafe_code=allowed)
    if allowed:
        assert library.open(spec).sampled
    else:
        with pytest.raises(TaskError, match="to allow that, set confirm_run_unsafe_code: true"):
            library.open(spec)
