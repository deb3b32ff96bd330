"""What the command line costs before it does anything, against importing Typer and Rich alone.

Every command runs in a fresh process, in turn with `python -c "import typer, rich"`; printed are the medians
of their CPU times (user and system) and the ratio. The aim for `lldeg --help` is 3 at most.

Run: python benchmarks/startup.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import numpy as np

BARE = "import typer, rich"
COMMANDS = {
    "lldeg --help": ["--help"],
    "lldeg --version": ["--version"],
    "lldeg status --help": ["status", "--help"],
    "lldeg submit --help": ["submit", "--help"],
    "lldeg analyze --help": ["analyze", "--help"],
}


def cpu_seconds(command: list[str]) -> float:
    """CPU time of one process, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    commands = {BARE: [sys.executable, "-c", BARE]}
    for name, arguments in COMMANDS.items():
        commands[name] = [sys.executable, "-m", "jobs", *arguments]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            spent = cpu_seconds(command)
            if number:  # the first round fills the caches
                seconds[name].append(spent)
    bare = float(np.median(seconds[BARE]))
    for name, spent in seconds.items():
        median = float(np.median(spent))
        print(f"{name:24} {median:6.3f} s of CPU, {median / bare:5.2f} times `{BARE}`")


if __name__ == "__main__":
    main()
