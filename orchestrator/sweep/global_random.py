"""The global random state of Python and numpy, from which some of lm-eval's tasks draw.

GPQA shuffles its choices with `random.shuffle` while it is loaded. `lm_eval.simple_evaluate` seeds that state
first, then loads its tasks and builds their requests. Each configured task or group gets a state of its own,
as in a call of `lm_eval` for it alone, so that its prompts depend neither on the other tasks of a sweep nor
on what else has drawn. (`datasets` caches how it shuffled data on disk, for lm-eval as for lldeg.)
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from types import TracebackType

PYTHON_SEED, NUMPY_SEED = 0, 1234  # the defaults of lm_eval.simple_evaluate


class GlobalRandom:
    """A state of the global generators, in place within `with` and kept up to date from one to the next."""

    def __init__(self, state: tuple[Any, Any] | None = None) -> None:
        self._state = state or (
            random.Random(PYTHON_SEED).getstate(),  # noqa: S311 - the same as lm-eval's, not a secret
            np.random.RandomState(NUMPY_SEED).get_state(),
        )

    def copy(self) -> GlobalRandom:
        """The same state, to continue from independently."""
        return GlobalRandom(self._state)

    def __enter__(self) -> None:
        self._elses = _current()
        _set(self._state)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._state = _current()
        _set(self._elses)


def _current() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()


def _set(state: tuple[Any, Any]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
