"""A history as a picture: for every series the drop over dates, and the evidence on its way to the alarm."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes

from jobs.commands.history.series import Series
from jobs.text.figure_style import COLOURS, WIDE, look, new_figure
from jobs.text.format import clean

ROW_HEIGHT = 3.6


def picture(series: Sequence[Series]) -> str:
    """The picture as SVG, the same bytes each time."""
    with look():
        figure = new_figure(WIDE + 2.0, ROW_HEIGHT * len(series))
        panels = figure.subplots(len(series), 2, squeeze=False)
        for (left, right), one in zip(panels, series, strict=True):
            _drops(left, one)
            _evidence(right, one)
        figure.autofmt_xdate()
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _drops(axes: Axes, series: Series) -> None:
    scale = 1.0 if any(point.comparison.margin_unit != "share" for point in series.points) else 100.0
    dates = [point.date for point in series.points]
    drops = [scale * point.comparison.drop for point in series.points]
    ends = [[scale * end for end in point.comparison.drop_interval] for point in series.points]
    below = [drop - low for drop, (low, _) in zip(drops, ends, strict=True)]
    above = [high - drop for drop, (_, high) in zip(drops, ends, strict=True)]
    axes.errorbar(dates, drops, yerr=[below, above], fmt="o", color=COLOURS[0], capsize=3, linewidth=1.2)  # type: ignore[arg-type]
    axes.axhline(0.0, color="black", linewidth=1.0)
    axes.set_ylabel("drop (points)" if scale == 100.0 else "drop")
    at = "" if series.temperature is None else f", T {series.temperature:g}"
    axes.set_title(_plain(f"{series.model}{at}"), loc="left")


def _evidence(axes: Axes, series: Series) -> None:
    watched = series.watched
    dates = [point.date for point in series.points]
    axes.plot(dates, watched.log_evidence, color=COLOURS[0], marker="o")  # type: ignore[arg-type]
    axes.axhline(watched.threshold, color=COLOURS[1], linestyle="--", label="alarm")
    if series.alarm is not None:
        axes.axvline(series.alarm.date, color=COLOURS[1], linewidth=1.2)  # type: ignore[arg-type]
    axes.set_ylabel("log evidence")
    axes.legend(loc="upper left")


def _plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return clean(text).replace("$", r"\$")
