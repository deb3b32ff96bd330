"""The `lldeg` command, and `python -m jobs` where this code was shipped and its dependencies were not."""

from __future__ import annotations

import sys

from jobs.exit_status import end_interrupted, end_on_signals


def main() -> None:
    """Run the command line; never returns."""
    end_on_signals()
    try:
        from jobs.cli import main as command  # noqa: PLC0415 - signals may come while it is imported
    except KeyboardInterrupt:
        end_interrupted()
    except ModuleNotFoundError as error:
        sys.exit(
            f"Error: {sys.executable}, the `python` of the Ray cluster's head node, has no module "
            f"'{error.name}'; start Ray there in an environment that has lldeg's dependencies."
        )
    command()


if __name__ == "__main__":
    main()
