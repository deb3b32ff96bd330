"""Connecting to a Ray cluster, or starting one on this machine."""

import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import RayError

from orchestrator.cluster.code_shipping import modules, packages
from orchestrator.cluster.processes import temporary_folder
from orchestrator.config.environment import library_variables, set_library_environment
from orchestrator.errors import UserError

SECONDS_TO_CONNECT = 10.0
LONGEST = 26  # characters of the folder around that of Ray's session
_SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextmanager
def ray_cluster(
    address: str | None, task_folders: Sequence[str] = (), *, ship_code: bool = False
) -> Iterator[None]:
    """Join the Ray cluster at an address, or (None) start one on this machine; leave it at the end.

    A Ray cluster that is joined gets lldeg's code and the task files from here; its nodes need only the
    dependencies. One that is started belongs to this sweep alone, even if others run on this machine, and no
    other user can read its files; they are removed at the end or, if this process is killed, by the next one.
    It gets lldeg's code only with `ship_code`: if replicas run in environments without it. A UserError says
    that there is no Ray cluster at the address.
    """
    set_library_environment()
    with ExitStack() as until_the_end:
        try:
            try:
                with _own_signal_handlers():
                    if address is not None:
                        _join(address, task_folders)
                    else:  # in a folder of ours: everybody may write to Ray's own
                        folder = until_the_end.enter_context(temporary_folder(folder_for_ray()))
                        own: dict[str, Any] = {"num_cpus": os.cpu_count(), "include_dashboard": False}
                        if ship_code:
                            own["runtime_env"] = {"py_modules": packages()}
                        ray.init("local", _temp_dir=f"{folder}/ray", **own, **_SILENT)
            except (OSError, ValueError, RuntimeError, RayError) as error:
                what = f"join the Ray cluster at {address}" if address else "start Ray on this machine"
                raise UserError(f"Cannot {what}: {' '.join(str(error).split())}") from None
            yield
        finally:
            ray.shutdown()


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep Ray's hands off signals that end the driver.

    Its handler of SIGTERM, set before it starts anything, would end this process with status 15. What it
    starts must live through a SIGHUP, which a terminal sends to all of its processes, or this one could not
    stop the sweep in order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where nobody sets handlers
        return
    ours, mask = signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    except SystemExit as end:
        signal.signal(signal.SIGTERM, ours)
        if end.code == signal.SIGTERM:
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, ours)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def folder_for_ray() -> str:
    """Where Ray would put its session, or /tmp if the names of its sockets would get too long there."""
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return folder if len(folder) <= LONGEST else "/tmp"  # noqa: S108 - nobody else can read what is made there


def _join(address: str, task_folders: Sequence[str]) -> None:
    if address not in {"auto", "local"}:
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        if parts.scheme != "ray" or not parts.hostname or not parts.port:
            raise ValueError("the address has the form ray://HOST:PORT, HOST:PORT or http://HOST:PORT.")
        # Ray itself would try for minutes.
        socket.create_connection((parts.hostname, parts.port), SECONDS_TO_CONNECT).close()
    os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"  # within a Ray job: what the job shipped, and this
    with modules(task_folders) as folders:
        ray.init(address, runtime_env={"py_modules": folders, "env_vars": library_variables()}, **_SILENT)
