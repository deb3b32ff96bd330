"""What stands in a run directory, read without the product's own code."""

import json
from collections import Counter

import pyarrow.dataset as ds
import pyarrow.parquet as pq


def block_files(run, variant="*"):
    """The Parquet files of samples, in order."""
    return sorted((run / "samples").glob(f"variant={variant}/task=*/*.parquet"))


def contents(files):
    """Bytes and time of change of files, by path."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def events(run, kind):
    """What happened of one kind, such as "loaded", in order; empty as long as there is no log."""
    log = run / "logs" / "events.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def samples(run, folder="samples"):
    """All samples, or scores of the baseline's answers, as dictionaries, variant and task included."""
    return ds.dataset(run / folder, partitioning="hive").to_table().to_pylist()


def identities(run):
    """How often each (variant, task, item, temperature, seed) stands in a run."""
    columns = ("variant", "task", "item", "temperature", "seed")
    return Counter(tuple(round_(row[column]) for column in columns) for row in samples(run))


def round_(value):
    """A temperature without the noise of 32 bits."""
    return round(value, 5) if isinstance(value, float) else value


def planned(run, variants=None):
    """Every identity the manifest's own description of the run asks for, once each."""
    manifest = json.loads((run / "manifest.json").read_text())
    return Counter(
        (variant, task, item, round_(float(temperature)), seed)
        for variant in variants or manifest["variants"]
        for task, entry in manifest["tasks"].items()
        for item in pq.read_table(run / "items" / f"{task}.parquet")["item"].to_pylist()
        for temperature, seed in entry["reruns"]
    )
