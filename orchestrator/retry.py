"""Writing to a storage that may be away for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from orchestrator.errors import error_text

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS_OF_PATIENCE = 300.0
LONGEST_PAUSE = 15.0

Result = TypeVar("Result")


def patiently(action: Callable[[], Result], trouble: Callable[[str], None]) -> Result:
    """Do something that a storage may refuse, again and again until it works or patience is at its end.

    Args:
        action: what to do; done again after an `OSError`.
        trouble: told each time why it did not work, as "class: message".

    Raises:
        OSError: the storage still refuses.
    """

    def attempt() -> Result:
        try:
            return action()
        except OSError as error:
            trouble(error_text(error))
            raise

    retrying = Retrying(
        retry=retry_if_exception_type(OSError),
        wait=wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE),
        stop=stop_after_delay(SECONDS_OF_PATIENCE),
        reraise=True,
    )
    result: Result = retrying(attempt)
    return result
