"""Which direction of a task's scores is better, and how far they can range.

Both decide what a drop means, so neither is guessed where a guess could turn a verdict around. The user
comes first, then what the input states (a column, a manifest, lm-eval's results), then the metric's name.
Where nothing says more, scores that all lie between 0 and 1 are taken for shares, and those between 0 and 100
that reach 100 for percent; anything else is refused with the option that settles it.
"""

from dataclasses import replace

from jobs.formats.metrics import PERCENT, UNBOUNDED, UNIT, Bounds, KnownMetric, known_metric, requested
from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import GENERIC
from jobs.scores.scale_options import ScaleOptions
from jobs.scores.score_set import ScoreSet, TaskInfo, TaskTable
from orchestrator.errors import UserError

SLACK = 1e-9


def scaled(book: ScoreSet, options: ScaleOptions) -> ScoreSet:
    """Settle direction, range and own-unit margin of every task.

    Args:
        book: scores as they were read.
        options: what the user says.

    Returns:
        The book with `TaskInfo.higher_is_better`, `bounds` and `margin` filled in, and what was assumed among
        its warnings.

    Raises:
        UserError: where a direction or a range is unknown or contradicted; all such tasks at once.
    """
    options.refuse_unused({table.info.name: table.info.group for table in book.tasks})
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
    info, known = table.info, known_metric(table.info.metric)
    holds_likelihoods = _holds_log_likelihoods(table, known)
    if holds_likelihoods:
        # lm-eval logs a sample's log-likelihood under the perplexity that it computes over the corpus.
        known = KnownMetric(True, (UNBOUNDED,))
        info = replace(info, stated=replace(info.stated, higher_is_better=True))
    direction = _direction(info, known, options)
    bounds, margin = _range(table, known, options)
    settled = replace(info, higher_is_better=direction, bounds=bounds, margin=margin)
    by_name = (
        info.stated.higher_is_better is None
        and options.direction(info.name, info.group) is None
        and not direction
    )
    return settled, _notices(settled, by_name=by_name, holds_likelihoods=holds_likelihoods)


def _holds_log_likelihoods(table: TaskTable, known: KnownMetric | None) -> bool:
    """Whether the samples of a perplexity are log-likelihoods: a perplexity is never below 1."""
    if known is None or "perplexity" not in table.info.metric.lower():
        return False
    found = table.observed
    return found is not None and found[1] <= 0.0


def _direction(info: TaskInfo, known: KnownMetric | None, options: ScaleOptions) -> bool:
    asked = options.direction(info.name, info.group)
    if asked is not None:
        return asked
    stated = info.stated.higher_is_better
    if known is not None:
        if stated is not None and stated != known.higher_is_better:
            raise UserError(
                f"Task {info.name}: the input states that {_order(stated)} is better, but for {info.metric} "
                f"{_order(known.higher_is_better)} is normally better. {_ask_direction(info)}"
            )
        return known.higher_is_better
    if stated is not None:
        return stated
    hint = known_metric(info.name) if info.metric == GENERIC else None
    if hint is not None and not hint.higher_is_better:
        raise UserError(
            f"Task {info.name}: the name suggests that lower scores are better, but the input does not say. "
            f"{_ask_direction(info)}"
        )
    return True


def _order(higher: bool) -> str:
    return "higher" if higher else "lower"


def _ask_direction(info: TaskInfo) -> str:
    return f"Choose with --lower-is-better {info.name} or --higher-is-better {info.name}."


def _range(
    table: TaskTable, known: KnownMetric | None, options: ScaleOptions
) -> tuple[Bounds | None, float | None]:
    """Range of the scores, None where they have none, and the margin in the metric's own unit."""
    info = table.info
    margin = requested(info.name, info.group, options.margins)
    bounds = _stated_range(table, options) or _known_range(table, known)
    if bounds is None:
        bounds = UNBOUNDED if margin is not None else _share_or_refuse(table)
    if bounds == UNBOUNDED:
        return None, margin
    if margin is not None:
        low, high = bounds
        raise UserError(
            f"--margin {info.name}={margin:g}: {info.metric} of {info.name} ranges from {low:g} to {high:g}, "
            f"so its margin is a share of that: write --margin {margin / (high - low):g}, for all tasks."
        )
    return bounds, None


def _stated_range(table: TaskTable, options: ScaleOptions) -> Bounds | None:
    info = table.info
    asked = requested(info.name, info.group, options.ranges)
    bounds = asked or info.stated.bounds
    if bounds is not None and not _holds(bounds, table):
        who = f"--range {info.name}" if asked else f"the range that the input states for {info.name}"
        raise UserError(
            f"{_found(table)}, outside {who} ({bounds[0]:g} to {bounds[1]:g}): correct one of them."
        )
    return bounds


def _known_range(table: TaskTable, known: KnownMetric | None) -> Bounds | None:
    if known is None or not known.ranges:
        return None
    fitting = [bounds for bounds in known.ranges if _holds(bounds, table)]
    if fitting:
        return fitting[0]
    usual = " or ".join(f"{low:g} to {high:g}" for low, high in known.ranges)
    raise UserError(f"{_found(table)}, but this metric usually ranges from {usual}. {_ask_range(table.info)}")


def _share_or_refuse(table: TaskTable) -> Bounds:
    if _holds(UNIT, table):
        return UNIT
    if _holds(PERCENT, table) and table.observed is not None and table.observed[1] == PERCENT[1]:
        return PERCENT  # with a warning
    raise UserError(f"{_found(table)}, and their possible range is unknown. {_ask_range(table.info)}")


def _holds(bounds: Bounds, table: TaskTable) -> bool:
    if table.observed is None:
        return True
    slack = 0.0 if bounds == UNBOUNDED else SLACK * (bounds[1] - bounds[0])
    low, high = table.observed
    return bounds[0] - slack <= low and high <= bounds[1] + slack


def _found(table: TaskTable) -> str:
    low, high = table.observed or UNIT
    return f"Scores of task {table.info.name} ({table.info.metric}) are between {low:g} and {high:g}"


def _ask_range(info: TaskInfo) -> str:
    return (
        f"Set the range with --range {info.name}=LOW..HIGH (0..100 for percent, 1..10 for grades) or, if "
        f"there is none, a margin in the metric's own unit with --margin {info.name}=M."
    )


def _notices(info: TaskInfo, *, by_name: bool, holds_likelihoods: bool) -> list[Notice]:
    name, found = f"Scores of {info.name} ({info.metric})", []
    if holds_likelihoods:
        found.append(Notice(NoticeCode.LOG_LIKELIHOODS, f"{name} are log-likelihoods: higher is better."))
    elif by_name:
        found.append(
            Notice(
                NoticeCode.DIRECTION_BY_NAME,
                f"{name}: lower is taken to be better, because of the metric's name.",
            )
        )
    if info.bounds is None:
        margin = "it has no margin" if info.margin is None else f"its margin is {info.margin:g}"
        unit = info.stated.unit or "the metric's own unit"
        said = f"{name} have no range: a drop is in {unit}, and {margin}."
        found.append(Notice(NoticeCode.NO_RANGE, said))
    elif info.bounds != UNIT:
        low, high = info.bounds
        found.append(Notice(NoticeCode.OTHER_RANGE, f"{name} range from {low:g} to {high:g}."))
    return found
