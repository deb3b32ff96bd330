"""Averages answers over reruns as they stream by, for one model and task at a time.

A cell per (rerun, item) is all that is kept, so memory grows with the answers of one model to one task and
time with the rows read. A cell is filled once: a score replaces an earlier failure of the same sample, but
of two scores the first stays and the second is only counted: a duplicate is not a second rerun.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.formats.metrics import known_direction
from jobs.formats.notices import Notice, NoticeCode, joined, some
from jobs.formats.samples import InputQuery, Temperature, as_temperature
from jobs.formats.tables import NO_SEED, Answers, Tables, TaskTables
from jobs.scores.score_set import Column, ScoreSet, TaskInfo, TaskTable
from orchestrator.errors import UserError
from stats.arrays import LARGEST_SCORE, Bools, Ints

LAST = 0xFFFFFFFF  # as NO_SEED is kept, after all seeds
MODELS_AT_ONCE = 2  # of a run: one is read while the other is counted


class RerunMeans:
    """Collects the answers of one model to one task and averages the reruns of each item."""

    def __init__(self, items: int, *, keep_runs: bool = False, has_seeds: bool = False) -> None:
        self._items, self._keep_runs, self._has_seeds = items, keep_runs, has_seeds
        self._slots: dict[tuple[int, int, int], int] = {}  # by bits of the temperature, part and rerun
        self._scores = np.full((0, items), np.nan)
        self._failed = np.zeros((0, items), dtype=np.bool_)  # at least once
        self._marked: dict[NoticeCode, Bools] = {}
        self._measured: dict[str, NDArray[np.float32]] = {}
        self._rows = np.zeros(0, dtype=np.int64)
        self._prompts = np.full(items, -1, dtype=np.int64)
        self.mixed_prompts = 0
        self.unscored = np.zeros(items, dtype=np.bool_)

    def add(self, positions: Ints, batch: Answers) -> None:
        """Count a batch in, with the place of each answer in the list of items."""
        slots = self._slots_of(batch)
        cells = slots * self._items + positions
        for code, marked in batch.marked.items():
            if marked.any():
                known = self._marked.setdefault(code, np.zeros_like(self._failed))
                known.ravel()[cells[marked]] = True
        if batch.unscored is not None:
            self.unscored[positions[batch.unscored]] = True
        scores, valid, measured = batch.score, ~np.isnan(batch.score), batch.measured
        if not valid.all():
            self._failed.ravel()[cells[~valid]] = True
            slots, cells, scores = slots[valid], cells[valid], scores[valid]
            measured = {name: values[valid] for name, values in measured.items()}
        self._rows += np.bincount(slots, minlength=len(self._rows))
        fresh = np.isnan(self._scores.ravel()[cells])
        if not fresh.all():
            cells, scores = cells[fresh], scores[fresh]
            measured = {name: values[fresh] for name, values in measured.items()}
        # Written backwards, so that of two copies in one batch the first stays.
        self._scores.ravel()[cells[::-1]] = scores[::-1]
        for name, values in measured.items():
            if name not in self._measured and not np.isnan(values).all():
                self._measured[name] = np.full(self._scores.shape, np.nan, dtype=np.float32)
            if name in self._measured:
                self._measured[name].ravel()[cells[::-1]] = values[::-1]
        known_prompts = self._prompts[positions]
        if not np.array_equal(known_prompts, batch.texts):
            differs = (known_prompts != -1) & (batch.texts != -1) & (known_prompts != batch.texts)
            self.mixed_prompts += int(differs.sum())
            self._prompts[positions] = np.where(known_prompts == -1, batch.texts, known_prompts)

    def columns(
        self, planned: dict[Temperature, tuple[int, int]], *, are_equal: bool = False
    ) -> dict[Temperature, Column]:
        """The averaged scores, by temperature; an empty column where a plan is known and nothing is there.

        Planned are answers in all and reruns of every item; `are_equal` if all answers are one and the same.
        """
        by_temperature: dict[Temperature, list[int]] = {t: [] for t in planned}
        for (bits, _, _), slot in sorted(self._slots.items()):  # sums that no order of files changes
            temperature = np.array([bits], dtype=np.uint32).view(np.float32)[0]
            by_temperature.setdefault(as_temperature(temperature), []).append(slot)
        return {
            t: self._column(slots, *planned.get(t, (0, 0)), are_equal=are_equal)
            for t, slots in by_temperature.items()
        }

    def _column(self, slots: list[int], samples: int, reruns: int, *, are_equal: bool) -> Column:
        scores = self._scores[slots]
        valid = ~np.isnan(scores)
        answers = valid.sum(axis=0)
        total = np.where(valid, scores, 0.0).sum(axis=0)
        mean = np.divide(total, answers, out=np.full(self._items, np.nan), where=answers > 0)
        failed = (self._failed[slots] & ~valid).sum(axis=0)
        scored = int(answers.sum())
        present = scored + int(failed.sum())
        right_or_wrong = bool((~valid | (scores == 0.0) | (scores == 1.0)).all())
        marked = {
            code: (known[slots] & (valid != (code is NoticeCode.WITHHELD_ANSWERS))).sum(axis=0)
            for code, known in self._marked.items()
        }
        if are_equal:
            marked[NoticeCode.EQUAL_ANSWERS] = answers
        measured = {name: mean_over_reruns(values[slots]) for name, values in self._measured.items()}
        seeds = [NO_SEED if rerun == LAST or not self._has_seeds else rerun for *_, rerun in self._slots]
        return Column(
            scores=mean,
            answers=answers,
            prompts=self._prompts,
            reruns=len(slots),
            owed=max(0, samples - present),
            errors=present - scored,
            repeated=int(self._rows[slots].sum()) - scored,
            planned=reruns,
            marked=marked,
            withheld=int(np.sum(marked.get(NoticeCode.WITHHELD_ANSWERS, 0))),
            runs=None if right_or_wrong and not self._keep_runs else scores.T,
            seeds=tuple(seeds[slot] for slot in slots),
            failed=failed,
            measured=measured,
        )

    def _slots_of(self, batch: Answers) -> Ints:
        bits = batch.temperature.view(np.uint32)
        if (bits == bits[0]).all():
            coded = pa.array(batch.rerun).dictionary_encode()
            keys = [(int(bits[0]), batch.part, rerun & LAST) for rerun in coded.dictionary.to_pylist()]
        else:  # Arrow's hash encoding is linear in the rows where numpy's unique sorts them
            coded = pa.array(bits.astype(np.int64) << 32 | (batch.rerun & LAST)).dictionary_encode()
            codes = coded.dictionary.to_pylist()
            keys = [(code >> 32 & LAST, batch.part, code & LAST) for code in codes]
        slots = [self._slots.setdefault(key, len(self._slots)) for key in keys]
        more = len(self._slots) - len(self._scores)
        if more > 0:
            self._scores = np.vstack([self._scores, np.full((more, self._items), np.nan)])
            unmarked = np.zeros((more, self._items), dtype=np.bool_)
            self._failed = np.vstack([self._failed, unmarked])
            self._marked = {code: np.vstack([known, unmarked]) for code, known in self._marked.items()}
            unknown = np.full(unmarked.shape, np.nan, dtype=np.float32)
            self._measured = {name: np.vstack([known, unknown]) for name, known in self._measured.items()}
            self._rows = np.append(self._rows, np.zeros(more, dtype=np.int64))
        return np.array(slots, dtype=np.int64)[coded.indices.to_numpy()]


def mean_over_reruns(values: NDArray[np.float32]) -> NDArray[np.floating]:
    """Means of the known and finite values, shape (reruns, items), of every item; NaN without any.

    Tokens of one rerun need half of a float's bytes, and a constant none.
    """
    known = np.isfinite(values)
    total, count = np.where(known, values, 0.0).sum(axis=0, dtype=np.float64), known.sum(axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    if mean.size and (mean == mean[0]).all():
        return np.broadcast_to(mean[0], mean.shape)
    single = mean.astype(np.float32)
    return single if np.array_equal(single, mean, equal_nan=True) else mean


def score_set(tables: Tables, query: InputQuery) -> ScoreSet:
    """Average the reruns and lay the models of each task side by side, by the metrics and clusters asked for.

    Raises UserError if an answer cannot be tested, items contradict each other, or nothing can be tested.
    """
    notices, refused = list(tables.notices), list[Notice]()
    scored: list[TaskTable] = []
    for task in tables.tasks:
        said: list[Notice] = []
        info = task_info(task, {**query.metrics, **tables.metrics}, said)
        if info is None:
            refused += said
        else:
            scored.append(_scored(task, info, query, said))
            notices += said
    if tables.runs and not any(column.reruns for table in scored for column in table.columns.values()):
        said_of_all = joined(notices) or "run `lldeg submit` on its configuration first."
        raise UserError(
            f"{some([run.location for run in tables.runs])} has no samples to test: {said_of_all}"
        )
    if not scored:
        raise UserError(joined(refused))
    notices += tables.last_notices
    columns = [(model, column) for table in scored for (model, _), column in table.columns.items()]
    uneven = dict.fromkeys(m for m, column in columns if np.unique(column.answers[column.answered]).size > 1)
    if uneven and not tables.runs:  # the mean of each item still counts once
        text = f"Prompts have unequal numbers of reruns in {some(list(uneven))}"
        notices.append(Notice(NoticeCode.UNEQUAL_RERUNS, f"{text}; each prompt counts once, by its mean."))
    notices += refused
    if torn := sorted(tables.torn):
        text = f"{len(torn)} unreadable sample files were ignored, as if not yet written: {some(torn)}."
        notices.append(Notice(NoticeCode.UNREADABLE_FILES, text))
    inputs = {name: getattr(tables, name) for name in ("baselines", "alpha", "margin", "runs", "paired_by")}
    return ScoreSet(tables.models, tuple(scored), warnings=tuple(notices), **inputs)


def task_info(task: TaskTables, metrics: Mapping[str, str], notices: list[Notice]) -> TaskInfo | None:
    """The task with the metric under test; None, with a notice of why, if none is a number per sample.

    Raises UserError if the metric asked for is not there, or the data contradict each other.
    """
    metric = task.metric(metrics, notices)
    if metric is None:
        return None
    stated = task.stated(metric)
    higher = known_direction(metric, task.name, stated.higher_is_better)
    return TaskInfo(task.name, metric, higher is not False, task.group, stated)


def _scored(task: TaskTables, info: TaskInfo, query: InputQuery, notices: list[Notice]) -> TaskTable:
    """The scores of one task; notices get what is to be said about it."""
    items = task.items(query.cluster_column)

    def read(model: str) -> RerunMeans:
        means = RerunMeans(len(items.ids), keep_runs=query.runs, has_seeds=task.has_seeds)
        for answers in task.answers(model, info.metric, "prompt_hash"):
            untestable = np.flatnonzero(np.abs(answers.score) > LARGEST_SCORE)
            if untestable.size:
                (item,) = task.named(answers.items[untestable[:1]]).tolist()
                raise UserError(
                    f"{info.metric} of item {item} of task {task.name} in {answers.label} is not a finite "
                    f"number up to {LARGEST_SCORE:g}."
                )
            means.add(items.positions(answers.items, answers.label), answers)
        return means

    if task.is_planned:
        with ThreadPoolExecutor(MODELS_AT_ONCE) as pool:
            found = dict(zip(task.models, pool.map(read, task.models), strict=True))
    else:  # nothing to wait for, and a thread has memory of its own
        found = {model: read(model) for model in task.models}
    columns: dict[tuple[str, Temperature], Column] = {}
    for model, means in found.items():
        averaged = means.columns(task.planned(model, len(items.ids)), are_equal=task.answers_equally(model))
        columns |= {(model, t): column for t, column in averaged.items()}
        notices += task.warnings.get(model, ())
        if means.mixed_prompts:
            said = f"{model}: reruns of the same item of {task.name} had different prompts."
            notices.append(Notice(NoticeCode.MIXED_RERUN_PROMPTS, said))
    table = TaskTable(
        info,
        items.ids,
        items.clusters,
        columns,
        planned=task.is_planned,
        unlisted={model: items for model, items in task.unlisted.items() if items},
        documents=items.documents,
        cluster_names=items.cluster_names,
    )
    scored = np.logical_or.reduce([column.answered for column in columns.values()])
    # Items without the metric are of another kind, such as another length of RULER's texts.
    others = np.logical_or.reduce([means.unscored for means in found.values()]) & ~scored
    if not others.any() or not scored.any():
        return table
    said = f"{info.name}: {info.metric} is no score of {others.sum()} of its {len(others)} items"
    notices.append(Notice(NoticeCode.OTHER_ITEMS, f"{said}, which are left out.", info.name))
    return table.at(np.flatnonzero(~others))
