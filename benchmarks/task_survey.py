"""Which of the tasks that lm-eval ships can be tested, by their configurations alone; nothing is downloaded.

Every task is sorted by the function that a sweep and its dry run use (`orchestrator.sweep.scores.Metric`).
A kind counts as tested only if `LOOK_ALIKES` names a task of that kind which the tests put through a submit.

Run: python benchmarks/task_survey.py [--write docs/tasks.md] [--list KIND]
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
from collections import defaultdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_ALLOW_CODE_EVAL": "1"}

from lm_eval.api.registry import get_aggregation, get_metric_aggregation
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import _import_func_in_yml, load_yaml

from orchestrator.sweep.scores import Metric, deciding, names_kinds

LOOK_ALIKES = {
    "choices": "like_arc",
    "answers scored by lm-eval": "like_gsm8k",
    "answers scored by the task's own code": "like_failing",
    "scores of a function of the task": "like_humaneval",
    "last words (log-likelihood)": "like_lambada",
    "log-likelihoods per word or byte": "like_wikitext",
    "a metric for each length": "like_ruler",
    "classes behind F1 or MCC": "like_cola",
    "sentence scores behind BLEU, chrF or TER": "like_flores",
}
"""The task in tests/standin/lookalikes.py by kind; tests/model/test_lookalikes.py submits them."""
UNINSTALLED = "its code needs a package or a program that is not installed"
CORPUS = "only a score of the corpus"
IMAGES = "images or audio"
PYTHON = "a Python class, which only its data tells about"
BEGIN, END = "<!-- survey -->", "<!-- end of survey -->"


def kind_of(config: dict[str, Any]) -> tuple[str, str]:
    """Whether a task is "tested", "aggregated" or "refused", and its kind or the reason."""
    if "class" in config:
        return "refused", PYTHON
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        return "refused", IMAGES
    try:
        metrics, own_function = _metrics(config)
    except (ImportError, SystemExit):
        return "refused", UNINSTALLED
    if deciding(metrics) is None:
        return "aggregated", CORPUS
    return "tested", _tested(config, metrics, own_function=own_function)


def _tested(config: dict[str, Any], metrics: dict[str, Metric], *, own_function: bool) -> str:
    first = next(metric for metric in metrics.values() if metric.tested)
    if names_kinds(metrics):
        return "a metric for each length"
    if first.number is not None:
        by_name = {"acc": "classes behind F1 or MCC", "brier_score": "classes behind F1 or MCC"}
        unit = "log-likelihoods per word or byte"
        sentences = "sentence scores behind BLEU, chrF or TER"
        return by_name.get(first.tested or "", sentences if first.is_of_corpus else unit)
    if config.get("process_results"):
        return "answers scored by the task's own code"
    if own_function:
        return "scores of a function of the task"
    by_output = {"multiple_choice": "choices", "loglikelihood": "last words (log-likelihood)"}
    return by_output.get(config.get("output_type", ""), "answers scored by lm-eval")


def _metrics(config: dict[str, Any]) -> tuple[dict[str, Metric], bool]:
    """The metrics by name, and whether the first of them is a function of the task.

    Raises:
        ImportError: code of the task needs a package that is not installed.
        SystemExit: or a program.
    """
    own_code = bool(config.get("process_results"))
    if own_code:
        _imported(config["process_results"])
    output_type = config.get("output_type") or "generate_until"
    default = {"multiple_choice": ["acc", "acc_norm"], "generate_until": ["exact_match"]}
    default |= {"loglikelihood": ["perplexity", "acc"]}
    default |= {"loglikelihood_rolling": ["word_perplexity", "byte_perplexity", "bits_per_byte"]}
    listed = config.get("metric_list") or [{"metric": name} for name in default[output_type]]
    metrics = {}
    for entry in listed:
        name, given = str(entry["metric"]).rpartition(".")[2], entry.get("aggregation")
        is_path = isinstance(given, str) and "/" in given
        aggregation = _imported(given) if is_path else _known(name, given)
        metrics[name] = Metric(name, aggregation, output_type=output_type, own_code=own_code)
    return metrics, "/" in str(listed[0]["metric"])


def _known(name: str, aggregation: str | None) -> Any:
    return get_aggregation(aggregation) if aggregation else get_metric_aggregation(name)


@cache
def _imported(path: str) -> Any:
    """A function that a configuration names; one that takes nothing if its file needs the network.

    Raises:
        ImportError: it needs a package that is not installed.
        SystemExit: or a program.
    """
    folder, _, function = path.rpartition("/")
    try:
        return _import_func_in_yml(function, Path(folder))
    except ImportError:
        raise
    except Exception:  # noqa: BLE001 - whatever code of a task raises without a network
        return lambda: None


def _refuse(*_: object) -> None:
    raise OSError("the survey downloads nothing")


def survey() -> dict[tuple[str, str], list[str]]:
    """Names of all tasks by (tested, aggregated or refused; kind or reason)."""
    logging.disable(logging.WARNING)
    socket.socket.connect = _refuse  # type: ignore[method-assign,assignment]
    manager = TaskManager()
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in manager.all_subtasks:
        entry = manager.task_index[name]
        config = {**(load_yaml(entry.yaml_path, resolve_func=False) if entry.yaml_path else {})}
        found[kind_of({**config, **(entry.cfg or {})})].append(name)
    return dict(found)


def table(found: dict[tuple[str, str], list[str]]) -> str:
    """The counts as Markdown."""
    total = sum(map(len, found.values()))
    lines = [f"{total:,} tasks of lm-eval {version('lm_eval')}:", "", "| tasks | what is done | example |"]
    lines.append("|---|---|---|")
    said = {
        "tested": "tested per item: {}",
        "aggregated": "aggregated, not tested: {}",
        "refused": "refused: {}",
    }
    order = sorted(found.items(), key=lambda pair: (list(said).index(pair[0][0]), -len(pair[1])))
    for (group, kind), names in order:
        lines.append(f"| {len(names):,} | {said[group].format(kind)} | {names[0]} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="page to update between its two marks")
    parser.add_argument("--list", help="print the names of the tasks of a kind")
    arguments = parser.parse_args()
    found = survey()
    if untried := {kind for group, kind in found if group == "tested"} - LOOK_ALIKES.keys():
        raise SystemExit(f"no look-alike of {untried} went through a submit")
    if arguments.list:
        print(
            *(name for (_, kind), names in found.items() if kind == arguments.list for name in names),
            sep="\n",
        )
    elif arguments.write:
        before, _, rest = arguments.write.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        arguments.write.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}", "utf-8")
    else:
        print(table(found))


if __name__ == "__main__":
    main()
