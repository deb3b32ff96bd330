"""The options of `lldeg analyze`: names, choices and help, as types for the command's signature."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs.analysis.gate import GateName
from jobs.analysis.worst_tasks import Tasks
from stats.combinations import Combine
from stats.multiplicity import Adjust
from stats.results import Certify, Missing


class Format(StrEnum):
    """How the verdicts are shown."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"


_PATHS = "A run, a folder of runs, lm-eval output folders or results files, score tables, or a list of them."
_HIGHER = "Task, group or pattern whose scores are better when higher."
_LOWER = "Task, group or pattern whose scores are better when lower."
_RANGE = "Least and greatest possible score of a task, a group or a pattern, or none if there is no limit."
_MISSING = "Count missing and failed answers as the variant's losses, or certify on what pairs alone."
_CERTIFY = "Each variant by itself (may this one ship?), or all certificates at once (which of these may?)."
_GATE = "Exit 0 if nothing is degraded, or only if all is certified."
_CLUSTER = (
    "Items that belong together: a column of the documents or the table (prompt_id:| is prompt_id up to |), "
    "whole tasks, or none. The run's unless given."
)
_MARGIN = (
    "Largest acceptable drop as a share of the metric's range: 0.01 is one point. The sweep's, or 0.01. "
    "TASK=M for a metric without a range, in its own unit."
)

Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help=_PATHS)]
Out = Annotated[str | None, typer.Option(metavar="DIR", help="Where to write; RUN/analysis unless given.")]
Baseline = Annotated[str | None, typer.Option(metavar="NAME", help="Baseline; the sweep's, else the first.")]
AtTemperature = Annotated[float | None, typer.Option(metavar="T", help="Compare at this temperature only.")]
Metric = Annotated[
    list[str] | None,
    typer.Option(metavar="TASK=METRIC", help="Metric of a task, a group or a pattern like '*'."),
]
Metrics = Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a JSON file {task: metric}.")]
Alpha = Annotated[float | None, typer.Option(metavar="A", help="Rate of false alarms; the sweep's, or 0.05.")]
Margin = Annotated[list[str] | None, typer.Option(metavar="[TASK=]M", help=_MARGIN)]
Higher = Annotated[list[str] | None, typer.Option("--higher-is-better", metavar="TASK", help=_HIGHER)]
Lower = Annotated[list[str] | None, typer.Option("--lower-is-better", metavar="TASK", help=_LOWER)]
Range = Annotated[list[str] | None, typer.Option("--range", metavar="TASK=LOW..HIGH", help=_RANGE)]
MissingOption = Annotated[Missing, typer.Option("--missing", help=_MISSING)]
CertifyOption = Annotated[Certify, typer.Option("--certify", help=_CERTIFY)]
CombineOption = Annotated[Combine, typer.Option(help="Test that decides over all tasks.")]
AdjustOption = Annotated[Adjust, typer.Option(help="Adjustment for the number of comparisons.")]
Cluster = Annotated[str | None, typer.Option(metavar="COLUMN|task|none", help=_CLUSTER)]
Where = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Rows of score tables to keep.")
]
MinCommon = Annotated[
    float, typer.Option(metavar="SHARE", min=0, max=1, help="Least share of common items to compare.")
]
GateOption = Annotated[
    GateName, typer.Option(help="Exit 0 if nothing is degraded, or only if all is certified.")
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Refuse to compare answers to different prompts or of different software."),
]
TasksOption = Annotated[Tasks, typer.Option(help="Tasks to show: those behind a degradation, or all.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to show the verdicts.")]
