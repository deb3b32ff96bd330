"""Arguments and options that several commands have, as types for their signatures."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from inspect import Parameter, signature
from typing import Annotated, Literal, TypeVar, get_type_hints

from typer import Argument, Option

from jobs.formats.columns import FILE as COLUMNS_FILE
from jobs.formats.columns import ROLES

Command = TypeVar("Command", bound=Callable[..., None])

_HIGHER = "Task, group or pattern for which higher scores are better."
_LOWER = "Task, group or pattern for which lower scores are better."
_RANGE = "Lowest and highest possible score of a task, group or pattern; TASK=none if there is no limit."
_MARGIN = (
    "Largest acceptable drop as a share of the metric's range (0.01 is one point); default: the sweep's, or "
    "0.01. TASK=M sets it for a metric without a range, in the metric's own unit."
)
_COLUMNS = (
    f"Columns of JSON Lines and CSV files: {', '.join(ROLES)}. A dotted path leads into nested objects; "
    f"default: {COLUMNS_FILE} next to the file."
)
_METRIC = "Metric of a task, group or pattern such as '*'."
_WHERE = "Keep only table rows with this value."
Run = Annotated[str, Argument(metavar="RUN", help="Run directory (path or URL).", show_default=False)]
Out = Annotated[str | None, Option(metavar="DIR", help="Output folder; default: RUN/analysis.")]
TableOrJson = Annotated[Literal["table", "json"], Option("--format", help="Output format.")]
Metric = Annotated[list[str] | None, Option(metavar="TASK=METRIC", help=_METRIC)]
Margin = Annotated[list[str] | None, Option(metavar="[TASK=]M", help=_MARGIN)]
Higher = Annotated[list[str] | None, Option("--higher-is-better", metavar="TASK", help=_HIGHER)]
Lower = Annotated[list[str] | None, Option("--lower-is-better", metavar="TASK", help=_LOWER)]
Range = Annotated[list[str] | None, Option("--range", metavar="TASK=LOW..HIGH", help=_RANGE)]
Where = Annotated[list[str] | None, Option(metavar="COLUMN=VALUE", help=_WHERE)]
Columns = Annotated[list[str] | None, Option("--columns", metavar="ROLE=COLUMN,...", help=_COLUMNS)]


def options_of(record: type) -> Callable[[Command], Command]:
    """Give a command, as its last keywords, the fields of a dataclass that are an Option or an Argument."""

    def decorate(command: Command) -> Command:
        hints = get_type_hints(record, include_extras=True)
        own = [p for p in signature(command).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        for field in fields(record):
            if hasattr(hint := hints[field.name], "__metadata__"):
                default = Parameter.empty if field.default is MISSING else field.default
                own.append(Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hint))
        annotations = {parameter.name: parameter.annotation for parameter in own}
        command.__signature__ = signature(command).replace(parameters=own)  # type: ignore[attr-defined]
        command.__annotations__ = annotations | {"return": None}
        return command

    return decorate
