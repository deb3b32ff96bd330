"""Reads what `lm_eval --log_samples` wrote, in every generation of the format.

Files of one evaluation carry the same date in their names: results_<date>.json and
samples_<task>_<date>.jsonl. Such a result set is the unit here, a sample is a document: a row per filter is
not a separate item, filters are metrics ("metric,filter") of one sample. Several evaluations in a folder are
reruns of its model, provided that their arguments agree.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from jobs.formats.gather import GatheredTask
from jobs.formats.input_format import InputFormat, NamedPath
from jobs.formats.json_files import JsonObject, files_below, head_of, parsed_lines
from jobs.formats.names import UNNAMED, Key, all_origins, path_ends
from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import Evaluation, InputQuery, SampleBatch, Stated, TaskFacts, as_text, in_batches
from orchestrator.errors import UserError
from orchestrator.input_files import read_json
from orchestrator.rundir.identity import digest

DATE = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?"
SAMPLES = re.compile(rf"samples_(?P<task>.+)_(?P<date>{DATE})\.jsonl?")
RESULTS = re.compile(rf"results_(?P<date>{DATE})\.json")
COMMON_ARGUMENTS = ("model", "model_args", "gen_kwargs")
COMMON_SETTINGS = ("system_instruction_sha", "chat_template_sha", "fewshot_as_multiturn")
NOT_METRICS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
    "prompt_hash", "target_hash",
}  # fmt: skip


@dataclass(frozen=True)
class ResultSet:
    """One evaluation of one model.

    Attributes:
        folder: where its files are.
        date: the stamp in their names.
        samples: the sample file of each task.
    """

    folder: Path
    date: str
    samples: dict[str, Path]

    @property
    def label(self) -> str:
        """What to call it in a sentence."""
        return str(self.folder / f"results_{self.date}.json")

    @cached_property
    def results(self) -> dict[str, Any]:
        """Content of the results file; empty where there is none."""
        path = Path(self.label)
        content = read_json(path) if path.is_file() else {}
        return content if isinstance(content, dict) else {}

    def config(self, task: str) -> dict[str, Any]:
        """The task's configuration; empty where unknown."""
        return dict(self.results.get("configs", {}).get(task, {}))

    def temperature(self, task: str) -> float | None:
        """Sampling temperature of a task: 0 where nothing is sampled, None where no results file says."""
        config = self.config(task)
        if not config:
            return None
        if config.get("output_type") != "generate_until":
            return 0.0
        given = self.results.get("config", {}).get("gen_kwargs")
        settings = {**(config.get("generation_kwargs") or {}), **_pairs(given)}
        if str(settings.get("do_sample", True)).lower() == "false":
            return 0.0
        return float(settings.get("temperature", 0.0))

    def facts(self, task: str, metrics: Sequence[str], *, likelihoods: bool) -> TaskFacts:
        """What the results say about a task with such metrics; the configured ones are preferred."""
        config = self.config(task)
        listed = [entry["metric"] for entry in config.get("metric_list") or [] if "metric" in entry]
        plain = {metric: metric.split(",", maxsplit=1)[0] for metric in metrics}
        higher = self.results.get("higher_is_better", {}).get(task, {})
        stated = {metric: higher.get(name) for metric, name in plain.items()}
        groups = self.results.get("group_subtasks", {})
        return TaskFacts(
            name=task,
            preferred=tuple(
                sorted(metrics, key=lambda m: listed.index(plain[m]) if plain[m] in listed else len(listed))
            ),
            stated={metric: Stated(None if is_ is None else bool(is_)) for metric, is_ in stated.items()},
            evaluated=self.evaluated(task),
            group=next((name for name, members in groups.items() if task in members), None),
            output_type=config.get("output_type"),
            likelihoods=likelihoods,
        )

    def evaluated(self, task: str) -> int:
        """Documents that were evaluated; 0 where the results do not say."""
        effective = self.results.get("n-samples", {}).get(task, {}).get("effective")
        return effective if isinstance(effective, int) else 0

    def arguments(self) -> dict[str, object]:
        """What must agree between reruns: all that decides an answer, but the seed."""
        config = self.results.get("config", {})
        found: dict[str, object] = {name: _without_seed(config.get(name)) for name in COMMON_ARGUMENTS}
        found |= {name: self.results.get(name) for name in COMMON_SETTINGS}
        return found | {f"n-shot of {task}": shots for task, shots in self.results.get("n-shot", {}).items()}


def _sample_files(path: str) -> list[Path]:
    """Sample files at a path: the file itself, those of a results file, or all below a folder; sorted."""
    given = Path(path)
    files = [given]
    if given.is_dir():
        files = list(files_below(given, "samples_*.json*"))
    elif match := RESULTS.fullmatch(given.name):
        files = list(given.parent.glob(f"samples_*_{match['date']}.json*"))
    return sorted(file for file in files if SAMPLES.fullmatch(file.name))


def _evaluations(path: NamedPath) -> list[Evaluation]:
    """One per result set, the oldest first."""
    grouped: dict[tuple[str, Path], dict[str, Path]] = {}
    for file in _sample_files(path.path):
        if match := SAMPLES.fullmatch(file.name):
            grouped.setdefault((match["date"], file.parent), {})[match["task"]] = file
    sets = [ResultSet(folder, date, samples) for (date, folder), samples in sorted(grouped.items())]
    return [
        Evaluation(held.label, partial(_read, held), held.arguments() if held.results else {})
        for held in sets
    ]


