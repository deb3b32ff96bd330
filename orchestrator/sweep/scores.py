"""What the scores of a task are: which metrics have a number for every item, and which only for a corpus.

A paired test needs a number per item. What lm-eval aggregates otherwise than by a mean (perplexity, BLEU,
F1) has one in the item's own part: its negative log-likelihood per word, the score of its sentence, whether
its class is right. `lldeg submit`, its dry run and the survey in docs/tasks.md ask this module alone.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial
from math import isfinite, isnan, log, nan
from typing import Any

import sacrebleu
from lm_eval.api import metrics as lm_eval_metrics

from orchestrator.rundir.schema import MetricEntry

Aggregation = Callable[[Sequence[Any]], Any]

OWN_SCORE = "own_score"
"""The score of an item whose task names a metric for each kind of item, such as RULER's lengths: the mean of
those metrics that are its own."""
MARKS = (-1.0, nan)
"""What tasks give an item under a metric that is not its own; a mark only where the aggregation drops it."""
UNITS = {
    "word_perplexity": "nats per word",
    "byte_perplexity": "nats per byte",
    "bits_per_byte": "bits per byte",
}
"""Of the number per item, by metric: a perplexity's is the negative log-likelihood behind it."""
_MEANS = (lm_eval_metrics.mean, lm_eval_metrics.nanmean)
_CHOICES = ("multiple_choice", "loglikelihood")
_CLASSES = ("f1", "mcc")


def _per_unit(value: Sequence[float], unit: float = 1.0) -> float:
    return -value[0] / (value[1] * unit)


def _is_right(value: Sequence[Any]) -> float:
    gold, said = value
    return float(said in gold if isinstance(gold, list) else said == gold)


def _sentence(metric: Any, value: Sequence[Any]) -> float:
    """A score of one text; its references may be one text or several."""
    references, text = value
    references = [references] if isinstance(references, str) else list(references)
    return float(metric.sentence_score(text if isinstance(text, str) else text[0], references).score)


_RIGHT, _OF_100 = ("acc", _is_right, None), "0.0..100.0"
_BLEU = sacrebleu.BLEU(effective_order=True)
PARTS: dict[Any, tuple[str | None, Callable[[Any], float], str | None]] = {
    lm_eval_metrics.weighted_perplexity: (None, _per_unit, "none"),
    lm_eval_metrics.bits_per_byte: (None, partial(_per_unit, unit=log(2)), "none"),
    lm_eval_metrics.brier_score: (None, lambda value: float(lm_eval_metrics.brier_score([value])), None),
    lm_eval_metrics.bleu: ("sentence_bleu", partial(_sentence, _BLEU), _OF_100),
    lm_eval_metrics.chrf: ("sentence_chrf", partial(_sentence, sacrebleu.CHRF()), _OF_100),
    lm_eval_metrics.chrfpp: ("sentence_chrf++", partial(_sentence, sacrebleu.CHRF(word_order=2)), _OF_100),
    lm_eval_metrics.ter: ("sentence_ter", partial(_sentence, sacrebleu.TER()), "none"),
    lm_eval_metrics.f1_score: _RIGHT,
    lm_eval_metrics.matthews_corrcoef: _RIGHT,
}
"""What an item contributes to a score of the corpus, by the function that aggregates the values: name of the
number per item (None for the metric's own), the number from the value, and its range, "LOW..HIGH" or "none"
(None where the metric's name says so)."""


class Metric:
    """A metric as a task declares it.

    What lm-eval gives for some output types does not depend on the task, unless that scores with code of its
    own (`process_results`).

    Attributes:
        tested: the number per item that stands for it; None if only a corpus has a score.
        number: how the number follows from a value that is none; None if it does not.
        marks: values that say that the metric is not the item's own.
        aggregation: of the items to a score of the corpus; None where that is the mean of the numbers.
        entry: what the manifest says of the number per item.
        is_of_corpus: whether the score itself exists only over a corpus.
    """

    def __init__(
        self,
        name: str,
        aggregation: Aggregation,
        *,
        output_type: str | None,
        own_code: bool,
        higher_is_better: bool | None = None,
    ) -> None:
        part = PARTS.get(aggregation)
        if not own_code and output_type in _CHOICES:
            part = _RIGHT if name in _CLASSES else part
            numeric = name not in (*_CLASSES, "brier_score", "likelihood")
        else:
            numeric = part is None and _of_numbers(aggregation, ()) is not None
        self.number: Callable[[Any], float] | None
        own_name, self.number, range_ = part or (None, None, None)
        is_bypassed = aggregation is lm_eval_metrics.bypass_agg
        self.tested = None if is_bypassed or not (numeric or part) else name if numeric else own_name or name
        self.is_of_corpus = self.tested != name
        self.marks = tuple(
            mark
            for mark in MARKS
            if own_code and numeric and _of_numbers(aggregation, (mark,) * 3) == _of_numbers(aggregation, ())
        )
        self.aggregation = None if is_bypassed or aggregation in _MEANS else aggregation
        self.entry: MetricEntry = {} if higher_is_better is None else {"higher_is_better": higher_is_better}
        if range_ is not None:
            self.entry["range"] = range_
        if name in UNITS:
            self.entry["unit"] = UNITS[name]

    def is_marked(self, number: float) -> bool:
        """Whether a value says that the metric is not the item's own."""
        return any(number == mark or (isnan(number) and isnan(mark)) for mark in self.marks)


