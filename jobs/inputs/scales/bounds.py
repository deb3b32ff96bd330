"""How far scores can range, and how that is written: LOW..HIGH, or none."""

from orchestrator.errors import UserError
from stats.arrays import LARGEST_SCORE

Bounds = tuple[float, float]

UNBOUNDED: Bounds = (float("-inf"), float("inf"))
UNIT: Bounds = (0.0, 1.0)
PERCENT: Bounds = (0.0, 100.0)


def parse_range(text: str, where: str) -> Bounds:
    """Read a range: "0..10", or "none" for scores without one.

    Args:
        text: what was written.
        where: what to call it in the error.

    Raises:
        UserError: if it is neither.
    """
    if text.strip().lower() == "none":
        return UNBOUNDED
    low, _, high = text.partition("..")
    try:
        bounds = (float(low), float(high))
    except ValueError:
        bounds = UNBOUNDED
    if not -LARGEST_SCORE <= bounds[0] < bounds[1] <= LARGEST_SCORE:
        raise UserError(
            f"{where}: write a range as LOW..HIGH, such as 0..10, or none for scores without limits."
        )
    return bounds


def range_text(bounds: Bounds) -> str:
    """A range as `parse_range` reads it."""
    return "none" if bounds == UNBOUNDED else f"{bounds[0]!r}..{bounds[1]!r}"
