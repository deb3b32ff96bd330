"""The settings of the tests: what the user says, else what the input says, else the defaults.

`lldeg analyze`, `lldeg view` and the report take theirs from here, so that one run has one verdict.
"""

from typing import Any

from jobs.scores.score_set import ScoreSet
from orchestrator.errors import UserError
from stats.results import Settings


def choose_settings(
    book: ScoreSet, *, alpha: float | None = None, margin: float | None = None, **choices: Any
) -> Settings:
    """The settings for some scores.

    Args:
        book: the scores; a run brings the level and the margin of its sweep.
        alpha: level, None for the input's.
        margin: largest acceptable drop as a share of the range, None for the input's.
        **choices: further fields of `Settings`.

    Raises:
        UserError: if the level or the margin is out of range (it says where that one comes from), or a
            choice is none of those there are.
    """
    level = _chosen("alpha", alpha, book.alpha, Settings.alpha)
    share = _chosen("margin", margin, book.margin, Settings.margin)
    try:
        return Settings(alpha=level, margin=share, **choices)
    except ValueError as error:
        raise UserError(str(error)) from None


def _chosen(name: str, given: float | None, of_input: float | None, default: float) -> float:
    stated = of_input if given is None else given
    if stated is None:
        return default
    if not 0.0 < stated < 1.0:
        source = f"analysis.{name} of the sweep" if given is None else f"--{name}"
        raise UserError(f"{source} must be between 0 and 1, but is {stated:g}. Set it with --{name}.")
    return stated
