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
    info, known, notices = table.info, known_metric(table.info.metric), list[Notice]()
    name = f"Scores of {info.name} ({info.metric})"
    is_perplexity = known is not None and "perplexity" in info.metric.lower()
    if is_perplexity and table.observed is not None and table.observed[1] <= 0.0:
        # A perplexity is never below 1: lm-eval logs a sample's log-likelihood under the name of what it
        # computes over the corpus.
        known = KnownMetric(True, (UNBOUNDED,))
        info = replace(info, stated=replace(info.stated, higher_is_better=True))
        notices.append(Notice(NoticeCode.LOG_LIKELIHOODS, f"{name} are log-likelihoods: higher is better."))
    asked = options.direction(info.name, info.group)
    higher = _direction(info, known) if asked is None else asked
    if asked is None and info.stated.higher_is_better is None and not higher:
        said = f"{name}: lower is assumed to be better, because of the metric's name."
        notices.append(Notice(NoticeCode.DIRECTION_BY_NAME, said))
    bounds, margin = _range(table, known, options)
    if bounds is None:
        limit = "it has no margin" if margin is None else f"its margin is {margin:g}"
        unit = info.stated.unit or "the metric's own unit"
        said = f"{name} have no range: a drop is in {unit}, and {limit}."
        notices.append(Notice(NoticeCode.NO_RANGE, said))
    elif bounds != UNIT:
        said = f"{name} range from {bounds[0]:g} to {bounds[1]:g}."
        notices.append(Notice(NoticeCode.OTHER_RANGE, said))
    return replace(info, higher_is_better=higher, bounds=bounds, margin=margin), notices


def _direction(info: TaskInfo, known: KnownMetric | None) -> bool:
    """Whether higher is better, where the user does not say."""
    choose = f"Choose with --lower-is-better {info.name} or --higher-is-better {info.name}."
    stated = info.stated.higher_is_better
    if known is not None:
        if stated is not None and stated != known.higher_is_better:
            said, usual = ("higher", "lower") if stated else ("lower", "higher")
            raise UserError(
                f"Task {info.name}: the input states that {said} is better, but for {info.metric} {usual} is "
                f"normally better. {choose}"
            )
        return known.higher_is_better
    if stated is not None:
        return stated
    hint = known_metric(info.name) if info.metric == GENERIC else None
    if hint is not None and not hint.higher_is_better:
        raise UserError(
            f"Task {info.name}: the name suggests that lower scores are better, but the input does not say. "
            f"{choose}"
        )
    return True


def _range(
    table: TaskTable, known: KnownMetric | None, options: ScaleOptions
) -> tuple[Bounds | None, float | None]:
    """Range of the scores, None where they have none, and the margin in the metric's own unit."""
    info = table.info
    margin = requested(info.name, info.group, options.margins)
    bounds = _stated_range(table, options) or _usual_range(table, known, is_unbounded=margin is not None)
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


def _usual_range(table: TaskTable, known: KnownMetric | None, *, is_unbounded: bool) -> Bounds:
    """The range by the metric's name, else none if there is a margin, else that of shares or of percent."""
    ranges = known.ranges if known is not None else ()
    if fitting := [bounds for bounds in ranges if _holds(bounds, table)]:
        return fitting[0]
    if is_unbounded and not ranges:
        return UNBOUNDED
    if not ranges and _holds(UNIT, table):
        return UNIT
    if not ranges and _holds(PERCENT, table) and table.observed and table.observed[1] == PERCENT[1]:
        return PERCENT  # with a warning
    usual = " or ".join(f"{low:g} to {high:g}" for low, high in ranges)
    why = f"but this metric usually ranges from {usual}" if ranges else "and their possible range is unknown"
    raise UserError(
        f"{_found(table)}, {why}. Set the range with --range {table.info.name}=LOW..HIGH (0..100 for "
        "percent, 1..10 for grades) or, if there is none, a margin in the metric's own unit with --margin "
        f"{table.info.name}=M."
    )


def _holds(bounds: Bounds, table: TaskTable) -> bool:
    if table.observed is None:
        return True
    slack = 0.0 if bounds == UNBOUNDED else SLACK * (bounds[1] - bounds[0])
    low, high = table.observed
    return bounds[0] - slack <= low and high <= bounds[1] + slack


def _found(table: TaskTable) -> str:
    low, high = table.observed or UNIT
    return f"Scores of task {table.info.name} ({table.info.metric}) are between {low:g} and {high:g}"
