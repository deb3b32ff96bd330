"""The formats of `lldeg export`."""

from enum import StrEnum


class Target(StrEnum):
    """The formats."""

    EVERY_EVAL_EVER = "every-eval-ever"
    LM_EVAL = "lm-eval"
