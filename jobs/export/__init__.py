"""Runs in the formats of other tools."""

from enum import StrEnum


class Target(StrEnum):
    """The formats of `lldeg export`."""

    EVERY_EVAL_EVER = "every-eval-ever"
    LM_EVAL = "lm-eval"
