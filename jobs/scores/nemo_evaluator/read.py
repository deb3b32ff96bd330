"""Reads `results.jsonl` of NeMo Evaluator, with the bundle `eval-*.json` beside it.

A file is an evaluation of one model on one benchmark; `repeat` tells the reruns of a problem apart. Field
names are those of docs/result-format.mdx and `engine/eval_loop.py` in the package (version 0.4). A problem
that failed (infrastructure, a server's error, a time limit) has a reward of 0 and an `error_category` there;
here it is a failed answer, not a wrong one.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.json_files import files_with, read_lines, read_object
from jobs.formats.samples import Evaluation, Query, Sample, SampleBatch, TaskFacts, in_batches, text_hash
from jobs.formats.write_run import as_text
from jobs.scores.samples.source import SampleSource
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError

FILE, BUNDLES = "results.jsonl", "eval-*.json"
REWARD = "reward"
NOT_SETTINGS = {"model", "benchmark", "base_url", "model_url", "repeats", "seed", "max_problems"}


class NemoEvaluator(SampleSource):
    """Results of NeMo Evaluator, or folders of them."""

    described = "results of NeMo Evaluator"
    accepted = "results.jsonl of NeMo Evaluator"

    def recognises(self, path: str) -> bool:
        """Whether there are rows with a problem's index."""
        return next(_files(path), None) is not None

    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """One per file, the oldest first."""
        read = [(_bundle(file), file) for file in _files(path.path)]
        dated = sorted(read, key=lambda pair: (str(pair[0].get("timestamp")), str(pair[1])))
        return [_evaluation(file, bundle) for bundle, file in dated]


SOURCE: Source = NemoEvaluator()


def _files(path: str) -> Iterator[Path]:
    return files_with(Path(path), FILE, b'"problem_idx"')


def _bundle(file: Path) -> dict[str, Any]:
    """Of several bundles in the folder the newest, whose results the file holds; empty if there is none."""
    found = [read_object(path) for path in sorted(file.parent.glob(BUNDLES))]
    return max(found, key=lambda bundle: str(bundle.get("timestamp")), default={})


def _evaluation(file: Path, bundle: Mapping[str, Any]) -> Evaluation:
    config, benchmark = bundle.get("config") or {}, bundle.get("benchmark") or {}
    task = str(benchmark.get("name") or config.get("benchmark") or file.parent.name)
    model = config.get("model")
    return Evaluation(
        str(file),
        partial(_read, file, task, model, config.get("temperature")),
        {name: value for name, value in config.items() if name not in NOT_SETTINGS},
        subject=None if model is None else (str(model), task),
    )


def _read(
    file: Path, task: str, model: str | None, temperature: float | None, query: Query
) -> Iterator[SampleBatch]:
    facts = TaskFacts(task, preferred=(REWARD,), output_type="generate_until")
    yield from in_batches(facts, model, _samples(file, temperature, query))


def _samples(file: Path, temperature: float | None, query: Query) -> Iterator[Sample]:
    for number, row in read_lines(file):
        if not isinstance(row.get("problem_idx"), (int, str)) or REWARD not in row:
            raise UserError(
                f"Line {number} of {file} is not a result of NeMo Evaluator: it lacks problem_idx or reward."
            )
        sample = _sample(row, query)
        sample.temperature = temperature
        yield sample


def _sample(row: Mapping[str, Any], query: Query) -> Sample:
    details, metadata = row.get("scoring_details") or {}, row.get("metadata") or {}
    prompt = as_text(row.get("prompt"))
    has_failed = bool(details.get("error_category"))
    label = metadata.get(query.cluster, details.get(query.cluster)) if query.cluster else None
    found = Sample(
        item=row["problem_idx"],
        scores={} if has_failed else {REWARD: row[REWARD], **(row.get("scorer_rewards") or {})},
        rerun=int(row.get("repeat") or 0),
        prompt_hash=text_hash(prompt),
        cluster=None if label is None else str(label),
        error=f"{details['error_category']}: {details.get('error')}" if has_failed else None,
    )
    if query.needs_prompts:
        found.prompt = prompt
    if query.needs_responses:
        answered = row.get("model_response")
        found.response = as_text(row.get("extracted_answer") if answered is None else answered)
    if query.documents:
        found.target = as_text(row.get("expected_answer"))
        found.doc = {"id": found.item, "metadata": metadata}
        found.filtered = {"none": as_text(row.get("extracted_answer"))}
    return found
