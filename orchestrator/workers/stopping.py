"""When to stop asking: the policy that decides, while a sweep runs, which samples are no longer needed.

The dispatcher knows nothing of statistics. It reports the scores of every block that is written and asks what
comes next for a variant at a temperature; the policy answers from all it has seen. What is queued when the
answer is `STOP` is dropped. What is in flight is kept as long as its replica has other work, else withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.rundir.progress import Standing

if TYPE_CHECKING:  # slow to import, for commands that only look
    from orchestrator.sweep.blocks import Cell
    from orchestrator.workers.answer_block import Sample

NO_SEED = -1
SCORES = np.dtype([("item", np.int32), ("temperature", float), ("seed", np.int32), ("score", float)])
ReportedScores = NDArray[np.void]
"""Scores of one variant's samples of one task under its deciding metric: `SCORES`, shape (samples,). The seed
is `NO_SEED` where nothing is sampled, the score NaN for a sample with an error or without this metric."""


class Next(Enum):
    """What comes next for a variant at a temperature."""

    CONTINUE = "hand out its blocks"
    WAIT = "hand out none of its blocks for now, unless nothing else is in flight"
    STOP = "decided: drop its queued samples"


def reported_scores(samples: Sequence[Sample], metric: str | None) -> ReportedScores | None:
    """The scores of samples of one variant and task under "metric,filter"; None if none are wanted."""
    if metric is None:
        return None
    rows = [
        (
            sample.item.item,
            sample.rerun.temperature,
            NO_SEED if sample.rerun.seed is None else sample.rerun.seed,
            sample.scored.scores.get(metric, np.nan) if sample.scored else np.nan,
        )
        for sample in samples
    ]
    return np.array(rows, SCORES)


class StoppingPolicy:
    """Decides which variants are answered further; called by the dispatcher, in one thread.

    This one never stops any: every planned sample is needed.
    """

    @property
    def deciding_metrics(self) -> Mapping[str, str]:
        """The "metric,filter" whose scores it wants to see, by task; empty if it wants none."""
        return {}

    def take_scores(self, variant: str, task: str, scores: ReportedScores) -> None:
        """Take note of samples that have been written, in any order of blocks.

        Those of an earlier submit are not reported; a policy that needs them reads the run directory.
        """

    def ended(self, variant: str) -> None:
        """Take note that no more answers of a variant will come in this submit."""

    def next_for(self, variant: str, temperature: float) -> Next:
        """What comes next; asked often, so the answer should be at hand. `STOP` is final."""
        return Next.CONTINUE

    def last_looks(self) -> Mapping[str, tuple[Standing, ...]]:
        """The last look of every comparison that had one, by variant; asked after each report."""
        return {}


def still_needed(cells: Iterable[Cell], stopping: StoppingPolicy) -> int:
    """How many of the samples that cells owe are not decided yet."""
    return sum(
        count
        for cell in cells
        for temperature, count in cell.owed_by_temperature.items()
        if stopping.next_for(cell.variant, temperature) is not Next.STOP
    )
