"""`lldeg submit --address http://…`: the sweep as a Ray job, driven by the Ray cluster, not by this machine.

The job is `lldeg submit` again, on the cluster's head, with the code, the configuration and its own task
files shipped by Ray. Nothing of this machine's environment goes along, so that no token ends up in a job's
metadata: the nodes have their own.
"""

import asyncio
import logging
import shlex
import shutil
import time
import uuid
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import typer
import yaml
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from jobs.exit_status import INCOMPLETE
from jobs.submit.request import SubmitRequest
from orchestrator.cluster.code_shipping import copy_tasks, packages
from orchestrator.cluster.processes import temporary_folder
from orchestrator.config.environment import library_variables
from orchestrator.config.load import load_config
from orchestrator.config.schema import SweepConfig
from orchestrator.config.yaml_file import mistaken
from orchestrator.errors import UserError

PROGRAM = ("python", "-m", "jobs", "submit")
CONFIG, ITEMS, TASKS = "sweep.yaml", "items.json", "tasks"
RAYS_LAST_LINE = "Running entrypoint for job"
SECONDS_UNTIL_RUNNING = 120.0
EXITS = {JobStatus.SUCCEEDED: 0, JobStatus.STOPPED: INCOMPLETE}


def submit_job(request: SubmitRequest) -> int:
    """Submit a sweep as a Ray job to the job server at the request's address; returns the exit status.

    Raises:
        UserError: the configuration is invalid, or no job server answers at the address.
    """
    config, problems = load_config(request.config, request.overrides)
    if config is None or problems:
        raise mistaken(request.config, problems)
    url = request.run_dir or f"runs/{config.name}"
    if "://" not in url:
        url = str(Path(url).expanduser().absolute())
    logging.disable(logging.INFO)  # Ray's client logs every package
    try:
        client = JobSubmissionClient(str(request.address))
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Cannot reach a Ray job server at {request.address}: {reason}.") from None
    environment = {"py_modules": packages(), "env_vars": library_variables()}
    with temporary_folder() as temporary:
        folder = temporary / "job"
        folder.mkdir()
        _stage(config, folder)
        job = client.submit_job(
            submission_id=f"lldeg-{config.name}-{uuid.uuid4().hex[:8]}",
            entrypoint=entrypoint(in_the_job(request, url)),
            runtime_env=environment | {"working_dir": str(folder)},
            metadata={"run": url},
        )
    typer.echo(f"Submitted job {job} to {request.address}; run directory: {url}.")
    typer.echo(f"To watch it: lldeg status {url} · lldeg logs {url} --follow · to stop it: lldeg stop {url}")
    if "://" not in url and not Path(url).parent.is_dir():
        typer.echo("This machine cannot see that folder; run these commands on one that can.")
    return _until_running(client, job) if request.detach else _follow(client, job)


def in_the_job(request: SubmitRequest, url: str) -> SubmitRequest:
    """What the job is asked for: its own copy of the configuration, in which options are applied."""
    own: dict[str, Any] = {"set_": None, "policy": None, "until_degraded": False, "until_decided": False}
    return replace(request, config=Path(CONFIG), address="auto", run_dir=url, detach=False, **own)


def entrypoint(request: SubmitRequest) -> str:
    """The command line that makes a request; every field goes along, so no new option can be forgotten."""
    hints, words = get_type_hints(SubmitRequest, include_extras=True), [*PROGRAM]
    for field in fields(SubmitRequest):
        value, (parameter,) = getattr(request, field.name), hints[field.name].__metadata__
        if isinstance(parameter, typer.models.ArgumentInfo):
            words.append(str(value))
        elif value != field.default:
            named = parameter.default if isinstance(parameter.default, str) else None
            name = named or f"--{field.name.replace('_', '-')}"
            values = value if isinstance(value, list | tuple) else [value]
            words += [word for one in values for word in ([name] if one is True else [name, str(one)])]
    return shlex.join(words)


def _stage(config: SweepConfig, folder: Path) -> None:
    """Write the configuration, with the files it names beside it."""
    entries = config.model_dump(mode="json", exclude_unset=True)
    copies = copy_tasks(config.include_path, folder / TASKS)
    entries["include_path"] = [str(copy.relative_to(folder)) for copy in copies]
    if config.items is not None:
        shutil.copy(config.items, folder / ITEMS)
        entries["items"] = ITEMS
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    (folder / CONFIG).write_text(text, encoding="utf-8")


def _until_running(client: Any, job: str) -> int:
    """Wait until the job has printed something: that it is running, or why it cannot."""
    until = time.monotonic() + SECONDS_UNTIL_RUNNING
    while time.monotonic() < until:
        status, log = client.get_job_status(job), client.get_job_logs(job)
        if status.is_terminal():
            typer.echo(log, nl=False)
            return _exit_status(client, job)
        own_output = log.partition(RAYS_LAST_LINE)[2].partition("\n")[2].strip()
        if status == JobStatus.RUNNING and own_output:
            typer.echo("The job is running.")
            return 0
        time.sleep(1.0)
    typer.echo("The job has not started yet.")
    return 0


def _follow(client: Any, job: str) -> int:
    """Show what the job prints until it ends; Ctrl-C leaves the job alone."""

    async def tail() -> None:
        async for text in client.tail_job_logs(job):
            typer.echo(text, nl=False)

    try:
        asyncio.run(tail())
        while not client.get_job_status(job).is_terminal():
            time.sleep(0.5)
        return _exit_status(client, job)
    except KeyboardInterrupt:
        typer.echo(f"Job {job} is still running.")
        return INCOMPLETE
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Lost contact with job {job}; it may still be running: {reason}.") from None


def _exit_status(client: Any, job: str) -> int:
    """The exit status of the `lldeg submit` that was the job."""
    details = client.get_job_info(job)
    if details.status in EXITS:
        return EXITS[details.status]
    if details.driver_exit_code is None:
        raise UserError(f"Job {job} failed: {' '.join((details.message or '').split())}")
    return int(details.driver_exit_code)
