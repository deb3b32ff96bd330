"""Environment variables: those of a replica, which a configuration may set, and those that libraries read.

Libraries are told, in the driver and in replicas, to send no usage reports and to draw no progress bars.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from orchestrator.config.secrets import is_secret, is_secret_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIBRARIES = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def layered(*layers: object) -> dict[str, str]:
    """Variables as text, those of later layers over those of earlier ones; what is no mapping is left out."""
    mappings = [layer for layer in layers if isinstance(layer, dict)]
    return {str(name): str(value) for layer in mappings for name, value in layer.items()}


def problems_of(env: Any, place: str) -> Iterator[str]:
    """Why a value cannot be the environment of a replica, one sentence each.

    Args:
        env: the value.
        place: where it is in the configuration.
    """
    if env is None:
        return
    if not isinstance(env, dict):
        yield f"{place} must be a mapping of names to values, not {env!r}"
        return
    for name, value in env.items():
        if not _NAME.fullmatch(str(name)):
            yield f"{place}: '{name}' cannot be the name of an environment variable"
        elif is_secret_name(str(name)) or is_secret(str(value)):
            yield f"{place}: '{name}' looks like a secret; set it in the environment of the nodes instead"
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            yield f"{place}: {name} must be text or a number, not {value!r}"


def set_library_environment() -> None:
    """Set the variables that libraries read when they are imported; those that the user has set stay."""
    os.environ.update(library_variables())


def library_variables() -> dict[str, str]:
    """The same variables, for processes elsewhere."""
    return {name: os.environ.get(name, value) for name, value in _LIBRARIES.items()}
