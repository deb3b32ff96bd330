"""How long `lldeg analyze` takes on a large run, beside a bare pyarrow read of the columns it needs.

    python benchmarks/analyze_scale.py [--rows 20000000] [--folder DIR]

A synthetic run of ten models, twenty tasks and twenty seeds is written (and kept, if --folder is given), then
read by pyarrow alone and analyzed, each in a process of its own so that peak memory is its own. Pyarrow reads
twice: into memory, and as a stream of which nothing is kept. The analysis runs first on half of the items, to
show that time grows with the rows.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import yaml

from orchestrator.rundir.schema import FORMAT, ITEMS, sample_schema
from orchestrator.rundir.store import RunStore

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from standin.tables import table_of

MODELS, TASKS, SEEDS, BLOCK_ITEMS = 10, 20, 20, 250
METRIC = "exact_match,none"
TEMPERATURE = 0.7
ROUNDS = 3


def make_run(folder: Path, items: int) -> None:
    """Write a run of MODELS × TASKS × items × SEEDS samples, the last model being two points worse."""
    models = [f"model-{i}" for i in range(MODELS)]
    tasks = [f"task-{i}" for i in range(TASKS)]
    entry = {
        "digest": "t", "group": None, "output_type": "generate_until", "metric": METRIC, "items": items,
        "filters": ["none"], "metrics": {METRIC: {"higher_is_better": True}}, "cluster": None,
        "reruns": [[TEMPERATURE, seed] for seed in range(SEEDS)],
    }  # fmt: skip
    manifest = {
        "format": FORMAT, "name": "scale", "versions": {},
        "variants": {m: {"model": m, "revision": None, "engine": {}, "digest": m} for m in models},
        "tasks": dict.fromkeys(tasks, entry),
    }  # fmt: skip
    store = RunStore(folder)
    store.write_manifest(manifest)
    store.write_sweep(yaml.safe_dump({"name": "scale", "baseline": models[0]}))
    random = np.random.default_rng(0)
    for task in tasks:
        difficulty = random.random(items)
        hashes = [random.bytes(32).hex() for _ in range(items)]
        store.write_items(task, item_table(task, hashes))
        for model in models:
            right = difficulty - (0.02 if model == models[-1] else 0.0)
            for start in range(0, items, BLOCK_ITEMS):
                block = np.arange(start, min(start + BLOCK_ITEMS, items))
                store.write_block(model, task, str(start), samples(block, right[block], hashes, random))


def item_table(task: str, hashes: list[str]) -> pa.Table:
    """The items of a task."""
    n = len(hashes)
    hashed = pa.array(hashes)
    numbers = pa.array(range(n), pa.int32())
    return table_of(ITEMS, n, task=pa.array([task] * n), item=numbers, doc_hash=hashed, prompt_hash=hashed)


def samples(block: np.ndarray, right: np.ndarray, hashes: list[str], random: np.random.Generator) -> pa.Table:
    """The samples of a block: all seeds of its items."""
    item = np.repeat(block, SEEDS).astype(np.int32)
    score = (random.random(item.size) < np.repeat(right, SEEDS)).astype(np.float64)
    hashed = pa.DictionaryArray.from_arrays(
        np.repeat(np.arange(block.size), SEEDS), [hashes[i] for i in block]
    )
    return table_of(
        sample_schema([METRIC], ["none"]),
        item.size,
        item=item,
        doc_hash=hashed.cast(pa.string()),
        prompt_hash=hashed.cast(pa.string()),
        temperature=np.full(item.size, TEMPERATURE, dtype=np.float32),
        seed=np.tile(np.arange(SEEDS, dtype=np.int32), block.size),
        scores=pa.StructArray.from_arrays([pa.array(score)], names=[METRIC]),
        response=pa.array(score.astype(int).astype(str)),
    )


def needed(run: str) -> tuple[ds.Dataset, dict[str, ds.Expression]]:
    """The samples of a run, and the columns that a test needs."""
    names = ("variant", "task", "item", "temperature", "seed", "prompt_hash")
    columns = {name: ds.field(name) for name in names} | {"score": ds.field("scores", METRIC)}
    return ds.dataset(f"{run}/samples", format="parquet", partitioning="hive"), columns


def bare_read(run: str) -> None:
    """Read the columns into memory, and nothing else."""
    data, columns = needed(run)
    print(f"{data.to_table(columns=columns).num_rows} rows")


def bare_stream(run: str) -> None:
    """Let the columns stream by, keeping nothing."""
    data, columns = needed(run)
    print(f"{sum(batch.num_rows for batch in data.to_batches(columns=columns))} rows")


def analyze_run(run: str) -> None:
    """What `lldeg analyze RUN` does."""
    import typer

    from jobs.commands.analyze import analyze

    app = typer.Typer()
    app.command()(analyze)
    app([run], standalone_mode=False)


def timed(what: str, run: Path) -> tuple[float, float]:
    """Seconds and peak memory in GiB of one part, in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--part", what, "--folder", str(run)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode not in {0, 1}:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - start, float(done.stderr.strip().splitlines()[-1]) / 2**20


def main() -> None:
    """Generate, read, analyze, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--part", choices=["bare_read", "bare_stream", "analyze_run"])
    given = parser.parse_args()
    if given.part:
        globals()[given.part](str(given.folder))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as scratch:
        for share in (0.5, 1.0):
            items = int(share * given.rows) // (MODELS * TASKS * SEEDS)
            run = (given.folder or Path(scratch)) / f"scale-{items}"
            if not run.exists():
                make_run(run, items)
            report(run, MODELS * TASKS * SEEDS * items)


def report(run: Path, rows: int) -> None:
    """Time all parts on one run in turn, and keep the best of each: a busy machine only ever adds time."""
    parts = ("bare_read", "bare_stream", "analyze_run")
    rounds = [[timed(part, run) for part in parts] for _ in range(ROUNDS)]
    (read, read_memory), (stream, _), (analysis, memory) = (min(times) for times in zip(*rounds, strict=True))
    print(f"{rows:,} rows: bare read {read:.1f} s and {read_memory:.2f} GiB, streamed by {stream:.1f} s")
    print(f"  analyze {analysis:.1f} s and {memory:.2f} GiB; {1e6 * analysis / rows:.2f} s per million rows")
    print(f"  ratio {analysis / read:.2f} to the read, {analysis / stream:.2f} to the stream", flush=True)


if __name__ == "__main__":
    main()
