"""What a user asks `lldeg submit` for; the fields are the command's arguments and options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.errors import UserError


@dataclass(frozen=True)
class SubmitRequest:
    """A sweep to run, and how.

    Raises:
        UserError: options contradict each other.
    """

    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file of the sweep.", show_default=False)
    ]
    run_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Run directory (path or URL); default: runs/NAME, with the sweep's name."
        ),
    ] = None
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR",
            help="Ray cluster: auto, ray://… (driven from here) or http://… (runs as a Ray job); "
            "default: only this machine.",
        ),
    ] = None
    detach: Annotated[
        bool, typer.Option("--detach", help="With --address http://…: return once the job is running.")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and exit.")] = False
    flip_rate: Annotated[
        float | None,
        typer.Option(
            metavar="P", help="For --dry-run: expected fraction of answers that flip; default: 0.1."
        ),
    ] = None
    flips_of: Annotated[
        str | None, typer.Option(metavar="RUN", help="For --dry-run: take the flip rates from this run.")
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="TOKENS_PER_SECOND",
            help="For --dry-run: tokens (prompts and answers) that all engines together process in a second; "
            "default: as in the last submit of the run.",
        ),
    ] = None
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Run the samples again that ended in an error.")
    ] = False
    until_degraded: Annotated[
        bool, typer.Option("--until-degraded", help="Stop a variant as soon as it is known to be degraded.")
    ] = False
    until_decided: Annotated[
        bool,
        typer.Option("--until-decided", help="Stop a variant as soon as it is degraded or certified."),
    ] = False
    finish: Annotated[
        bool, typer.Option("--finish", help="Run what early stopping skipped; the verdicts do not change.")
    ] = False
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the configuration; repeatable."),
    ] = None

    def __post_init__(self) -> None:
        if self.detach and not self.as_job:
            raise UserError("--detach needs a sweep that runs as a Ray job: add --address http://HEAD:8265.")
        if self.until_degraded + self.until_decided + self.finish > 1:
            raise UserError("Use only one of --until-degraded, --until-decided and --finish.")

    @property
    def as_job(self) -> bool:
        """Whether the address is that of a job server, on whose cluster the whole submit runs."""
        return self.address is not None and self.address.startswith(("http://", "https://"))

    @property
    def overrides(self) -> list[str]:
        """Changes of the configuration, "KEY=VALUE" each."""
        until = {"degraded": self.until_degraded, "decided": self.until_decided}
        return [*(self.set_ or ()), *(f"stopping.until={name}" for name, given in until.items() if given)]
