"""`python -m jobs`: the command, where this code was shipped and its dependencies are the machine's own."""

from __future__ import annotations

import sys

try:
    from jobs.cli import main
except ModuleNotFoundError as error:
    sys.exit(
        f"Error: {sys.executable}, the `python` of the Ray cluster's head node, has no module "
        f"'{error.name}'; start Ray there in an environment that has lldeg's dependencies."
    )

main()
