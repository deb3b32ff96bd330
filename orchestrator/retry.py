"""Retrying storage operations: an object store or a network disk may be unavailable for a while."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from orchestrator.errors import error_text

RETRY_SECONDS = 300.0
LONGEST_PAUSE = 15.0

Result = TypeVar("Result")


def retry_storage(action: Callable[[], Result], report: Callable[[str], None]) -> Result:
    """Do something again after each `OSError`, reported as "class: message", for up to `RETRY_SECONDS`.

    Then the last error is raised.
    """

    def attempt() -> Result:
        try:
            return action()
        except OSError as error:
            report(error_text(error))
            raise

    retrying = Retrying(
        retry=retry_if_exception_type(OSError),
        wait=wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE),
        stop=stop_after_delay(RETRY_SECONDS),
        reraise=True,
    )
    result: Result = retrying(attempt)
    return result
