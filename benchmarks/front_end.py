"""What lldeg itself costs between a block and vLLM: CPU time of an answer, and memory of a block.

An engine that answers at once stands in for vLLM's and returns what it would, a number for each prompt token.
It answers a block of questions with ten choices in turn with shared contexts and with each choice alone, and
one of texts of which each has a seed of its own, in fresh processes. Printed are microseconds of CPU per
answer, of the tokenizer and of everything else, and by how much the memory of the process grew.

Run: python -P benchmarks/front_end.py [--requests 7000] [--tokens 1000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import AutoTokenizer

from jobs.quickstart_model import FOLDER
from orchestrator.engines import vllm_engine
from orchestrator.engines.base import GENERATE, LOGLIKELIHOOD, Query
from orchestrator.engines.tokenization import Encoding

if TYPE_CHECKING:
    from collections.abc import Iterable

CHOICES, BATCH = "ABCDEFGHIJ", 256


class Instant:
    """In place of vLLM's engine: answers a batch in a step."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()

    def add_request(self, name: str, prompt: dict[str, list[int]], params: Any, **_: Any) -> None:
        """Take a request."""
        tokens, firsts = prompt["prompt_token_ids"], params.logprob_token_ids
        scored = [0, *firsts] if firsts else [] if params.prompt_logprobs is None else tokens[1:]
        columns = {"token_ids": [*scored], "logprobs": [-float(place) for place in range(len(scored))]}
        flat = SimpleNamespace(**columns, ranks=[2] * len(scored))
        outputs = [SimpleNamespace(logprobs=flat, token_ids=[0], text="0", finish_reason="stop")]
        known = {"prompt_token_ids": [*tokens], "prompt_logprobs": flat, "outputs": outputs}
        self._waiting.append(SimpleNamespace(request_id=name, finished=True, num_cached_tokens=0, **known))

    def step(self) -> list[Any]:
        """Answer a batch."""
        return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]


def engine_on(stand_in: Instant, *, shared: bool) -> vllm_engine.VllmEngine:
    """LLDEG's engine around a stand-in, without loading vLLM."""
    vllm_engine.refusals = lambda: (ValueError,)
    engine = vllm_engine.VllmEngine.__new__(vllm_engine.VllmEngine)
    engine._feeding, engine._wake, engine._arrivals = threading.Lock(), threading.Event(), deque()
    engine._room, engine._death, engine._lora = threading.Semaphore(2 * BATCH), None, None
    engine._closing = False
    engine._failures, engine._asks, engine._shared = 0, False, shared
    engine._encoding = Encoding(AutoTokenizer.from_pretrained(FOLDER), 1 << 20)
    threading.Thread(target=engine._drive, args=(stand_in,), daemon=True).start()
    return engine


def memory(which: str) -> int:
    """Resident memory of this process in bytes: VmRSS, or the most it was, VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(which))


def measure(requests: int, tokens: int, way: str) -> dict[str, float]:
    """One block in this process."""
    engine = engine_on(Instant(), shared=way == "shared")
    settings = {"until": ["\n\n"], "max_gen_toks": 64, "temperature": 0.7, "do_sample": True}
    queries = []
    for number in range(requests):
        question = f"{number // len(CHOICES)}" + " word" * (tokens - 4) + "\nAnswer:"
        queries.append(Query(LOGLIKELIHOOD, (question, f" {CHOICES[number % len(CHOICES)]}")))
        if way == "texts":
            queries[-1] = Query(GENERATE, (question, settings), seed=number)
    engine.answer(queries[: len(CHOICES)])
    encode, encoding = engine._encoding.encode_ahead, 0.0

    def timed(some: Iterable[Query]) -> None:
        nonlocal encoding
        began = time.thread_time()
        encode(some)
        encoding += time.thread_time() - began

    engine._encoding.encode_ahead = timed
    before, started = memory("VmRSS"), time.process_time()
    engine.answer(queries)
    rest = time.process_time() - started - encoding
    own = {"tokenizer": 1e6 * encoding / len(queries), "rest": 1e6 * rest / len(queries)}
    return {**own, "mebibytes": (memory("VmHWM") - before) / 2**20}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=7000, help="answers in the block")
    parser.add_argument("--tokens", type=int, default=1000, help="of each prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments.requests, arguments.tokens, arguments.way)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ("shared", "alone", "texts")}
    for _ in range(arguments.rounds):
        for way, rounds in found.items():
            command = [sys.executable, "-P", __file__, "--way", way]
            command += ["--requests", str(arguments.requests), "--tokens", str(arguments.tokens)]
            one_thread = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}  # whose time can be told apart
            rounds.append(json.loads(subprocess.check_output(command, env=one_thread)))
    for way, rounds in found.items():
        tokenizer, rest, grown = (np.median([one[name] for one in rounds]) for name in rounds[0])
        print(f"{way}: tokenizer {tokenizer:.0f} µs, rest {rest:.0f} µs, {grown:.0f} MiB more memory")


if __name__ == "__main__":
    main()
