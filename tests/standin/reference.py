"""lm-eval by itself, as the reference that answers are held against."""

import json
from collections import defaultdict

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager


def results(model, folder, tasks, **metadata):
    """All that `lm_eval --log_samples --metadata` gives; code that a model wrote may run."""
    return lm_eval.simple_evaluate(
        model=model,
        tasks=list(tasks),
        task_manager=TaskManager(include_path=[str(folder)], include_defaults=False, metadata=metadata),
        log_samples=True,
        bootstrap_iters=0,
        confirm_run_unsafe_code=True,
        verbosity="ERROR",
    )


def evaluate(model, folders, tasks, limit, **prompt):
    """Per task and item, what `lm_eval --log_samples` writes: a list of one sample per filter."""
    manager = TaskManager(include_path=[str(folder) for folder in folders], include_defaults=False)
    results = lm_eval.simple_evaluate(
        model=model,
        tasks=list(tasks),
        task_manager=manager,
        limit=limit,
        log_samples=True,
        bootstrap_iters=0,
        verbosity="ERROR",
        **prompt,
    )
    found = defaultdict(list)
    for task, logged in results["samples"].items():
        for sample in logged:
            found[task, sample["doc_id"]].append(sample)
    return dict(found)


class Replay(LM):
    """A model that says what a run's rows say it said.

    Args:
        rows: samples of one variant, one for each task and item.
    """

    def __init__(self, rows):
        super().__init__()
        self._rows = {(row["task"], row["item"]): row["response"] for row in rows}

    def _said(self, request):
        return self._rows[request.task_name, request.doc_id]

    def generate_until(self, requests, disable_tqdm=False):
        """Texts as they stand in the rows."""
        return [self._said(request) for request in requests]

    def loglikelihood(self, requests, disable_tqdm=False):
        """The value of each option."""
        return [tuple(json.loads(self._said(request))[request.idx]) for request in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        """The value of the text."""
        return [json.loads(self._said(request))[0] for request in requests]
