"""No usage reports and no libraries' progress bars, in the driver and in every replica."""

from __future__ import annotations

import os

_QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def be_quiet() -> None:
    """Set the environment variables that libraries read when they are imported; the user's own stay."""
    os.environ.update(quiet_environment())


def quiet_environment() -> dict[str, str]:
    """The same for processes elsewhere."""
    return {name: os.environ.get(name, value) for name, value in _QUIET.items()}
