"""Environment variables that libraries read when they are imported, Ray among them.

Libraries are told, in the driver and in replicas, to send no usage reports and to draw no progress bars.
"""

import os
from contextlib import suppress
from pathlib import Path

HARMLESS_CALL = "/ray.rpc.NodeInfoGcsService/GetClusterId"
SECONDS_TO_ANSWER = 5.0
_LIBRARIES = {
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
    return {name: os.environ.get(name, value) for name, value in _LIBRARIES.items()}


def prepare_for_ray(address: str | None) -> None:
    """Set up Ray for a Ray cluster, before the first import of Ray; settings of the user stay.

    A Ray cluster that is started here listens on this machine's loopback interface only. One elsewhere gets
    the token if there is one, which Ray itself does for some kinds of address and not for others. A driver
    that uses tokens gets no answer from a Ray cluster without them, so that is tried first.
    """
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")
    if address is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # "0": all of it binds to 127.0.0.1
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets anything else slow the engines down
    elif os.environ.get("RAY_AUTH_TOKEN") or path.expanduser().is_file():
        if "://" not in address and ":" in address:  # else it cannot be asked
            import grpc  # noqa: PLC0415 - slow to import, and needed here only

            with suppress(grpc.RpcError), grpc.insecure_channel(address) as channel:
                channel.unary_unary(HARMLESS_CALL)(b"", timeout=SECONDS_TO_ANSWER)
                return  # it answers anyone; else it wants a token or is away, and joining it will tell
        os.environ.setdefault("RAY_AUTH_MODE", "token")
