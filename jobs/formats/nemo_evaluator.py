"""Reads `results.jsonl` of NeMo Evaluator, with the bundle `eval-*.json` beside it.

A file is an evaluation of one model on one benchmark; `repeat` tells the reruns of a problem apart. Field
names are those of docs/result-format.mdx and `engine/eval_loop.py` in the package (version 0.4). A problem
that failed (infrastructure, a server's error, a time limit) has a reward of 0 and an `error_category` there;
here it is a failed answer, not a wrong one.
"""

from collections import ChainMap
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path

from jobs.formats.json_files import files_with, read_lines, read_object
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, Samples, TaskFacts

FILE, BUNDLES = "results.jsonl", "eval-*.json"
REWARD = "reward"
_files = partial(files_with, name=FILE, key=b'"problem_idx"')
NOT_SETTINGS = {"model", "benchmark", "base_url", "model_url", "repeats", "seed", "max_problems"}


def _evaluations(path: str) -> Iterator[Evaluation]:
    """One per file, the oldest first; of several bundles beside it the newest is that of its results."""
    dated = []
    for file in _files(path):
        bundles = [read_object(bundle) for bundle in sorted(file.parent.glob(BUNDLES))]
        newest = max(bundles, key=lambda bundle: str(bundle.get("timestamp")), default={})
        dated.append((str(newest.get("timestamp")), str(file), newest))
    for _, label, bundle in sorted(dated, key=itemgetter(0, 1)):
        config, benchmark = bundle.get("config") or {}, bundle.get("benchmark") or {}
        task = str(benchmark.get("name") or config.get("benchmark") or Path(label).parent.name)
        model = config.get("model")
        settings = {name: value for name, value in config.items() if name not in NOT_SETTINGS}
        facts = TaskFacts(task, model, config.get("temperature"), (REWARD,))
        subject = None if model is None else (str(model), task)
        yield Evaluation(label, partial(_read, Path(label), facts), settings, subject)


FORMAT = InputFormat("results of NeMo Evaluator", "results.jsonl of NeMo Evaluator", _files, _evaluations)


def _read(file: Path, facts: TaskFacts, query: InputQuery) -> Samples:
    yield facts
    for _, row in read_lines(file, "a result of NeMo Evaluator", {"problem_idx": (int, str), REWARD: object}):
        details, metadata = row.get("scoring_details") or {}, row.get("metadata") or {}
        failure, answered = details.get("error_category"), row.get("model_response")
        extracted = row.get("extracted_answer")
        yield query.sample(
            row["problem_idx"],
            {} if failure else {REWARD: row[REWARD], **(row.get("scorer_rewards") or {})},
            rerun=int(row.get("repeat") or 0),
            labels=ChainMap(metadata, details),
            prompt=row.get("prompt"),
            error=f"{failure}: {details.get('error')}" if failure else None,
            response=extracted if answered is None else answered,
            target=row.get("expected_answer"),
            doc={"id": row["problem_idx"], "metadata": metadata},
            filtered={"none": extracted},
        )
