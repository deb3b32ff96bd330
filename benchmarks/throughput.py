"""What lldeg costs on top of vLLM, and what it saves against the usual loop, on the real model in one run.

Three ways to answer the same requests of the quickstart's baseline, in turn, each in fresh processes:

bare   one `vllm.LLM.generate` call with all requests, tokenized beforehand, nothing scored or written;
lldeg  `lldeg submit`: the same requests, tokenized, scored and written to Parquet;
loop   one fresh engine for every (temperature, seed), as a shell loop over the lm_eval command does it.

With --replicas N, N bare engines side by side, each with its part of cores and items, stand against
`lldeg submit` with N replicas, and the loop is left out.

Printed are samples per second while the engines are loaded and whole wall-clock times, as ratios of medians
over the rounds.

Run: python benchmarks/throughput.py [--rounds 3] [--limit 60] [--replicas 1] [--model FOLDER] [--tasks T …]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "quickstart.yaml"
BASELINE = "bf16"
SUBMIT = "from jobs.cli import main; main()"
TASKS = "LLDEG_BENCHMARK_TASKS"  # the variable by which further processes know them


def overrides(limit: int, model: str | None = None) -> list[str]:
    """The quickstart cut down to its baseline and so many items a task, on its own model or another."""
    only_baseline = json.dumps({BASELINE: {}})
    tasks = json.dumps([{"task": task, "limit": limit} for task in os.environ[TASKS].split()])
    sampling = json.dumps({"temperatures": [0.0, 0.7], "seeds": 3})
    settings = [f"variants={only_baseline}", f"tasks={tasks}", f"sampling={sampling}"]
    return settings if model is None else [*settings, f"model={model}"]


def cores_each(replicas: int) -> int:
    """Cores for one of several engines."""
    return max(1, (os.cpu_count() or 1) // replicas)


def side_by_side(engines: int) -> dict[str, str]:
    """What lets several bare engines share the cores; bound to cores of their own they are slower."""
    threads = str(cores_each(engines))
    return {"OMP_NUM_THREADS": threads, "VLLM_CPU_OMP_THREADS_BIND": "nobind"} if engines > 1 else {}


def bare(
    limit: int, cell: int | None, part: int, meeting: Path, model: str | None = None
) -> dict[str, float]:
    """Answer the requests of all reruns, or of one (temperature, seed), of a part of the items, in one call.

    The folder `meeting` holds a file for each part; the engine starts when all of them are gone.
    """
    from orchestrator.engines.vllm_kind import built_for_cpus

    on_cpu = bool(built_for_cpus())
    if on_cpu:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM  # the order of imports is that of a program which does nothing else

    from orchestrator.engines import vllm_requests
    from orchestrator.engines.tokenization import Encoding
    from orchestrator.engines.vllm_engine import engine_arguments
    from orchestrator.sweep.blocks import longest_first
    from orchestrator.sweep.plan import plan_sweep
    from orchestrator.sweep.prepare import prepare
    from orchestrator.workers.answer_block import queries_of

    with tempfile.TemporaryDirectory() as folder:
        sweep = prepare(CONFIG, overrides=overrides(limit, model), run_dir=folder)
        plan = plan_sweep(sweep, config_path=CONFIG)
    llm = LLM(**engine_arguments(sweep.variants[BASELINE], gpus=int(not on_cpu), on_cpu=on_cpu))
    engine = llm.llm_engine
    encoding = Encoding(engine.get_tokenizer(), int(engine.vllm_config.model_config.max_model_len))
    samples, requests, parts = 0, [], len(list(meeting.iterdir()))
    passes = sorted({rerun for task in plan.cells for rerun in task.reruns})
    for task in longest_first(plan.cells):
        built = sweep.built[sweep.renderings[BASELINE], task.task]
        wanted = [rerun for rerun in task.reruns if cell is None or rerun == passes[cell]]
        for item in task.items[part::parts]:
            for rerun in wanted:
                samples += 1
                asked = (queries_of(request, rerun, sweep.config.sampling) for request in built[item.item])
                for question in vllm_requests.questions(chain(*asked), shared=True):
                    requests += vllm_requests.prepare(question, encoding, shared=True)[1]
    (meeting / str(part)).unlink()
    while any(meeting.iterdir()):
        time.sleep(0.01)
    started = time.monotonic()
    llm.generate(
        [{"prompt_token_ids": tokens} for tokens, *_ in requests],
        [params for _, params, _ in requests],
        use_tqdm=False,
    )
    return {"samples": samples, "seconds": time.monotonic() - started, "cells": len(passes)}


def in_new_processes(
    limit: int, cell: int | None, engines: int = 1, model: str | None = None
) -> dict[str, float]:
    """`bare` in fresh processes, with their whole wall-clock time."""
    command = [sys.executable, "-P", __file__, "--bare", "--limit", str(limit)]
    command += [] if cell is None else ["--cell", str(cell)]
    command += [] if model is None else ["--model", model]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **side_by_side(engines)}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as meeting:
        for part in range(engines):
            (Path(meeting) / str(part)).touch()
        processes = [
            subprocess.Popen(
                [*command, "--meeting", meeting, "--part", str(part)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            for part in range(engines)
        ]
        outputs = [process.communicate()[0].decode() for process in processes]
    facts = [json.loads(output.strip().splitlines()[-1]) for output in outputs]
    return {
        "samples": sum(fact["samples"] for fact in facts),
        "seconds": sum(fact["seconds"] for fact in facts) / engines,
        "cells": facts[0]["cells"],
        "wall": time.monotonic() - started,
    }


def submitted(limit: int, replicas: int = 1, model: str | None = None) -> dict[str, float]:
    """`lldeg submit` into an empty folder, with the time its engines were loaded from the run's own log."""
    settings = overrides(limit, model)
    settings += [f"cluster.replicas={replicas}", f"cluster.cpus_per_replica={cores_each(replicas)}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-c", SUBMIT, "submit", str(CONFIG), "--run-dir", folder]
        for setting in settings:
            command += ["--set", setting]
        started = time.monotonic()
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        wall = time.monotonic() - started
        lines = (Path(folder) / "logs" / "events.jsonl").read_text().splitlines()
    closed = [event for event in map(json.loads, lines) if event["event"] == "closed"]
    seconds = sum(event["busy_seconds"] for event in closed) / replicas
    return {"samples": sum(event["samples"] for event in closed), "seconds": seconds, "wall": wall}


