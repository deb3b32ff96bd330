"""Arguments and options that several commands have, as types for their signatures."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from inspect import Parameter, signature
from typing import Annotated, TypeVar, get_type_hints

import typer

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
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run directory (path or URL).", show_default=False)]
Metric = Annotated[
    list[str] | None,
    typer.Option(metavar="TASK=METRIC", help="Metric of a task, group or pattern such as '*'."),
]
Margin = Annotated[list[str] | None, typer.Option(metavar="[TASK=]M", help=_MARGIN)]
Higher = Annotated[list[str] | None, typer.Option("--higher-is-better", metavar="TASK", help=_HIGHER)]
Lower = Annotated[list[str] | None, typer.Option("--lower-is-better", metavar="TASK", help=_LOWER)]
Range = Annotated[list[str] | None, typer.Option("--range", metavar="TASK=LOW..HIGH", help=_RANGE)]
Where = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Keep only table rows with this value.")
]
Columns = Annotated[list[str] | None, typer.Option("--columns", metavar="ROLE=COLUMN,...", help=_COLUMNS)]


def options_of(record: type) -> Callable[[Command], Command]:
    """Have Typer give a command, as its last keywords, the fields of a record that are arguments or options.

    Args:
        record: a dataclass; its fields with a `typer.Option` or an `Argument` in their annotation are those.
    """

    def decorate(command: Command) -> Command:
        hints = get_type_hints(record, include_extras=True)
        own = [p for p in signature(command).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        own += [
            Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=Parameter.empty if field.default is MISSING else field.default,
                annotation=hints[field.name],
            )
            for field in fields(record)
            if hasattr(hints[field.name], "__metadata__")
        ]
        annotations = {parameter.name: parameter.annotation for parameter in own}
        command.__signature__ = signature(command).replace(parameters=own)  # type: ignore[attr-defined]
        command.__annotations__ = annotations | {"return": None}
        return command

    return decorate
