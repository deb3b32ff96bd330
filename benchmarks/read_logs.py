"""How fast the answers of another tool are read, beside `json.loads` over the same bytes.

    python benchmarks/read_logs.py [--samples 1000000]

Two files of samples in the schema of Every Eval Ever are written, half of the samples each, with prompts and
responses of some hundred characters. They are parsed line by line and nothing else, then read for `lldeg
analyze`: as what they are, and as JSON Lines with named columns; each in a process of its own, so that
peak memory is its own. Imports do not count.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs.formats.columns import parse_columns
from jobs.formats.registry import formats
from jobs.formats.samples import InputQuery
from jobs.scores.read import read_scores

ROUNDS = 3
COLUMNS = ["item=sample_id,score=evaluation.score,variant=model_id,prompt=input.raw,response=output.raw"]


def write(path: Path, model: str, samples: int) -> None:
    """Write a sample file."""
    rng = random.Random(model)
    text = "Which of the following statements explains best why the sky is blue? " * 5
    with path.open("w") as file:
        for i in range(samples):
            row = {
                "schema_version": "0.3.0",
                "model_id": model,
                "evaluation_name": "bench",
                "sample_id": f"s{i}",
                "sample_hash": f"{i:064x}",
                "input": {"raw": f"{i}. {text}", "reference": ["4"]},
                "output": {"raw": [f"{text} {rng.random()}"]},
                "evaluation": {"score": float(rng.random() < 0.7), "is_correct": True},
                "token_usage": {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17},
            }
            file.write(json.dumps(row) + "\n")


def parse(folder: str) -> None:
    """Parse every line, and nothing else."""
    for path in Path(folder).glob("*.jsonl"):
        with path.open("rb") as file:
            for line in file:
                json.loads(line)


def read(folder: str) -> None:
    """Read the scores as `lldeg analyze` does."""
    read_scores(sorted(str(path) for path in Path(folder).glob("*.jsonl")))


def read_columns(folder: str) -> None:
    """Read them as `lldeg analyze --columns` does."""
    paths = sorted(str(path) for path in Path(folder).glob("*.jsonl"))
    read_scores(paths, InputQuery(columns=parse_columns(COLUMNS)))


PARTS = {"parse": parse, "Every Eval Ever": read, "named columns": read_columns}


def timed(part: str, folder: Path) -> tuple[float, float]:
    """CPU seconds and peak memory in GiB of one part."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


def main() -> None:
    """Write, parse, read, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--folder")
    parser.add_argument("--part", choices=list(PARTS))
    given = parser.parse_args()
    if given.part:
        formats()
        start = time.process_time()
        PARTS[given.part](given.folder)
        print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    with tempfile.TemporaryDirectory() as scratch:
        for model in ("base", "int4"):
            write(Path(scratch) / f"{model}_samples.jsonl", model, given.samples // 2)
        rounds = [[timed(part, Path(scratch)) for part in PARTS] for _ in range(ROUNDS)]
        (parsed, _), *best = (min(times) for times in zip(*rounds, strict=True))
        print(f"{given.samples:,} samples: json.loads {parsed:.1f} s")
        for part, (seconds, memory) in zip(list(PARTS)[1:], best, strict=True):
            ratio = f"ratio {seconds / parsed:.2f} (2 is half of the speed)"
            print(f"  {part}: {seconds:.1f} s and {memory:.2f} GiB, {ratio}")


if __name__ == "__main__":
    main()
