"""What a user asks `lldeg submit` for; the fields are the command's arguments and options."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from orchestrator.errors import UserError
from orchestrator.extras import require

_RUN_DIR = "Run directory (path or URL); default: runs/NAME, with the sweep's name."
_ADDRESS = (
    "Ray cluster: auto, ray://… (driven from here) or http://… (runs as a Ray job); default: only this "
    "machine."
)
_DETACH = "With --address http://…: return once the job is running."
_FLIP_RATE = "For --dry-run: expected fraction of answers that flip; default: 0.1."
_FLIPS_OF = "For --dry-run: take the flip rates from this run."
_RATE = (
    "For --dry-run: tokens (prompts and answers) that all engines together process in a second; default: as "
    "in the last submit of the run."
)
_RETRY = "Run the samples again that ended in an error."
_DEGRADED = "Stop a variant as soon as it is known to be degraded."
_DECIDED = "Stop a variant as soon as it is degraded or certified."
_POLICY = (
    "Stop a variant as soon as this release policy is decided about it; with --until-decided, also to pass."
)
_FINISH = "Run what early stopping skipped; the verdicts do not change."
_SET = "Override a key of the configuration; repeatable."


@dataclass(frozen=True)
class SubmitRequest:
    """A sweep to run, and how.

    Raises:
        UserError: options contradict each other, or what a sweep needs is not installed.
    """

    config: Annotated[Path, Argument(metavar="CONFIG", help="YAML file of the sweep.", show_default=False)]
    run_dir: Annotated[str | None, Option(metavar="DIR", help=_RUN_DIR)] = None
    address: Annotated[str | None, Option(metavar="ADDR", help=_ADDRESS)] = None
    detach: Annotated[bool, Option("--detach", help=_DETACH)] = False
    dry_run: Annotated[bool, Option("--dry-run", help="Show what would run, and exit.")] = False
    flip_rate: Annotated[float | None, Option(metavar="P", help=_FLIP_RATE)] = None
    flips_of: Annotated[str | None, Option(metavar="RUN", help=_FLIPS_OF)] = None
    rate: Annotated[float | None, Option(metavar="TOKENS_PER_SECOND", help=_RATE)] = None
    retry_errors: Annotated[bool, Option("--retry-errors", help=_RETRY)] = False
    until_degraded: Annotated[bool, Option("--until-degraded", help=_DEGRADED)] = False
    until_decided: Annotated[bool, Option("--until-decided", help=_DECIDED)] = False
    policy: Annotated[Path | None, Option(metavar="FILE", help=_POLICY)] = None
    finish: Annotated[bool, Option("--finish", help=_FINISH)] = False
    set_: Annotated[list[str] | None, Option("--set", metavar="KEY=VALUE", help=_SET)] = None

    def __post_init__(self) -> None:
        require("sweeps", "lldeg submit")
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
        changes = [*(self.set_ or ()), *(f"stopping.until={name}" for name, given in until.items() if given)]
        if self.policy is not None:
            changes.append(f"stopping.policy={json.dumps(str(self.policy.absolute()))}")
        return changes
