"""What Ray has to find in the environment when it is imported."""

from __future__ import annotations

import os
from pathlib import Path


def prepare_for_ray(address: str | None) -> None:
    """Set up Ray for a cluster; must come before the first import of Ray. The user's own settings stay.

    A cluster that is started here listens on this machine's loopback interface only. A cluster elsewhere gets
    its token wherever there is one, which Ray itself does for some kinds of address and not for others.
    """
    if address is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # "0": all of it binds to 127.0.0.1
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets anything else slow the engines down
    elif _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _has_token() -> bool:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(path).expanduser().is_file()
