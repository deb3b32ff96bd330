"""Writing to a storage that may be away for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS_OF_PATIENCE = 300.0
LONGEST_PAUSE = 15.0

Result = TypeVar("Result")


def patiently(action: Callable[[], Result], trouble: Callable[[str], None] = print) -> Result:
    """Do something that a storage may refuse, again and again until it works or patience is at its end.

    Args:
        action: what to do; done again after an `OSError`.
        trouble: told each time why it has to be done again.

    Raises:
        OSError: the storage still refuses.
    """

    def tell(state: RetryCallState) -> None:
        trouble(f"lldeg: the storage refuses, trying again: {state.outcome and state.outcome.exception()}")

    retrying = Retrying(
        retry=retry_if_exception_type(OSError),
        wait=wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE),
        stop=stop_after_delay(SECONDS_OF_PATIENCE),
        before_sleep=tell,
        reraise=True,
    )
    result: Result = retrying(action)
    return result
