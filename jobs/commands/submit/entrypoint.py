"""The command line of `lldeg submit` as a Ray job, made from the parameters of the command itself.

Every option the user gives goes along unless it is replaced by name, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = ("python", "-m", "jobs", "submit")


def entrypoint(command: Any, given: Mapping[str, Any], replaced: Mapping[str, Any]) -> str:
    """The command line.

    Args:
        command: Click's command, which knows its parameters.
        given: the user's values by name of the parameter.
        replaced: values that the job gets instead; None or empty leaves an option out.
    """
    values = {**given, **replaced}
    words = [word for one in command.params for word in _words(one, values.get(one.name))]
    return shlex.join([*PROGRAM, *words])


def _words(parameter: Any, value: Any) -> list[str]:
    """A parameter as words of a command line; none for a value that is the default in any case."""
    if parameter.param_type_name == "argument":
        return [str(value)]
    if value is None:
        return []
    option = parameter.opts[0]
    if parameter.is_flag:
        return [option] if value else parameter.secondary_opts[:1]
    values = value if parameter.multiple else [value]
    return [word for one in values for word in (option, str(getattr(one, "value", one)))]
