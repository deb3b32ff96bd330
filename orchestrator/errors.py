"""The error that is shown to the user as one sentence instead of a traceback, and how errors are worded."""

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """Something the user asked for cannot be done.

    Its text is a whole sentence that says what is wrong, where, and what to do; the command line prints it as
    it is and exits with status 2.
    """


class AnswerWithheldError(Exception):
    """A provider has an answer and does not give it: a content filter, moderation, a failure of its own.

    In the error of a sample its name tells what was withheld from what failed.
    """


class RequestRefusedError(Exception):
    """A server refuses one request.

    It may do so for now only (a 400 that says "overloaded"), so the sample is asked for once more at the end.
    """


class PromptTooLongError(ValueError):
    """A prompt does not fit into the context of the model, and may not be cut."""


class ServerBusyError(Exception):
    """A server that answers other requests is too busy for one, however often it is asked (429)."""


def error_text(error: BaseException) -> str:
    """An exception as "class: message", on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:2000]


def counted(number: int, noun: str) -> str:
    """A number and what it counts: "1 sample", "1,200 samples"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def suggestion(word: str, known: Sequence[str]) -> str:
    """The words " (did you mean …?)" if something known is close, else nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
