"""Connecting to a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

from orchestrator.cluster.code_shipping import modules, packages
from orchestrator.config.environment import library_variables, set_library_environment
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECONDS_TO_CONNECT = 10.0
_SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextmanager
def ray_cluster(
    address: str | None, task_folders: Sequence[str] = (), *, ship_code: bool = False
) -> Iterator[None]:
    """Join the Ray cluster at an address, or start one on this machine; leave it at the end.

    A Ray cluster that is joined gets lldeg's code and the task files from here; its nodes need only the
    dependencies. One that is started belongs to this sweep alone, even if others run on this machine.

    Args:
        address: of a Ray cluster; None starts one here.
        task_folders: the sweep's own task files.
        ship_code: whether replicas here, too, run in environments without lldeg's code.

    Raises:
        UserError: there is no Ray cluster at the address.
    """
    set_library_environment()
    try:
        if address is None:
            _start(packages() if ship_code else [])
        else:
            _join(address, task_folders)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        what = "start Ray on this machine" if address is None else f"join the Ray cluster at {address}"
        raise UserError(f"Cannot {what}: {' '.join(str(error).split())}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _start(folders: Sequence[str]) -> None:
    shipped = {"runtime_env": {"py_modules": folders}} if folders else {}
    ray.init("local", include_dashboard=False, num_cpus=os.cpu_count(), **shipped, **_SILENT)


def _join(address: str, task_folders: Sequence[str]) -> None:
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection(
            (host, int(port)), SECONDS_TO_CONNECT
        ).close()  # Ray itself would try for minutes
    os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"  # within a Ray job: what the job shipped, and this
    with modules(task_folders) as folders:
        ray.init(address, runtime_env={"py_modules": folders, "env_vars": library_variables()}, **_SILENT)
