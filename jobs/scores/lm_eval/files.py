"""The files of `lm_eval --log_samples`, in every generation of the format, and which belong together.

Files of one evaluation carry the same date in their names: results_<date>.json and
samples_<task>_<date>.jsonl. Such a result set is the unit here; a folder that holds several holds reruns,
or runs that must not be mixed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jobs.formats.json_files import files_below, head_of, parsed_lines
from jobs.formats.json_stream import JsonObject
from jobs.formats.metrics import known_direction
from jobs.formats.write_run import as_text
from orchestrator.errors import UserError
from orchestrator.input_files import read_json

DATE = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?"
SAMPLES = re.compile(rf"samples_(?P<task>.+)_(?P<date>{DATE})\.jsonl?")
RESULTS = re.compile(rf"results_(?P<date>{DATE})\.json")
COMMON_ARGUMENTS = ("model", "model_args", "gen_kwargs")
COMMON_SETTINGS = ("system_instruction_sha", "chat_template_sha", "fewshot_as_multiturn")


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

    @property
    def model(self) -> str | None:
        """The model's name as lm-eval knows it."""
        return as_text(self.results.get("model_name"))

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

    def stated_direction(self, task: str, metric: str) -> bool | None:
        """Whether higher is better, as the results state it; None where they do not."""
        name = metric.split(",", maxsplit=1)[0]
        stated = self.results.get("higher_is_better", {}).get(task, {}).get(name)
        return None if stated is None else bool(stated)

    def higher_is_better(self, task: str, metric: str) -> bool:
        """Direction of a metric, as the results state it, else by its name."""
        stated = self.stated_direction(task, metric)
        return known_direction(metric) if stated is None else stated

    def group(self, task: str) -> str | None:
        """The group that the task belongs to."""
        groups = self.results.get("group_subtasks", {})
        return next((name for name, members in groups.items() if task in members), None)

    def listed_metrics(self, task: str) -> list[str]:
        """Names of the task's metrics in the order of its configuration."""
        return [entry["metric"] for entry in self.config(task).get("metric_list") or [] if "metric" in entry]

    def arguments(self) -> dict[str, object]:
        """What must agree between reruns: all that decides an answer, but the seed."""
        config = self.results.get("config", {})
        found: dict[str, object] = {name: _without_seed(config.get(name)) for name in COMMON_ARGUMENTS}
        found |= {name: self.results.get(name) for name in COMMON_SETTINGS}
        return found | {f"n-shot of {task}": shots for task, shots in self.results.get("n-shot", {}).items()}


def find_sample_files(path: Path) -> list[Path]:
    """Sample files at a path: the file itself, those of a results file, or all below a folder; sorted."""
    if path.is_dir():
        return sorted(file for file in files_below(path, "samples_*.json*") if SAMPLES.fullmatch(file.name))
    if SAMPLES.fullmatch(path.name):
        return [path]
    if match := RESULTS.fullmatch(path.name):
        return sorted(
            file
            for file in path.parent.glob(f"samples_*_{match['date']}.json*")
            if SAMPLES.fullmatch(file.name)
        )
    return []


def result_sets(path: Path) -> list[ResultSet]:
    """The evaluations at a path, oldest first.

    Raises:
        UserError: if there is none.
    """
    grouped: dict[tuple[str, Path], dict[str, Path]] = {}
    for file in find_sample_files(path):
        if match := SAMPLES.fullmatch(file.name):
            grouped.setdefault((match["date"], file.parent), {})[match["task"]] = file
    if not grouped:
        raise UserError(f"{path} contains no sample files; lm-eval writes them with --log_samples.")
    return [ResultSet(folder, date, samples) for (date, folder), samples in sorted(grouped.items())]


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
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
    if not _is_identifier(row["doc_id"]):
        raise UserError(f"{where} has the doc_id {row['doc_id']!r:.50}, which identifies no document.")
    return row


def _is_identifier(value: object) -> bool:
    """Whether it is a number or a text; a bool is neither, though Python counts it among the integers."""
    return type(value) in {int, str}


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
