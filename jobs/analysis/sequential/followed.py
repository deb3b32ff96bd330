"""What the samples of a run that stops early give: its plan, and every comparison as far as it has come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.analysis.sequential.replay import monitor_of
from jobs.analysis.sequential.run_plan import Place, RunPlan
from jobs.formats.run_files import RunFiles
from orchestrator.errors import UserError
from stats.arrays import EvidenceError, Ints
from stats.sequential.monitor import Course
from stats.sequential.plan import SequentialPlan


@dataclass(frozen=True, eq=False)
class Followed:
    """A run that stops early.

    Attributes:
        run: its plan.
        courses: by variant and temperature.
        digests: of the scores that the looks of each have used.
        finished: whether it asked for the samples that its decisions had left out, too.
    """

    run: RunPlan
    courses: Mapping[Place, Course]
    digests: Mapping[Place, Sequence[str]]
    finished: bool

    def plan_of(self, place: Place) -> SequentialPlan:
        """The plan of one comparison."""
        name = next(name for name, known in self.run.places.items() if known == place)
        return self.run.plan.of(name)

    def items_of(self, place: Place) -> dict[str, Ints]:
        """The items that count at the last look taken of a comparison, by task; sorted numbers."""
        plan, tasks = self.plan_of(place), self.run.tasks_at(place[1])
        counted = [part.items for part in plan.layout[: len(self.courses[place].looks)]]
        places = np.concatenate([np.zeros(0, dtype=np.int64), *counted])
        found, start = {}, 0
        for task in tasks:
            here = places[(places >= start) & (places < start + task.items.size)] - start
            found[task.info.name] = np.sort(task.items[task.order[here]])
            start += task.items.size
        return found


def follow(run: RunFiles) -> Followed:
    """Take the looks that the samples of a run allow.

    Raises:
        UserError: the run does not stop early, or something in it is damaged.
    """
    monitor = monitor_of(run)
    try:
        monitor.advance()
    except EvidenceError as error:
        raise UserError(f"The looks of {run.location} cannot be taken: {error}") from None
    entry = run.manifest.get("stopping")
    return Followed(monitor.plan, monitor.courses(), monitor.digests, bool(entry and entry.get("finished")))
