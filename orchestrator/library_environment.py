"""Environment variables for libraries, in the driver and in replicas: no usage reports, no progress bars."""

from __future__ import annotations

import os

_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def set_library_environment() -> None:
    """Set the variables that libraries read when they are imported; those that the user has set stay."""
    os.environ.update(library_variables())


def library_variables() -> dict[str, str]:
    """The same variables, for processes elsewhere."""
    return {name: os.environ.get(name, value) for name, value in _DEFAULTS.items()}
