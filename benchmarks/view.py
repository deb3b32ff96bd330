"""How fast `lldeg view` answers on a run of ten million samples, and how large a report.html gets.

    python benchmarks/view.py [--samples 10000000] [--folder DIR]

Two synthetic runs are written (and kept, if --folder is given). One has eight tasks, five models, ten seeds;
`lldeg view` serves it in a process of its own and is asked for pages of flips and for a text. The other has
25,000 items, a baseline and six variants and long texts; its report is written and, where Playwright and
Chromium are installed, opened.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import pyarrow as pa

from jobs.analysis.analyze import analyze
from jobs.analysis.request import AnalyzeRequest
from jobs.report.page import report
from orchestrator.rundir.schema import FORMAT, ITEMS, sample_schema
from orchestrator.rundir.store import RunStore

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from standin.tables import table_of

METRIC = "exact_match,none"
TEMPERATURE = 0.7
SERVE = "import sys, typer; from jobs.commands.view import view; sys.argv[0] = 'view'; typer.run(view)"
PAGES = 30


@dataclass(frozen=True)
class Shape:
    """A synthetic run: its size, its texts and how its samples lie in files."""

    models: int
    tasks: int
    items: int
    seeds: int
    prompt: int
    answer: int
    block: int


def make_run(folder: Path, shape: Shape) -> None:
    """Write a run whose last variant is two points worse than the rest."""
    store, random = RunStore(folder), np.random.default_rng(0)
    models, tasks = [f"model-{i}" for i in range(shape.models)], [f"task-{i}" for i in range(shape.tasks)]
    entry = {
        "digest": "t", "group": None, "output_type": "generate_until", "metric": METRIC, "items": shape.items,
        "metrics": {METRIC: {"higher_is_better": True}}, "filters": ["none"], "cluster": None,
        "reruns": [[TEMPERATURE, seed] for seed in range(shape.seeds)],
    }  # fmt: skip
    variants = {m: {"model": m, "revision": None, "engine": {}, "digest": m} for m in models}
    store.write_manifest(
        {
            "format": FORMAT,
            "name": folder.name,
            "versions": {},
            "variants": variants,
            "tasks": dict.fromkeys(tasks, entry),
        }
    )
    store.write_sweep(json.dumps({"name": folder.name, "baseline": models[0]}))
    words = np.array(["".join(chr(97 + c) for c in random.integers(0, 26, 7)) for _ in range(5_000)])
    for task in tasks:
        store.write_items(task, items(task, shape, words, random))
        difficulty = random.random(shape.items)
        for model in models:
            right = difficulty - (0.02 if model == models[-1] else 0.0)
            for start in range(0, shape.items, shape.block):
                block = np.arange(start, min(start + shape.block, shape.items))
                store.write_block(
                    model, task, f"{start:07d}", samples(block, right[block], shape, words, random)
                )


def text(words: np.ndarray, count: int, length: int, random: np.random.Generator) -> list[str]:
    """That many texts of about that length, every one another."""
    chosen = words[random.integers(0, words.size, (count, max(1, length // 8)))]
    return [" ".join(row) for row in chosen.tolist()]


def items(task: str, shape: Shape, words: np.ndarray, random: np.random.Generator) -> pa.Table:
    """The item table of a task."""
    hashes = [str(i) for i in range(shape.items)]
    return table_of(
        ITEMS,
        shape.items,
        task=pa.array([task] * shape.items),
        item=pa.array(range(shape.items), pa.int32()),
        doc_hash=pa.array(hashes),
        prompt_hash=pa.array(hashes),
        prompt=pa.array(text(words, shape.items, shape.prompt, random)),
        target=pa.array(hashes),
        doc=pa.array(["{}"] * shape.items),
    )


def samples(
    block: np.ndarray, right: np.ndarray, shape: Shape, words: np.ndarray, random: np.random.Generator
) -> pa.Table:
    """The samples of a block: all seeds of its items."""
    item, n = np.repeat(block, shape.seeds).astype(np.int32), block.size * shape.seeds
    score = (random.random(n) < np.repeat(right, shape.seeds)).astype(np.float64)
    hashes = pa.array(item.astype(str))
    return table_of(
        sample_schema([METRIC], ["none"]),
        n,
        item=item,
        doc_hash=hashes,
        prompt_hash=hashes,
        temperature=np.full(n, TEMPERATURE, dtype=np.float32),
        seed=np.tile(np.arange(shape.seeds, dtype=np.int32), block.size),
        scores=pa.StructArray.from_arrays([pa.array(score)], names=[METRIC]),
        response=pa.array(text(words, n, shape.answer, random)),
    )


def timed(address: str) -> tuple[float, bytes]:
    """Seconds an answer takes, and the answer."""
    start = time.perf_counter()
    with urlopen(address) as answer:
        content = answer.read()
    return time.perf_counter() - start, content


def measure_view(run: Path) -> None:
    """Serve a run and ask for its page, pages of flips and a text."""
    command = [sys.executable, "-c", SERVE, str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            run_address = f"{server.stdout.readline().split()[0]}runs/{run.name}"
            first, again = timed(f"{run_address}/")[0], timed(f"{run_address}/")[0]
            print(f"first look, with the analysis: {first:.2f} s; again: {again:.2f} s")
            measure_pages(f"{run_address}/flips")
            status = Path(f"/proc/{server.pid}/status").read_text()
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
            print(f"peak memory of the server: {int(peak) / 1024:.0f} MiB")
        finally:
            server.terminate()


def measure_pages(address: str) -> None:
    """Ask for pages of flips from anywhere, and for texts that few of them hold."""
    total = json.loads(timed(f"{address}?count=1")[1])["total"]
    starts = np.random.default_rng(1).integers(0, total - 20, PAGES).tolist()
    times = [1000 * timed(f"{address}?{urlencode({'start': start, 'count': 20})}")[0] for start in starts]
    print(f"a page of 20 of {total:,} flips: median {np.median(times):.0f} ms, slowest {max(times):.0f} ms")
    narrow = urlencode({"text": "zqa", "variant": "model-1", "task": "task-3"})
    print(f"a text sought in one task of one variant: {timed(f'{address}?{narrow}')[0]:.2f} s")
    print(f"a text sought everywhere: {timed(f'{address}?text=qzx')[0]:.2f} s")


def measure_report(run: Path, out: Path) -> None:
    """Write a report and, if a browser is there, open it."""
    analysis = analyze([str(run)], AnalyzeRequest())
    out.mkdir(exist_ok=True)
    start = time.perf_counter()
    path = out / "report.html"
    path.write_text(report(analysis), encoding="utf-8")
    flips = sum(result.comparison.worse + result.comparison.better for result in analysis.results)
    seconds = time.perf_counter() - start
    size = path.stat().st_size / 1e6
    print(f"report.html of 25,000 items × 6 variants, {flips:,} flips: {size:.2f} MB in {seconds:.1f} s")
    chromium = shutil.which("chromium")
    if chromium and find_spec("playwright"):
        open_report(path, chromium)


def open_report(path: Path, chromium: str) -> None:
    """Open a report in a browser and wait for its flips."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        page = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        start = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector(".flip")
        print(f"opened in Chromium, flips listed: {time.perf_counter() - start:.2f} s")


def main() -> None:
    """Make the runs and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        shapes = {
            "large": Shape(5, 8, options.samples // 400, seeds=10, prompt=300, answer=40, block=1_000),
            "broad": Shape(7, 10, 2_500, seeds=1, prompt=2_000, answer=800, block=500),
        }
        for name, shape in shapes.items():
            if not (folder / name).exists():
                make_run(folder / name, shape)
        measure_report(folder / "broad", folder / "broad-report")
        measure_view(folder / "large")


if __name__ == "__main__":
    main()
