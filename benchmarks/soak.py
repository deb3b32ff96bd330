"""Many sweeps on a real Ray cluster of this machine, each disturbed by kills at random moments.

A trial kills a replica, a node or the driver (and submits again), one to three of them in any order; in a
quarter of the trials a prompt besides kills every engine that reads it. Afterwards every key has to stand
once, no row may be an error but those of that prompt, and `lldeg analyze` must give what it gives for an
undisturbed sweep. The engine is a stand-in. A seed names a trial; run it again with --first SEED --trials 1.
With --stopping the sweep stops its variants early, and looks.json and the ledger have to be the same, too.
With --hostile its server misbehaves in every way of tests/standin/hostile.py and is itself killed; then every
sample has to be what the server makes of it, with the score of its text or none.

Run: python benchmarks/soak.py [--trials 50 | --kills 200] [--first 1] [--stopping | --hostile]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import uuid
from collections import Counter
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def prepare() -> None:
    """What all processes of the cluster have to find in their environment before they import Ray."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.environ |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": uuid.uuid4().hex,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # all of it binds to 127.0.0.1
        "RAY_TMPDIR": tempfile.mkdtemp(prefix="lldeg-ray-"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--first", type=int, default=1, help="seed of the first trial")
    parser.add_argument("--kills", type=int, default=0, help="end after so many, instead of after --trials")
    parser.add_argument("--stopping", action="store_true", help="let the sweep stop its variants early")
    parser.add_argument("--hostile", action="store_true", help="ask a server that misbehaves")
    arguments = parser.parse_args()
    prepare()
    from standin.hostile_soak import HostileSoak
    from standin.soak import Soak
    from standin.stopping_soak import StoppingSoak

    folder = Path(tempfile.mkdtemp(prefix="lldeg-soak-"))
    kills: Counter[str] = Counter()
    events: Counter[str] = Counter()
    failed, seconds, submits, deadly = [], [], 0, 0
    kind = HostileSoak if arguments.hostile else StoppingSoak if arguments.stopping else Soak
    with kind(folder) as soak:
        for seed in count(arguments.first):
            if kills.total() >= arguments.kills if arguments.kills else len(seconds) >= arguments.trials:
                break
            trial = soak.trial(seed)
            told = ", ".join(trial.done) or "nothing"
            outcome = "; ".join(trial.problems) or "as undisturbed"
            print(
                f"trial {seed}: killed {told}; {trial.submits} submits, {trial.seconds:.1f} s: {outcome}",
                flush=True,
            )
            kills.update(trial.done)
            events.update(trial.events)
            submits += trial.submits
            deadly += trial.deadly
            seconds.append(trial.seconds)
            failed += [seed] if trial.problems else []
    print(f"{len(seconds)} trials, {deadly} of them with a deadly prompt; {submits} submits")
    print(f"killed: {', '.join(f'{number} x {what}' for what, number in sorted(kills.items()))}")
    print(f"noted: {', '.join(f'{number} x {what}' for what, number in sorted(events.items()))}")
    print(f"seconds a trial: {min(seconds):.1f} to {max(seconds):.1f}, {sum(seconds):.0f} in all")
    print(f"not as undisturbed: {failed or 'none'}" + (f"; what they left: {folder}" if failed else ""))
    if not failed:
        for path in (folder, os.environ["RAY_TMPDIR"]):
            shutil.rmtree(path, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