def _names(tasks: Mapping[str, GatheredTask], paths: Sequence[str]) -> dict[Key, str]:
    """Every path is one model: as the results state it if all are files and it tells them apart."""
    stated = {origin.place: origin.model for origin in all_origins(tasks)}
    names = list(stated.values())
    are_files = all(Path(path).is_file() for path in paths)
    if are_files and None not in names and len(set(names)) == len(names):
        return {(origin.place, origin.model): str(origin.model) for origin in all_origins(tasks)}
    ends = path_ends(paths)
    return {(origin.place, origin.model): ends[origin.place] for origin in all_origins(tasks)}


def _names_of_reruns(tasks: Mapping[str, GatheredTask]) -> dict[Key, str]:
    """All paths hold reruns of one model."""
    keys = sorted({(origin.place, origin.model) for origin in all_origins(tasks)}, key=str)
    return dict.fromkeys(keys, next((model for _, model in keys if model), UNNAMED))


FORMAT = InputFormat(
    "lm-eval output",
    "lm-eval output folders or results files",
    _sample_files,
    _evaluations,
    names=_names,
    names_of_reruns=_names_of_reruns,
)


def _read(held: ResultSet, query: InputQuery) -> Iterator[SampleBatch]:
    model = as_text(held.results.get("model_name"))
    for task, path in held.samples.items():
        samples = _samples(held, task, path, query)
        metrics = list(dict.fromkeys(metric for sample in samples for metric in sample["scores"]))
        likelihoods = query.responses and _are_likelihoods(path)
        facts, warnings = held.facts(task, metrics, likelihoods=likelihoods), []
        if len(samples) < max(facts.evaluated, 1):
            found = f"{len(samples)} of the {facts.evaluated} documents that were evaluated"
            said = (
                f"{path.name} contains only {found}." if facts.evaluated else f"{path} contains no samples."
            )
            warnings.append(Notice(NoticeCode.CUT_SHORT, said))
        yield from in_batches(facts, model, samples, warnings)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a sample file: JSON Lines with any suffix, or one JSON list.

    Raises:
        UserError: if a line is not a JSON object, or is beyond the limits.
    """
    if head_of(path).lstrip().startswith(b"["):
        with JsonObject(path) as content:
            for row in content.items():
                yield _checked(row, f"A sample in {path}")
        return
    for number, row in parsed_lines(path):
        yield _checked(row, f"Line {number} of {path}")


def _checked(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict) or "doc_id" not in row:
        raise UserError(f"{where} is not an lm-eval sample: it has no doc_id.")
    if type(row["doc_id"]) not in {int, str}:  # a bool is neither, though Python counts it among the integers
        raise UserError(
            f"{where} has an invalid doc_id ({row['doc_id']!r:.50}): it must be an integer or a string."
        )
    return row


def _samples(held: ResultSet, task: str, path: Path, query: InputQuery) -> list[dict[str, Any]]:
    """One sample per document: its rows, one per filter, laid together.

    Raises:
        UserError: if a document has two rows of one filter.
    """
    samples: dict[int | str, dict[str, Any]] = {}
    seen: set[tuple[int | str, str]] = set()
    temperature = held.temperature(task)
    for row in _rows(path):
        doc_id, filter_name = row["doc_id"], row.get("filter") or "none"
        if (doc_id, filter_name) in seen:
            raise UserError(f"{path} contains document {doc_id} twice: remove one of the two.")
        seen.add((doc_id, filter_name))
        if doc_id not in samples:
            samples[doc_id] = {**_sample(row, query), "temperature": temperature}
        sample, listed = samples[doc_id], row.get("metrics")
        names = listed if isinstance(listed, list) else [key for key in row if key not in NOT_METRICS]
        sample["scores"] |= {f"{name},{filter_name}": row[name] for name in names if name in row}
        if query.documents:
            filtered = as_text(_single(row.get("filtered_resps")))
            sample["filtered"] = {**sample.get("filtered", {}), filter_name: filtered}
    return list(samples.values())


def _sample(row: Mapping[str, Any], query: InputQuery) -> dict[str, Any]:
    document = row.get("doc")
    sample: dict[str, Any] = {
        "item": row["doc_id"],
        "scores": {},
        "prompt_hash": row.get("prompt_hash"),
        "doc_hash": row.get("doc_hash"),
        "cluster": query.label(document),
    }
    if query.responses:
        sample["response"] = _response(row.get("resps"))
    if query.needs_prompts:
        sample["prompt"] = as_text(_prompt(row.get("arguments")))
    if query.documents:
        sample["doc_hash"] = sample["doc_hash"] or digest(document)
        sample |= {"target": as_text(row.get("target")), "doc": document}
    return sample


def _are_likelihoods(path: Path) -> bool:
    """Whether the responses of a task are log-likelihoods rather than texts; false where there are none."""
    responses = next((row.get("resps") for row in _rows(path)), None)
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


def _pairs(settings: object) -> Mapping[str, Any]:
    """Generation settings given as a mapping or as "key=value,key=value"."""
    if isinstance(settings, Mapping):
        return settings
    if not isinstance(settings, str):
        return {}
    return dict(part.split("=", 1) for part in settings.split(",") if "=" in part)


def _without_seed(settings: object) -> object:
    if isinstance(settings, str):
        return re.sub(r"(^|,)seed=[^,]*", "", settings).strip(",")
    if isinstance(settings, Mapping):
        return {key: value for key, value in settings.items() if key != "seed"}
    return settings
