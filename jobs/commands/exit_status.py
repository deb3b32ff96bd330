"""Exit statuses that commands share; 0 is success, and errors of a user end in 2 (`jobs.cli`)."""

INCOMPLETE = 3
"""Samples of a run are missing."""
