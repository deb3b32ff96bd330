"""Score tables as tasks of a run: one item per prompt_id, the labels of a prompt as its document."""

from collections.abc import Sequence

from jobs.inputs.score_csv.read import ScoreRows
from jobs.inputs.score_set import as_temperature
from jobs.inputs.write_run import ImportedTask, as_text
from orchestrator.rundir.identity import digest

METRIC = "score,none"


def import_scores(rows: Sequence[ScoreRows]) -> list[ImportedTask]:
    """Turn the rows of score tables into tasks.

    Args:
        rows: by model and task.
    """
    return [
        _task(name, [part for part in rows if part.task == name])
        for name in dict.fromkeys(r.task for r in rows)
    ]


def _task(name: str, parts: Sequence[ScoreRows]) -> ImportedTask:
    task = ImportedTask(name, {METRIC: True})
    numbers = {item: i for i, item in enumerate(sorted({item for part in parts for item in part.items}))}
    documents = _documents(parts)
    for item, number in numbers.items():
        document = {"prompt_id": item, **documents[item]}
        task.items[number] = {"doc_hash": digest(item), "prompt_hash": None, "doc": as_text(document)}
    for part in parts:
        columns = (part.items, part.temperature.tolist(), part.rerun.tolist(), part.score.tolist())
        task.samples[part.model] = [
            {
                "item": numbers[item],
                "temperature": as_temperature(temperature),
                "seed": rerun,
                "prompt_hash": None,
                "scores": {METRIC: score},
            }
            for item, temperature, rerun, score in zip(*columns, strict=True)
        ]
    return task


def _documents(parts: Sequence[ScoreRows]) -> dict[str, dict[str, str]]:
    """The labels of each prompt that are the same in all of its rows."""
    found: dict[str, dict[str, str | None]] = {}
    for part in parts:
        for name, values in part.labels.items():
            for item, value in zip(part.items, values, strict=True):
                held = found.setdefault(item, {})
                held[name] = value if held.get(name, value) == value else None
    items = {item for part in parts for item in part.items}
    return {item: {k: v for k, v in found.get(item, {}).items() if v is not None} for item in items}
