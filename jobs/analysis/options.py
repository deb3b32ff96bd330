"""The options of `lldeg analyze`: names, choices and help, as types for the command's signature."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs.analysis.gate import GateName
from jobs.formats.columns import FILE as COLUMNS_FILE
from jobs.formats.columns import ROLES
from jobs.formats.samples import PairBy
from stats.multiplicity import Adjust
from stats.results import Certify, Missing
from stats.tasks.combinations import Combine


class Format(StrEnum):
    """How the verdicts are shown."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"
    JUNIT = "junit"
    LINE = "line"


class Tasks(StrEnum):
    """Which tasks are shown."""

    WORST = "worst"
    ALL = "all"


_POLICY = "YAML file that says what each task must show; it decides the exit status."
_PATHS = (
    "A run, a folder of runs, lm-eval output folders or results files, logs of other tools, score tables, "
    "or a JSON file that lists them by model."
)
_HIGHER = "Task, group or pattern for which higher scores are better."
_LOWER = "Task, group or pattern for which lower scores are better."
_RANGE = "Lowest and highest possible score of a task, group or pattern; none if there is no limit."
_MISSING = (
    "For certificates: count missing and failed answers as losses of the variant (worst), or use only "
    "items that both models answered (drop)."
)
_CERTIFY = (
    "Control the error of each certificate (may this variant ship?), or of all together (which ones may?)."
)
_CLUSTER = (
    "Groups of dependent items: a column of the documents or the table (prompt_id:| means prompt_id up to "
    "|), whole tasks, or none; default: those of the run."
)
_MARGIN = (
    "Largest acceptable drop as a share of the metric's range (0.01 is one point); default: the sweep's, or "
    "0.01. TASK=M sets it for a metric without a range, in the metric's own unit."
)

_COLUMNS = (
    f"Columns of JSON Lines and CSV files: {', '.join(ROLES)}. A dotted path leads into nested objects; "
    f"default: {COLUMNS_FILE} next to the file."
)
_PAIR_BY = (
    "How to match items between models: by identifier (id), or by prompt text (prompt) where tools number "
    "items differently; default: id."
)

Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help=_PATHS)]
Out = Annotated[str | None, typer.Option(metavar="DIR", help="Output folder; default: RUN/analysis.")]
Baseline = Annotated[
    str | None, typer.Option(metavar="NAME", help="Baseline; default: the sweep's, else the first.")
]
AtTemperature = Annotated[float | None, typer.Option(metavar="T", help="Compare only at this temperature.")]
Metric = Annotated[
    list[str] | None,
    typer.Option(metavar="TASK=METRIC", help="Metric of a task, group or pattern such as '*'."),
]
Metrics = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The same, in a JSON file {task: metric}.")
]
Alpha = Annotated[
    float | None, typer.Option(metavar="A", help="False alarm rate; default: the sweep's, or 0.05.")
]
Margin = Annotated[list[str] | None, typer.Option(metavar="[TASK=]M", help=_MARGIN)]
Higher = Annotated[list[str] | None, typer.Option("--higher-is-better", metavar="TASK", help=_HIGHER)]
Lower = Annotated[list[str] | None, typer.Option("--lower-is-better", metavar="TASK", help=_LOWER)]
Range = Annotated[list[str] | None, typer.Option("--range", metavar="TASK=LOW..HIGH", help=_RANGE)]
MissingOption = Annotated[Missing, typer.Option("--missing", help=_MISSING)]
CertifyOption = Annotated[Certify, typer.Option("--certify", help=_CERTIFY)]
CombineOption = Annotated[Combine, typer.Option(help="Test that combines the tasks.")]
AdjustOption = Annotated[Adjust, typer.Option(help="Adjustment of p for the number of comparisons.")]
Cluster = Annotated[str | None, typer.Option(metavar="COLUMN|task|none", help=_CLUSTER)]
Where = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Keep only these rows of tables.")
]
Columns = Annotated[list[str] | None, typer.Option("--columns", metavar="ROLE=COLUMN,...", help=_COLUMNS)]
PairByOption = Annotated[PairBy | None, typer.Option("--pair-by", help=_PAIR_BY)]
MinCommon = Annotated[
    float, typer.Option(metavar="SHARE", min=0, max=1, help="Smallest accepted share of common items.")
]
GateOption = Annotated[
    GateName, typer.Option(help="Exit 0 if nothing is degraded, or only if all are certified.")
]
PolicyOption = Annotated[Path | None, typer.Option("--policy", metavar="FILE", help=_POLICY)]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Refuse to compare answers to different prompts, or of different software or hardware.",
    ),
]
TasksOption = Annotated[Tasks, typer.Option(help="Tasks to show: the worst of degraded variants, or all.")]
FormatOption = Annotated[Format, typer.Option("--format", help="Output format of the verdicts.")]
