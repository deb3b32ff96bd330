"""Averages answers over reruns as they stream by, for one model and task at a time.

A cell per (rerun, item) is all that is kept, so memory grows with the answers of one model to one task and
time with the rows read. A cell is filled once: a score replaces an earlier failure of the same sample, but
of two scores the first stays and the second is only counted: a duplicate is not a second rerun.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.formats.notices import NoticeCode
from jobs.formats.samples import Temperature, as_temperature
from jobs.scores.score_set import Column
from stats.arrays import Floats, Ints

NO_SEED = -1


@dataclass(frozen=True)
class Answers:
    """A batch of answers of one model to one task; all arrays have shape (answers,).

    Attributes:
        positions: index of the item in the task's list of items.
        temperature: float32 sampling temperature, NaN where unknown.
        rerun: seed or ordinal that tells the reruns of an item apart; NO_SEED where nothing is sampled.
        score: NaN where the request failed.
        prompts: a number per distinct prompt; -1 where unknown.
        marked: for a notice, of which answers it holds.
        unscored: which of them are no failures and have no score all the same; None for none.
    """

    positions: Ints
    temperature: NDArray[np.float32]
    rerun: Ints
    score: Floats
    prompts: Ints
    marked: Mapping[NoticeCode, NDArray[np.bool_]] = field(default_factory=dict)
    unscored: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Planned:
    """What a model was to answer at one temperature.

    Attributes:
        samples: answers in all.
        reruns: of every item.
    """

    samples: int
    reruns: int


class RerunMeans:
    """Collects the answers of one model to one task and averages the reruns of each item."""

    def __init__(self, items: int) -> None:
        self._items = items
        self._slots: dict[int, int] = {}
        self._scores = np.full((0, items), np.nan)
        self._failed = np.zeros((0, items), dtype=np.bool_)  # at least once
        self._marked: dict[NoticeCode, NDArray[np.bool_]] = {}
        self._rows = np.zeros(0, dtype=np.int64)
        self._prompts = np.full(items, -1, dtype=np.int64)
        self.mixed_prompts = 0
        self.unscored = np.zeros(items, dtype=np.bool_)

    def add(self, batch: Answers) -> None:
        """Count a batch in; an empty one changes nothing."""
        if not batch.positions.size:
            return
        slots = self._slots_of(batch)
        cells = slots * self._items + batch.positions
        for code, marked in batch.marked.items():
            if marked.any():
                known = self._marked.setdefault(code, np.zeros_like(self._failed))
                known.ravel()[cells[marked]] = True
        if batch.unscored is not None:
            self.unscored[batch.positions[batch.unscored]] = True
        scores, valid = batch.score, ~np.isnan(batch.score)
        if not valid.all():
            self._failed.ravel()[cells[~valid]] = True
            slots, cells, scores = slots[valid], cells[valid], scores[valid]
        self._rows += np.bincount(slots, minlength=len(self._rows))
        fresh = np.isnan(self._scores.ravel()[cells])
        if not fresh.all():
            cells, scores = cells[fresh], scores[fresh]
        # Written backwards, so that of two copies in one batch the first stays.
        self._scores.ravel()[cells[::-1]] = scores[::-1]
        self._note_prompts(batch)

    def columns(self, planned: Mapping[Temperature, Planned] | None = None) -> dict[Temperature, Column]:
        """The averaged scores, by temperature; an empty column where a plan is known and nothing is there.

        Args:
            planned: what was to be there, by temperature; None where no plan is known.
        """
        planned = planned or {}
        by_temperature: dict[Temperature, list[int]] = {t: [] for t in planned}
        for key, slot in sorted(self._slots.items()):  # sums that no order of files changes
            by_temperature.setdefault(_temperature_of(key), []).append(slot)
        return {t: self._column(slots, planned.get(t)) for t, slots in by_temperature.items()}

    def _column(self, slots: list[int], planned: Planned | None) -> Column:
        scores = self._scores[slots]
        valid = ~np.isnan(scores)
        answers = valid.sum(axis=0)
        total = np.where(valid, scores, 0.0).sum(axis=0)
        mean = np.divide(total, answers, out=np.full(self._items, np.nan), where=answers > 0)
        failed = (self._failed[slots] & ~valid).sum(axis=0)
        scored = int(answers.sum())
        present = scored + int(failed.sum())
        right_or_wrong = bool((~valid | (scores == 0.0) | (scores == 1.0)).all())
        return Column(
            scores=mean,
            answers=answers,
            prompts=self._prompts,
            reruns=len(slots),
            owed=max(0, planned.samples - present) if planned is not None else 0,
            errors=present - scored,
            repeated=int(self._rows[slots].sum()) - scored,
            planned=planned.reruns if planned is not None else 0,
            marked={code: (valid & known[slots]).sum(axis=0) for code, known in self._marked.items()},
            runs=None if right_or_wrong else scores.T,
            failed=failed,
        )

    def _slots_of(self, batch: Answers) -> Ints:
        bits = batch.temperature.view(np.uint32)
        if (bits == bits[0]).all():
            base, coded = int(bits[0]) << 32, pa.array(batch.rerun).dictionary_encode()
            keys = [base | (rerun & 0xFFFFFFFF) for rerun in coded.dictionary.to_pylist()]
        else:  # Arrow's hash encoding is linear in the rows where numpy's unique sorts them
            coded = pa.array(bits.astype(np.int64) << 32 | (batch.rerun & 0xFFFFFFFF)).dictionary_encode()
            keys = coded.dictionary.to_pylist()
        slots = [self._slots.setdefault(key, len(self._slots)) for key in keys]
        self._grow(len(self._slots))
        found: Ints = np.array(slots, dtype=np.int64)[coded.indices.to_numpy()]
        return found

    def _grow(self, slots: int) -> None:
        more = slots - len(self._scores)
        if more > 0:
            self._scores = np.vstack([self._scores, np.full((more, self._items), np.nan)])
            unmarked = np.zeros((more, self._items), dtype=np.bool_)
            self._failed = np.vstack([self._failed, unmarked])
            self._marked = {code: np.vstack([known, unmarked]) for code, known in self._marked.items()}
            self._rows = np.append(self._rows, np.zeros(more, dtype=np.int64))

    def _note_prompts(self, batch: Answers) -> None:
        known = self._prompts[batch.positions]
        if np.array_equal(known, batch.prompts):
            return
        differs = (known != -1) & (batch.prompts != -1) & (known != batch.prompts)
        self.mixed_prompts += int(differs.sum())
        self._prompts[batch.positions] = np.where(known == -1, batch.prompts, known)


def _temperature_of(key: int) -> Temperature:
    return as_temperature(np.array([key >> 32], dtype=np.uint32).view(np.float32)[0])
