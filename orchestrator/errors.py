"""The errors that end in one sentence for the user instead of a traceback."""


class UserError(Exception):
    """Something the user asked for cannot be done.

    Its text is a whole sentence that says what is wrong, where, and what to do about it; the command line
    prints it as it is and exits with status 2.
    """
