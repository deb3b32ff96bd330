"""Runs `lldeg analyze` as the command line does, in this process."""

import json
from dataclasses import dataclass
from pathlib import Path

import typer
from typer.testing import CliRunner

from jobs.commands.analyze import analyze
from orchestrator.errors import UserError

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(analyze)


@dataclass
class Ran:
    """What a run of the command left."""

    code: int
    text: str
    out: Path
    error: str

    @property
    def verdicts(self):
        """Content of verdicts.json."""
        return json.loads((self.out / "verdicts.json").read_text())

    def comparison(self, variant, temperature=...):
        """The comparison of a variant (at a temperature)."""
        found = [c for c in self.verdicts["comparisons"] if c["variant"] == variant]
        return next(c for c in found if temperature is ... or c["temperature"] == temperature)


def run_analyze(*arguments, out):
    """Run the command; a user's error becomes exit status 2 and its sentence, as in the command line."""
    done = CliRunner().invoke(app, [str(a) for a in arguments] + ["--out", str(out)])
    if isinstance(done.exception, UserError):
        return Ran(2, done.output, out, str(done.exception))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.output, out, "")
