"""One command for a machine with a GPU: does what lldeg does with engines work there?

It answers the quickstart's tasks in bfloat16, with an FP8 KV cache and, with two GPUs, in tensor parallel;
kills a replica in mid-sweep and checks that the sweep completes, that no process is left and that the memory
of the GPU is free again; and compares samples per second with bare `vllm.LLM`. Without a GPU the same runs on
the CPU, where FP8 may be unsupported and there is no memory of a GPU to look at. The exit status is 1 if a
check fails.

Run: python benchmarks/gpu_check.py [--model FOLDER] [--limit 60]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
from throughput import CONFIG, ROOT, SUBMIT, in_new_processes, overrides, rate, submitted

from orchestrator.config.load import load_config, resolve
from orchestrator.hardware import this_machine

SECONDS_TO_DIE = 5
SECONDS_TO_END = 15
ROUNDING_MIB = 300  # by which other programs' use of a GPU may change meanwhile
MARK = f"LLDEG_CHECK_{uuid.uuid4().hex}"

Row = tuple[str, bool | None, str]
"""A check, whether it passed (None: it could not be made), and what was found."""


def used_mib() -> int | None:
    """Memory used on all GPUs; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return sum(map(int, subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()))


def start(run: Path, settings: list[str]) -> subprocess.Popen[str]:
    """Start `lldeg submit` with an environment that marks all processes it starts."""
    command = [sys.executable, "-P", "-c", SUBMIT, "submit", str(CONFIG), "--run-dir", str(run)]
    for setting in settings:
        command += ["--set", setting]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), MARK: "1"}
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )


def ours() -> list[psutil.Process]:
    """Living processes that carry the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if MARK in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def left_after(seconds: float, processes: list[psutil.Process] | None = None) -> list[str]:
    """Names of the processes that still live after so many seconds; by default of all that carry the mark."""
    until = time.monotonic() + seconds
    while True:
        left = [one for one in ours() if processes is None or one in processes]
        if not left or time.monotonic() > until:
            return [one.name() for one in left]
        time.sleep(0.2)


def events(run: Path) -> list[dict[str, Any]]:
    """What happened to replicas, in order."""
    log = run / "logs" / "events.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def engines(folder: Path, gpus: int, settings: list[str], heads: int) -> list[Row]:
    """Load the model and answer, in every way that the machine may know; tp2 is tensor parallel on 2 GPUs."""
    variants: dict[str, Any] = {"bf16": {"engine": {"dtype": "bfloat16"} if gpus else {}}}
    variants["kv-fp8"] = {"engine": {"kv_cache_dtype": "fp8"}, "skip_if_unsupported": True}
    rows: list[Row] = []
    if gpus < 2 or heads % 2:
        why = "one GPU" if gpus == 1 else "no GPU" if not gpus else f"{heads} heads cannot be divided by 2"
        rows.append(("tp2", None, why))
    else:
        variants["tp2"] = {"engine": {"tensor_parallel_size": 2}}
    run = folder / "engines"
    process = start(run, [*settings, f"variants={json.dumps(variants)}"])
    words = " ".join(process.communicate()[1].split())
    skipped = json.loads((run / "manifest.json").read_text())["skipped"] if process.returncode != 2 else {}
    closed = {event["variant"]: event for event in events(run) if event["event"] == "closed"}
    for name in variants:
        if name in skipped:
            rows.append((name, None, skipped[name]))
        elif name in closed:
            speed = closed[name]["samples"] / closed[name]["busy_seconds"]
            rows.append((name, True, f"{closed[name]['samples']} samples, {speed:.1f} a second"))
        else:
            rows.append((name, False, words[-200:]))
    return rows


def kill(folder: Path, settings: list[str], before: int | None) -> list[Row]:
    """Kill a replica as soon as it has written a block."""
    run = folder / "killed"
    process = start(run, settings)
    while not list(run.glob("samples/*/*/*.parquet")) and process.poll() is None:
        time.sleep(0.1)
    replica = next((one for one in ours() if one.name().startswith("ray::Replica")), None)
    if replica is None:
        return [("kill a replica", False, " ".join(process.communicate()[1].split())[-200:])]
    children = replica.children(recursive=True)
    replica.kill()
    left = left_after(SECONDS_TO_DIE, children)
    process.communicate()
    log = [event["event"] for event in events(run)]
    remaining, after = left_after(SECONDS_TO_END), used_mib()
    complete = process.returncode == 0
    rows: list[Row] = [
        ("its processes end", not left, f"{len(children)} children, left after {SECONDS_TO_DIE} s: {left}"),
        ("the sweep completes", complete, f"{log.count('died')} died, {log.count('loaded')} loaded"),
        ("no process is left", not remaining, f"after {SECONDS_TO_END} s: {remaining}"),
    ]
    if before is None or after is None:
        return [*rows, ("memory of the GPU is free", None, "no GPU")]
    freed = after <= before + ROUNDING_MIB
    return [*rows, ("memory of the GPU is free", freed, f"{before} MiB before, {after} MiB after")]


def main() -> None:
    """Check and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="folder of the model; default: the quickstart's")
    parser.add_argument("--limit", type=int, default=60, help="items per task")
    arguments = parser.parse_args()
    settings = overrides(arguments.limit, arguments.model)
    config, machine, before = load_config(CONFIG, settings)[0], this_machine(), used_mib()
    if config is None or machine is None:
        sys.exit("lldeg or torch is not installed as it should be")
    heads = json.loads((Path(resolve(config)["bf16"].model) / "config.json").read_text())[
        "num_attention_heads"
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows = engines(Path(folder), machine.gpus, settings, heads)
        rows += kill(Path(folder), settings, before)
    direct = in_new_processes(arguments.limit, None, model=arguments.model)
    lldeg = submitted(arguments.limit, model=arguments.model)
    ratio = rate(lldeg) / rate(direct)
    speeds = f"{rate(lldeg):.1f} and {rate(direct):.1f} samples a second: {ratio:.2f}"
    rows.append(("lldeg and bare vllm.LLM", True, speeds))
    print(f"| check | on {machine.gpu_name or 'the CPU'} | found |\n|---|---|---|")
    for name, passed, found in rows:
        print(f"| {name} | {'not made' if passed is None else 'passed' if passed else 'FAILED'} | {found} |")
    sys.exit(any(passed is False for _, passed, _ in rows))


if __name__ == "__main__":
    main()
