"""What the user says about the scores of tasks: direction, range, and margin in a metric's own unit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.formats.key_values import parse_assignments
from jobs.formats.metrics import Bounds, parse_range, requested, unused_requests
from jobs.formats.notices import some
from orchestrator.errors import UserError


@dataclass(frozen=True)
class ScaleOptions:
    """What the user says about tasks, by name, group or pattern ("*").

    Attributes:
        higher: tasks whose scores are better when higher.
        lower: tasks whose scores are better when lower.
        ranges: least and greatest possible score; infinite ends for none.
        margins: largest acceptable drop in the metric's own unit, for scores without a range.
    """

    higher: tuple[str, ...] = ()
    lower: tuple[str, ...] = ()
    ranges: Mapping[str, Bounds] = field(default_factory=dict)
    margins: Mapping[str, float] = field(default_factory=dict)

    def direction(self, task: str, group: str | None) -> bool | None:
        """Whether higher is better, as far as the user says.

        Raises:
            UserError: if both options name the task.
        """
        names = {True: dict.fromkeys(self.higher, ""), False: dict.fromkeys(self.lower, "")}
        said = [up for up, given in names.items() if requested(task, group, given) is not None]
        if len(said) > 1:
            raise UserError(f"--higher-is-better and --lower-is-better both name task {task}: remove one.")
        return said[0] if said else None

    def refuse_unused(self, tasks: Mapping[str, str | None]) -> None:
        """Refuse names that no task answers to.

        Args:
            tasks: group by task.

        Raises:
            UserError: it names the option and the tasks.
        """
        given: dict[str, Sequence[str]] = {
            "--higher-is-better": self.higher,
            "--lower-is-better": self.lower,
            "--range": list(self.ranges),
            "--margin": list(self.margins),
        }
        for option, names in given.items():
            if unknown := unused_requests(dict.fromkeys(names, ""), tasks):
                known = some(list(tasks), 20)
                raise UserError(f"{option} matches no task: {', '.join(unknown)}; the tasks are {known}.")


AS_READ = ScaleOptions()


def scale_options(
    higher: Sequence[str] | None,
    lower: Sequence[str] | None,
    ranges: Sequence[str] | None,
    margins: Sequence[str] | None,
) -> tuple[float | None, ScaleOptions]:
    """What the command line says about scores.

    Args:
        higher: of --higher-is-better.
        lower: of --lower-is-better.
        ranges: of --range.
        margins: of --margin: a share for all tasks, or TASK=M in the metric's own unit.

    Returns:
        The margin as a share of the range, None if none is given, and everything else.

    Raises:
        UserError: if an option cannot be read, or two margins are for the same.
    """
    shares = [_positive(text, text) for text in margins or () if "=" not in text]
    pairs = [text.rpartition("=") for text in margins or () if "=" in text]
    if len(shares) > 1 or len({task for task, _, _ in pairs}) < len(pairs):
        raise UserError("--margin is given twice for the same task, or twice for all: remove one.")
    own = {task: _positive(number, f"{task}={number}") for task, _, number in pairs}
    limits = {
        task: parse_range(text, f"--range {task}={text}")
        for task, text in parse_assignments("--range", ranges or []).items()
    }
    options = ScaleOptions(tuple(higher or ()), tuple(lower or ()), limits, own)
    return (shares[0] if shares else None), options


def _positive(text: str, shown: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise UserError(
            f"--margin {shown}: write a positive number, as a share of the metric's range (0.01 is one "
            "point), or TASK=M, in the unit of a metric without a range."
        )
    return number
