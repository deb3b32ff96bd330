"""Reads what `lm_eval --log_samples` wrote: an evaluation per results file, a sample per document.

A row per filter is not a separate item: filters are metrics ("metric,filter") of one sample. Several
evaluations in a folder are reruns of its model, provided that their arguments agree.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import Evaluation, Query, Sample, SampleBatch, Stated, TaskFacts, in_batches
from jobs.formats.write_run import as_text
from jobs.scores.lm_eval.files import ResultSet, find_sample_files, read_rows, result_sets
from jobs.scores.samples.gather import GatheredTask
from jobs.scores.samples.names import UNNAMED, Key, path_ends
from jobs.scores.samples.source import SampleSource
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError
from orchestrator.rundir.identity import digest

NOT_METRICS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
    "prompt_hash", "target_hash",
}  # fmt: skip


class LmEval(SampleSource):
    """Output of lm-eval, in every generation of its format."""

    described = "lm-eval output"
    accepted = "lm-eval output folders or results files"

    def recognises(self, path: str) -> bool:
        """Whether there are sample files, which lm-eval writes only with --log_samples."""
        return bool(find_sample_files(Path(path)))

    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """One per results file, oldest first."""
        return [
            Evaluation(held.label, partial(_read, held), held.arguments() if held.results else {})
            for held in result_sets(Path(path.path))
        ]

    def model_names(self, tasks: Mapping[str, GatheredTask], paths: Sequence[str]) -> dict[Key, str]:
        """Every path is one model: as the results state it if all are files and it tells them apart."""
        keys = {(origin.place, origin.model) for task in tasks.values() for origin in task.parts}
        stated = dict(sorted(keys, key=lambda key: key[0]))
        names = list(stated.values())
        are_files = all(Path(path).is_file() for path in paths)
        if are_files and None not in names and len(set(names)) == len(names):
            return {(place, model): str(model) for place, model in keys}
        ends = path_ends(paths)
        return {(place, model): ends[place] for place, model in keys}

    def rerun_names(self, tasks: Mapping[str, GatheredTask]) -> dict[Key, str]:
        """All paths hold reruns of one model."""
        keys = sorted(
            {(origin.place, origin.model) for task in tasks.values() for origin in task.parts}, key=str
        )
        name = next((model for _, model in keys if model), UNNAMED)
        return dict.fromkeys(keys, name)


SOURCE: Source = LmEval()


def _read(held: ResultSet, query: Query) -> Iterator[SampleBatch]:
    for task, path in held.samples.items():
        samples = _samples(held, task, path, query)
        metrics = dict.fromkeys(metric for sample in samples for metric in sample.scores)
        listed = held.listed_metrics(task)
        facts = TaskFacts(
            name=task,
            preferred=tuple(sorted(metrics, key=lambda metric: _rank(metric, listed))),
            stated={metric: Stated(held.stated_direction(task, metric)) for metric in metrics},
            evaluated=_evaluated(held, task),
            group=held.group(task),
            output_type=held.config(task).get("output_type"),
            likelihoods=query.responses and _are_likelihoods(path),
        )
        yield from in_batches(facts, held.model, samples, _cut_short(held, task, len(samples)))


def _rank(metric: str, listed: Sequence[str]) -> int:
    name = metric.split(",", maxsplit=1)[0]
    return listed.index(name) if name in listed else len(listed)


def _samples(held: ResultSet, task: str, path: Path, query: Query) -> list[Sample]:
    """One sample per document: its rows, one per filter, laid together.

    Raises:
        UserError: if a document has two rows of one filter, or has not the column to cluster by.
    """
    samples: dict[int | str, Sample] = {}
    seen: set[tuple[int | str, str]] = set()
    temperature = held.temperature(task)
    for row in read_rows(path):
        doc_id, filter_name = row["doc_id"], row.get("filter") or "none"
        if (doc_id, filter_name) in seen:
            raise UserError(f"{path} contains document {doc_id} twice: remove one of the two.")
        seen.add((doc_id, filter_name))
        if doc_id not in samples:
            samples[doc_id] = _sample(row, temperature, query)
        sample = samples[doc_id]
        sample.scores |= {f"{name},{filter_name}": value for name, value in _values(row).items()}
        if query.documents:
            sample.filtered = {
                **(sample.filtered or {}),
                filter_name: as_text(_single(row.get("filtered_resps"))),
            }
    return list(samples.values())


def _sample(row: Mapping[str, Any], temperature: float | None, query: Query) -> Sample:
    document = row.get("doc")
    label = document.get(query.cluster) if query.cluster and isinstance(document, dict) else None
    sample = Sample(
        item=row["doc_id"],
        scores={},
        temperature=temperature,
        prompt_hash=row.get("prompt_hash"),
        doc_hash=row.get("doc_hash"),
        cluster=None if label is None else str(label),
        response=_response(row.get("resps")) if query.responses else None,
    )
    if query.needs_prompts:
        sample.prompt = as_text(_prompt(row.get("arguments")))
    if query.documents:
        sample.doc_hash = sample.doc_hash or digest(document)
        sample.target = as_text(row.get("target"))
        sample.doc = document
    return sample


def _values(row: Mapping[str, Any]) -> dict[str, object]:
    listed = row.get("metrics")
    names = listed if isinstance(listed, list) else [key for key in row if key not in NOT_METRICS]
    return {name: row[name] for name in names if name in row}


def _are_likelihoods(path: Path) -> bool:
    """Whether the responses of a task are log-likelihoods rather than texts; false where there are none."""
    responses = next((row.get("resps") for row in read_rows(path)), None)
    return isinstance(responses, list) and bool(responses) and not _is_text(responses)


def _is_text(responses: Sequence[Any]) -> bool:
    first = responses[0]
    return len(responses) == 1 and isinstance(first, list) and bool(first) and isinstance(first[0], str)


def _response(responses: object) -> str | None:
    """A generated text as it is; log-likelihoods as a JSON list of [log-likelihood, is greedy]."""
    if not isinstance(responses, list) or not responses or _is_text(responses):
        return as_text(_single(responses))
    return as_text([one[0] if isinstance(one, list) and len(one) == 1 else one for one in responses])


def _prompt(arguments: object) -> object:
    """The first argument of the first request: {"gen_args_0": {"arg_0": …}}, or [[…]] in older files."""
    while isinstance(arguments, (list, dict)) and arguments:
        arguments = next(iter(arguments.values())) if isinstance(arguments, dict) else arguments[0]
    return arguments


def _single(responses: object) -> object:
    """What is nested in lists of one; several responses stay a list."""
    while isinstance(responses, list) and len(responses) == 1:
        responses = responses[0]
    return responses


def _evaluated(held: ResultSet, task: str) -> int:
    """Documents that were evaluated, by the results; 0 where they do not say."""
    effective = held.results.get("n-samples", {}).get(task, {}).get("effective")
    return effective if isinstance(effective, int) else 0


def _cut_short(held: ResultSet, task: str, found: int) -> list[Notice]:
    evaluated, path = _evaluated(held, task), held.samples[task]
    if found >= max(evaluated, 1):
        return []
    partly = f"{path.name} contains only {found} of the {evaluated} documents that were evaluated."
    return [Notice(NoticeCode.CUT_SHORT, partly if evaluated else f"{path} contains no samples.")]