def looped(limit: int, cells: int, model: str | None = None) -> dict[str, float]:
    """One fresh engine per (temperature, seed)."""
    runs = [in_new_processes(limit, cell, model=model) for cell in range(cells)]
    return {key: sum(run[key] for run in runs) for key in ("samples", "seconds", "wall")}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="times each way is measured")
    parser.add_argument("--limit", type=int, default=60, help="items per task")
    parser.add_argument("--replicas", type=int, default=1, help="engines at the same time")
    parser.add_argument("--model", help="folder or name; default: the quickstart's")
    parser.add_argument("--tasks", nargs="+", default=["lldeg_quickstart"], help="of the quickstart's")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cell", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--meeting", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault(TASKS, " ".join(arguments.tasks))
    if arguments.bare:
        cell, part, meeting = arguments.cell, arguments.part, arguments.meeting
        print(json.dumps(bare(arguments.limit, cell, part, meeting, arguments.model)))
        return
    rounds = []
    for number in range(arguments.rounds):
        direct = in_new_processes(arguments.limit, None, arguments.replicas, arguments.model)
        ours = submitted(arguments.limit, arguments.replicas, arguments.model)
        rounds.append((direct, ours))
        print(f"round {number + 1}: bare {rate(direct):.1f}, lldeg {rate(ours):.1f} samples/s", flush=True)
    ratio = np.median([rate(ours) / rate(direct) for direct, ours in rounds])
    print(f"samples per second while the engines are loaded, lldeg / bare vLLM: {ratio:.3f}")
    if arguments.replicas > 1:
        return
    usual = looped(arguments.limit, int(rounds[0][0]["cells"]), arguments.model)
    whole = np.median([ours["wall"] for _, ours in rounds])
    print(f"whole time, loop of fresh engines / lldeg: {usual['wall'] / whole:.2f}")
    print(f"(whole seconds: loop {usual['wall']:.0f}, lldeg {whole:.0f}; medians of {len(rounds)} rounds)")


def rate(run: dict[str, float]) -> float:
    """Samples per second of the engines' time."""
    return run["samples"] / run["seconds"]


if __name__ == "__main__":
    main()
