"""What changed, in words and rows: measurements beside the scores, apart from the verdict on quality."""

import math

from jobs.analysis.compare import Analysis, VariantResult
from jobs.text.format import amount, clean, money, p_text, percent
from orchestrator.errors import counted
from orchestrator.rundir.measurements import BY_NAME
from stats.change import Change, ChangeVerdict

CHANGE_HEADER = ("measurement", "verdict", "mean", "change", "p")


def change_amount(change: Change, value: float, *, sign: bool = True) -> str:
    """A change: in percent of the baseline's mean, or for shares in points."""
    return amount(value, "share" if change.relative or is_share(change) else "metric", sign=sign)


def is_share(change: Change) -> bool:
    """Whether values range from 0 to 1."""
    return BY_NAME[change.measurement].unit == "share"


def unit_text(change: Change) -> str:
    """What a change is told in."""
    return "%" if change.relative else "points" if is_share(change) else BY_NAME[change.measurement].unit


def means_text(change: Change) -> str:
    """The means of baseline and variant, shares in percent."""
    means = (change.baseline_mean, change.variant_mean)
    return " → ".join(
        f"{percent(mean)} %" if is_share(change) else f"{mean:{',.0f' if mean >= 1e4 else '.4g'}}"
        for mean in means
    )


def change_text(change: Change) -> str:
    """A change with its interval and unit."""
    unit, (low, high) = unit_text(change), change.change_interval
    said = f"{change_amount(change, change.change)} {unit}"
    if math.isnan(low):
        return said
    return f"{said} [{change_amount(change, low, sign=False)}, {change_amount(change, high, sign=False)}]"


def verdict_text(change: Change) -> str:
    """The verdict for people, with the tolerance that was shown."""
    if change.verdict is ChangeVerdict.WITHIN:
        unit = unit_text(change)
        size = f"{change.tolerance * (100 if unit in {'%', 'points'} else 1):g}"
        return f"within {size} {'point' if (size, unit) == ('1', 'points') else unit}"
    return "–" if change.verdict is ChangeVerdict.DESCRIBED else change.verdict.value


def change_rows(result: VariantResult, *, same: bool = False) -> list[tuple[str, ...]]:
    """A row under `CHANGE_HEADER` for every measurement; those that tell nothing only with `same`.

    They tell nothing where all items have the same, or of speed, cost and memory without an interval off 0.
    """
    return [
        (
            BY_NAME[change.measurement].title,
            verdict_text(change),
            means_text(change),
            change_text(change),
            p_text(change.p_adjusted),
        )
        for change in result.changes
        if same or (change.differs and not _is_open(change))
    ]


def _is_open(change: Change) -> bool:
    """Whether it is one of whole blocks, described, of which no change is shown."""
    of_blocks, (low, high) = BY_NAME[change.measurement], change.change_interval
    return not (of_blocks.column or of_blocks.tested or low > 0.0 or high < 0.0)


def change_terms(analysis: Analysis) -> str:
    """What the rows mean; empty if nothing differs on any item."""
    alpha, said = analysis.settings.alpha, list[str]()
    count = sum(change.is_adjusted for result in analysis.results for change in result.changes)
    if count:
        tests, level = counted(count, "two-sided test"), f"{100 * (1 - alpha):g} % intervals"
        how = f"{tests}, p adjusted by Holm, {level}"
        said = [f"Measured beside the scores, no part of the verdicts: {how}; measurements.csv has all."]
    said += dict.fromkeys(clean(result.speed_note) for result in analysis.results if result.speed_note)
    spent = sum(sum(run.spent.values()) for run in analysis.scores.runs)
    return " ".join([*said, *([f"The sweep has cost {money(spent)}."] if spent else [])])
