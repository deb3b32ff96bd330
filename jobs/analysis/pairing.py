"""A baseline and a variant side by side at one temperature: what pairs, and what does not."""

from dataclasses import dataclass, field

from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import Temperature
from jobs.scores.score_set import TaskInfo
from stats.scores import MissingAnswers, TaskScores


@dataclass(frozen=True)
class Pair:
    """One task on which both models have answers.

    Attributes:
        info: name, metric, direction and group of the task.
        scores: the common items.
    """

    info: TaskInfo
    scores: TaskScores


@dataclass
class Pairing:
    """A variant beside its baseline at one temperature, task by task.

    Attributes:
        baseline: name of the baseline.
        variant: its name.
        temperature: the common temperature, None if unknown.
        pairs: tasks with at least one common item.
        absent: what is missing of the tasks without any.
        missing: items that do not pair, those of tasks that do not pair at all included.
        owed: samples that were asked for and are not there, of both models.
        warnings: what does not pair.
        gaps: what is missing, by task.
        withheld: answers that a provider withheld, (baseline, variant), by task.
        marked: for a notice, the scored answers it holds of, (baseline, variant), by task.
        scored: all scored answers, (baseline, variant), by task.
        fewer_reruns: whether one model has fewer reruns than the other, without a plan that says so.
    """

    baseline: str
    variant: str
    temperature: Temperature
    pairs: list[Pair] = field(default_factory=list)
    absent: list[MissingAnswers] = field(default_factory=list)
    missing: int = 0
    owed: int = 0
    warnings: list[Notice] = field(default_factory=list)
    gaps: list[MissingAnswers] = field(default_factory=list)
    fewer_reruns: list[str] = field(default_factory=list)
    withheld: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    marked: dict[NoticeCode, dict[str, tuple[int, int]]] = field(default_factory=dict)
    scored: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and temperature for a sentence."""
        return self.variant if self.temperature is None else f"{self.variant}{self.at}"

    @property
    def at(self) -> str:
        """The temperature for a sentence."""
        return "" if self.temperature is None else f" at temperature {self.temperature:g}"

    @property
    def common(self) -> int:
        """Items that pair, over all tasks."""
        return sum(pair.scores.baseline.size for pair in self.pairs)

    @property
    def common_share(self) -> float:
        """Common items as a share of all that should have paired."""
        return self.common / (self.common + self.missing)

    @property
    def has_gaps(self) -> bool:
        """Whether anything that one of the models should have answered is missing or failed."""
        return bool(self.gaps or self.fewer_reruns or not self.pairs)

    @property
    def is_silent(self) -> bool:
        """Whether all answers of one of the models to some task are empty."""
        empty = self.marked.get(NoticeCode.EMPTY_ANSWERS, {})
        sides = ((empty[task][side], self.scored[task][side]) for task in empty for side in (0, 1))
        return any(count and count == answers for count, answers in sides)

    @property
    def all_withheld(self) -> tuple[int, int]:
        """Answers that a provider withheld, (baseline, variant), over all tasks."""
        baseline, variant = (sum(counts[side] for _, counts in self.withheld) for side in (0, 1))
        return baseline, variant

    def warn(self, code: NoticeCode, text: str) -> None:
        """Add a warning."""
        self.warnings.append(Notice(code, text))