@cache
def _of_numbers(aggregation: Aggregation, more: tuple[float, ...]) -> float | None:
    """What an aggregation makes of plain numbers; None if it does not take them."""
    return aggregated(aggregation, (0.25, 0.75, 0.75, *more))


def as_number(value: object) -> float | None:
    """A value as a number; None for what is none (a corpus metric's pairs, texts, lists)."""
    if isinstance(value, str) and value in {"True", "False"}:
        return float(value == "True")
    try:
        return float(value)  # type: ignore[arg-type]  # bool, int, float and numpy scalars; others say so
    except (TypeError, ValueError, OverflowError):
        return None


class MissingScoreError(Exception):
    """A task gave an answer no number under the metric that decides."""


def values_text(values: Mapping[str, Any]) -> str | None:
    """Values that are no numbers as JSON, arrays as lists; None without any."""

    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else str(value)

    return json.dumps(values, default=plain, ensure_ascii=False) if values else None


def parsed_values(text: str | None) -> dict[str, Any]:
    """The values from JSON; none from what a scoring process has forged."""
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


class TaskMetrics:
    """What a task (lm-eval's object) measures, and its scores; a sweep may name the metric that decides."""

    def __init__(self, task: Any, metric: str | None) -> None:
        self._task = task
        self._asked = metric
        self._several = _noting(task)

    @cached_property
    def filters(self) -> list[str]:
        """Names of the task's filters; every one gives a filtered answer and its own scores."""
        return [ensemble.name for ensemble in getattr(self._task, "_filters", [])] or ["none"]

    @cached_property
    def declared(self) -> dict[str, Metric]:
        """The metrics that the task declares, by lm-eval's name."""
        directions = self._task.higher_is_better()
        return {
            name: Metric(
                name,
                aggregation,
                output_type=self._task.OUTPUT_TYPE,
                own_code=not lm_eval_scores(self._task),
                higher_is_better=None if directions.get(name) is None else bool(directions[name]),
            )
            for name, aggregation in self._task.aggregation().items()
        }

    @property
    def metrics(self) -> dict[str, MetricEntry]:
        """Every "metric,filter" with a number per item, as far as the task declares them."""
        entries = {metric.tested: metric.entry for metric in self.declared.values() if metric.tested}
        if names_kinds(self.declared):
            entries = {OWN_SCORE: next(iter(entries.values())), **entries}
        return {f"{name},{of}": entry for name, entry in entries.items() for of in self.filters}

    @cached_property
    def deciding_metric(self) -> str | None:
        """The "metric,filter" that is tested; None if no item has a number."""
        first = deciding(self.declared)
        return self._asked or (first and f"{first},{self.filters[0]}")

    @property
    def corpus_note(self) -> str | None:
        """Which metrics exist only over a corpus, and what is tested instead; None if there are none."""
        names = [name for name, metric in self.declared.items() if metric.is_of_corpus]
        tested = self.deciding_metric
        instead = f"{tested}, a number per item, is tested" if tested else "none of it can be tested"
        return f"lm-eval computes {', '.join(names)} over a whole corpus; {instead}" if names else None

    def entry(self, metric: str) -> MetricEntry:
        """What the manifest says of a "metric,filter", which may be one that only an answer has told."""
        directions = {declared.entry.get("higher_is_better") for declared in self.declared.values()}
        common = directions.pop() if len(directions) == 1 else None
        undeclared: MetricEntry = {} if common is None else {"higher_is_better": common}
        return self.metrics.get(metric, undeclared)

    def why_untestable(self, metric: str) -> str | None:
        """Why a "metric,filter" cannot be tested; None if it can, or if only an answer will tell."""
        name, _, of = metric.partition(",")
        listed = self._task.get_config("metric_list") or ()
        has_code = not lm_eval_scores(self._task) or any(callable(entry.get("metric")) for entry in listed)
        of_corpus = name in self.declared and self.declared[name].is_of_corpus
        if metric in self.metrics or (of in self.filters and has_code and not of_corpus):
            return None  # the code of the task's author may give names that are not declared
        return f"no metric '{metric}' with a number per item; it has {', '.join(self.metrics) or 'none'}"

    def of_item(
        self, doc: Any, responses: Mapping[str, Sequence[Any]]
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Score one item by its filtered responses to each request, by filter, as lm-eval's evaluator does.

        Returns:
            by "metric,filter": numbers, which can be tested, and values that are none, from which lm-eval
            aggregates a score of the corpus.

        Raises:
            MissingScoreError: the score that decides is not among them.
            Exception: of the task's code.
        """
        numbers: dict[str, float] = {}
        values: dict[str, Any] = {}
        not_own: set[str] = set()  # metrics that are marked as not the item's own
        for of, given in responses.items():
            results = dict(self._task.process_results(doc, list(given)))
            firsts = self._several.items()  # of several scores, the first has the metric's name, too
            results |= {k: results[v] for k, v in firsts if k not in results and v in results}
            for name, value in results.items():
                key, metric, number = f"{name},{of}", self.declared.get(name), as_number(value)
                if number is None:
                    values[key] = value
                    if metric is not None and metric.number is not None:
                        numbers.setdefault(f"{metric.tested},{of}", metric.number(value))
                elif metric is not None and metric.is_marked(number):
                    not_own.add(key)
                elif not isnan(number):
                    numbers[key] = number
            own = [number for key, number in numbers.items() if key.rpartition(",")[2] == of]
            if own and names_kinds(self.declared):
                numbers[f"{OWN_SCORE},{of}"] = sum(own) / len(own)
        wanted, is_of_other_kind = self.deciding_metric, bool(numbers) and names_kinds(self.declared)
        if wanted is None or wanted in numbers.keys() | not_own or is_of_other_kind:
            return numbers, values
        found = ", ".join([*numbers, *values]) or "nothing"
        instead = "; name one of these as the task's `metric`" if numbers else ""
        raise MissingScoreError(f"the task gave no number for {wanted}; it gave {found}{instead}")

    def aggregates(self, values: Mapping[str, Sequence[Any]]) -> dict[str, float]:
        """What lm-eval makes of what the task gave for all items, by "metric,filter"; no means."""
        found = {
            f"{name},{of}": aggregated(metric.aggregation, given)
            for name, metric in self.declared.items()
            for of in self.filters
            if metric.aggregation is not None and (given := values.get(f"{name},{of}"))
        }
        return {name: number for name, number in found.items() if number is not None}


def lm_eval_scores(task: Any) -> bool:
    """Whether lm-eval's own `process_results` scores, and no code of the task's author."""
    return hasattr(task, "_metric_fn_list") and task.get_config("process_results") is None


def _noting(task: Any) -> dict[str, str]:
    """The first name that each metric function of a task gives in a mapping, noted as they come."""
    firsts: dict[str, str] = {}

    def note(metric: str, function: Callable[..., Any], *values: Any, **named: Any) -> Any:
        result = function(*values, **named)
        if isinstance(result, dict) and result:
            firsts[metric] = next(iter(result))
        return result

    functions = getattr(task, "_metric_fn_list", {})
    functions |= {name: partial(note, name, function) for name, function in functions.items() if function}
    return firsts


def aggregated(aggregation: Aggregation, values: Sequence[Any]) -> float | None:
    """The score of a corpus; None if the aggregation does not give a number."""
    try:
        number = as_number(aggregation(list(values)))
    except (Exception, SystemExit):  # noqa: BLE001 - code of a task's author
        return None
    return None if number is None or not isfinite(number) else number


def names_kinds(metrics: Mapping[str, Metric]) -> bool:
    """Whether every metric of a task is for one kind of item, as RULER has one for each length."""
    return bool(metrics) and all(-1.0 in metric.marks for metric in metrics.values())


def deciding(metrics: Mapping[str, Metric]) -> str | None:
    """The score that decides unless the sweep names one: the first that every item has; None without any."""
    if names_kinds(metrics):
        return OWN_SCORE
    return next((metric.tested for metric in metrics.values() if metric.tested is not None), None)
