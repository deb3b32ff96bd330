"""The settings of the tests: what the user says, else what the input says, else the defaults.

`lldeg analyze`, `lldeg view` and the report take theirs from here, so that one run has one verdict.
"""

from typing import Any

from jobs.inputs.score_set import ScoreSet
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
        UserError: if the level or the margin is out of range; it says where that one comes from.
    """
    given = {"alpha": (alpha, book.alpha), "margin": (margin, book.margin)}
    stated = {
        name: own if own is not None else of_input
        for name, (own, of_input) in given.items()
        if own is not None or of_input is not None
    }
    for name, value in stated.items():
        if not 0.0 < value < 1.0:
            source = f"--{name}" if given[name][0] is not None else f"analysis.{name} of the sweep"
            raise UserError(
                f"{source} must lie between 0 and 1, but is {value:g}. Give another with --{name}."
            )
    return Settings(**stated, **choices)
