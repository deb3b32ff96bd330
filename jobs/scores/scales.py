"""Which direction of a task's scores is better, and how far they can range.

Both decide what a drop means, so neither is guessed where a guess could turn a verdict around. The user
comes first, then what the input states (a column, a manifest, lm-eval's results), then the metric's name, as
far as known_metrics.csv has it. Where none of them says which direction is better, higher is assumed, with a
notice and without certificates. Where none says how far scores range, those that all lie between 0 and 1 are
taken for shares, and those in percent beyond doubt for percent; anything else is refused with the option that
settles it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from jobs.formats import metrics
from jobs.formats.metrics import PERCENT, UNBOUNDED, UNIT, Bounds, requested
from jobs.formats.notices import Notice, NoticeCode
from jobs.scores.score_set import ScoreSet, TaskInfo, TaskTable
from orchestrator.errors import UserError

SLACK = 1e-9
HALF, FULL = 50.0, 100.0  # no other scale ends beyond the half of percent
LEAST_FULL = 0.05  # least share of the scores above 0 that reach them


@dataclass(frozen=True)
class ScaleOptions:
    """What the user says about tasks, by name, group or pattern ("*")."""

    higher: tuple[str, ...] = ()  # tasks whose scores are better when higher
    lower: tuple[str, ...] = ()  # tasks whose scores are better when lower
    ranges: Mapping[str, Bounds] = field(default_factory=dict)  # infinite ends for none
    margins: Mapping[str, float] = field(default_factory=dict)  # in the unit of metrics without a range

    def direction(self, task: str, group: str | None) -> bool | None:
        """Whether higher is better, as far as the user says.

        Raises UserError if both options name the task.
        """
        named = {True: dict.fromkeys(self.higher, ""), False: dict.fromkeys(self.lower, "")}
        said = [up for up, names in named.items() if requested(task, group, names) is not None]
        if len(said) > 1:
            raise UserError(f"--higher-is-better and --lower-is-better both name task {task}: remove one.")
        return said[0] if said else None


AS_READ = ScaleOptions()


def scale_options(
    higher: Sequence[str] | None,
    lower: Sequence[str] | None,
    ranges: Sequence[str] | None,
    margins: Sequence[str] | None,
) -> tuple[float | None, ScaleOptions]:
    """What --higher-is-better, --lower-is-better, --range and --margin say about scores.

    Returns:
        The margin as a share of the range, None if none is given, and everything else.

    Raises UserError if an option cannot be read, or two margins are for the same.
    """
    shares = [_positive(text, text) for text in margins or () if "=" not in text]
    pairs = [text.rpartition("=") for text in margins or () if "=" in text]
    if any(share >= 1.0 for share in shares):
        raise UserError(
            "--margin must be between 0 and 1, as a share of the metric's range: 0.05 is 5 points."
        )
    if len(shares) > 1 or len({task for task, _, _ in pairs}) < len(pairs):
        raise UserError("--margin is given twice for the same task, or twice for all: remove one.")
    own = {task: _positive(number, f"{task}={number}") for task, _, number in pairs}
    limits = {
        task: metrics.parse_range(text, f"--range {task}={text}")
        for task, text in metrics.parse_assignments("--range", ranges or []).items()
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


def scaled(book: ScoreSet, options: ScaleOptions = AS_READ) -> ScoreSet:
    """Settle direction, range and own-unit margin of every task.

    Returns:
        The scores with `TaskInfo.higher_is_better`, `bounds` and `margin` filled in, and what was assumed
        among the warnings.

    Raises UserError where a direction or a range is unknown or contradicted, for all such tasks at once.
    """
    groups = {table.info.name: table.info.group for table in book.tasks}
    metrics.refuse_unused("--higher-is-better", options.higher, groups)
    metrics.refuse_unused("--lower-is-better", options.lower, groups)
    metrics.refuse_unused("--range", options.ranges, groups)
    metrics.refuse_unused("--margin", options.margins, groups)
    tables, notices, refused = [], list(book.warnings), []
    for table in book.tasks:
        try:
            info, said = _settle(table, options)
        except UserError as error:
            refused.append(str(error))
        else:
            tables.append(replace(table, info=info))
            notices += said
    if refused:
        raise UserError(" ".join(refused[:5]) + (f" … and {len(refused) - 5} more." if refused[5:] else ""))
    return replace(book, tasks=tuple(tables), warnings=tuple(notices))


def _settle(table: TaskTable, options: ScaleOptions) -> tuple[TaskInfo, list[Notice]]:
    info, (usual, ranges), notices = table.info, metrics.known_metric(table.info.metric), list[Notice]()
    name = f"Scores of {info.name} ({info.metric})"
    is_perplexity = usual is not None and "perplexity" in info.metric.lower()
    if is_perplexity and table.observed is not None and table.observed[1] <= 0.0:
        # A perplexity is never below 1: lm-eval logs a sample's log-likelihood under the name of what it
        # computes over the corpus.
        usual, ranges = True, (UNBOUNDED,)
        info = replace(info, stated=replace(info.stated, higher_is_better=True))
        notices.append(Notice(NoticeCode.LOG_LIKELIHOODS, f"{name} are log-likelihoods: higher is better."))
    asked = options.direction(info.name, info.group)
    higher = _direction(info, usual) if asked is None else asked
    if higher is None:
        said = f"{name}: nothing says whether higher or lower is better. Higher is assumed"
        choose = f"--lower-is-better {info.name} or --higher-is-better {info.name}"
        text = f"{said}, and nothing is certified: choose with {choose}."
        notices.append(Notice(NoticeCode.DIRECTION_UNKNOWN, text))
        info, higher = replace(info, is_direction_known=False), True
    elif asked is None and info.stated.higher_is_better is None and not higher:
        said = f"{name}: lower is assumed to be better, because of the metric's name."
        notices.append(Notice(NoticeCode.DIRECTION_BY_NAME, said))
    margin = requested(info.name, info.group, options.margins)
    low, high = bounds = _range(table, ranges, options, is_unbounded=margin is not None)
    if bounds == UNBOUNDED:
        limit = "it has no margin" if margin is None else f"its margin is {margin:g}"
        unit = info.stated.unit or "the metric's own unit"
        said = f"{name} have no range: a drop is in {unit}, and {limit}."
        notices.append(Notice(NoticeCode.NO_RANGE, said))
        return replace(info, higher_is_better=higher, bounds=None, margin=margin), notices
    if margin is not None:
        raise UserError(
            f"--margin {info.name}={margin:g}: {info.metric} of {info.name} ranges from {low:g} to {high:g}, "
            f"so its margin is a share of that: write --margin {margin / (high - low):g}, for all tasks."
        )
    if bounds != UNIT:
        notices.append(Notice(NoticeCode.OTHER_RANGE, f"{name} range from {low:g} to {high:g}."))
    return replace(info, higher_is_better=higher, bounds=bounds, margin=None), notices


def _direction(info: TaskInfo, usual: bool | None) -> bool | None:
    """Whether higher is better, where the user does not say, by the input and by names."""
    choose = f"Choose with --lower-is-better {info.name} or --higher-is-better {info.name}."
    stated = info.stated.higher_is_better
    if usual is not None and stated is not None and stated != usual:
        said, normal = ("higher", "lower") if stated else ("lower", "higher")
        raise UserError(
            f"Task {info.name}: the input states that {said} is better, but for {info.metric} {normal} is "
            f"normally better. {choose}"
        )
    known = metrics.known_direction(info.metric, info.name, stated)
    if known is None and metrics.known_metric(info.name)[0] is False:
        raise UserError(
            f"Task {info.name}: the name suggests that lower scores are better, but the input does not say. "
            f"{choose}"
        )
    return known


def _range(
    table: TaskTable, ranges: Sequence[Bounds], options: ScaleOptions, *, is_unbounded: bool
) -> Bounds:
    """The range as stated, else by the metric's name, else none beside a margin, else shares or percent.

    A range that is too wide makes every drop too small, so percent need more than scores that fit: some must
    be full marks or, of metrics that are often given in percent, beyond any other scale.
    """
    name, seen = table.info.name, table.observed
    low, high = seen or UNIT
    found = f"Scores of task {name} ({table.info.metric}) are between {low:g} and {high:g}"
    asked = requested(name, table.info.group, options.ranges)
    if (stated := asked or table.info.stated.bounds) is not None:
        if not _holds(stated, seen):
            who = f"--range {name}" if asked else f"the range that the input states for {name}"
            raise UserError(f"{found}, outside {who} ({stated[0]:g} to {stated[1]:g}): correct one of them.")
        return stated
    if fitting := [bounds for bounds in ranges if bounds != PERCENT and _holds(bounds, seen)]:
        return fitting[0]
    if is_unbounded:
        return UNBOUNDED
    if not ranges and _holds(UNIT, seen):
        return UNIT
    full = HALF if PERCENT in ranges else FULL * (1.0 - SLACK)
    if ranges[:1] in ((), (UNIT,)) and _holds(PERCENT, seen) and table.share_from(full) >= LEAST_FULL:
        highest = {model: table.highest(model) for model, _ in table.columns}
        if shares := [model for model, most in highest.items() if 0.0 < most <= 1.0]:
            raise UserError(
                f"{found}, but those of {shares[0]} at most {highest[shares[0]]:g}: bring all models to one "
                f"scale, or set the range with --range {name}=0..100 if they have it already."
            )
        return PERCENT  # with a warning
    usual = " or ".join(f"{low:g} to {high:g}" for low, high in ranges)
    why = f"but this metric usually ranges from {usual}" if ranges else "and their possible range is unknown"
    raise UserError(
        f"{found}, {why}. Set the range with --range {name}=LOW..HIGH (0..100 for percent, 1..10 for grades) "
        f"or, if there is none, a margin in the metric's own unit with --margin {name}=M."
    )


def _holds(bounds: Bounds, seen: Bounds | None) -> bool:
    slack = 0.0 if bounds == UNBOUNDED else SLACK * (bounds[1] - bounds[0])
    return seen is None or (bounds[0] - slack <= seen[0] and seen[1] <= bounds[1] + slack)
