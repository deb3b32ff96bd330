"""Arguments that several commands have, and commands whose parameters are the fields of a request."""

from collections.abc import Callable
from inspect import signature
from typing import Annotated, Any, TypeVar

import typer

Request = TypeVar("Request")

Run = Annotated[str, typer.Argument(metavar="RUN", help="Run directory (path or URL).", show_default=False)]


def takes(request: Callable[..., Request]) -> Callable[[Callable[[Request], None]], Callable[..., None]]:
    """Have Typer make the parameters of a command from a class whose fields are annotated with them."""

    def decorate(run: Callable[[Request], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            run(request(**values))

        command.__doc__ = run.__doc__
        command.__signature__ = signature(request)  # type: ignore[attr-defined]
        return command

    return decorate
