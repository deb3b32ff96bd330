"""Log-likelihoods of choices that share a context against each choice alone, on the real model in one run.

One engine answers the same questions in both ways in turn: `letters`, whose choices are single tokens, and
`words`, of which half have several. Each round has examples of its own, so that none finds another's in the
cache. Printed are the prompt tokens that the engine itself counted as computed and the time, with the ratios
of the medians over the rounds; the largest difference of a log-likelihood, and how many questions differ in
their best choice. Alone is slow: with `--alone N` only the first N questions are asked in that way, too. It
computes whole prompts, as is checked on those, so the tokens of all are known; times are those per question.

Run: python -P benchmarks/loglikelihoods.py [--items 300] [--alone N] [--rounds 3] [--model FOLDER] …
"""

from __future__ import annotations

import argparse
import random
import time

import numpy as np
from prometheus_client import REGISTRY

from jobs.quickstart_model import FOLDER
from orchestrator.engines import kind_of
from orchestrator.engines.base import LOGLIKELIHOOD, EngineSpec, Query

THINGS = ("river", "table", "window", "garden", "letter", "summer", "winter", "doctor", "market", "forest")
LETTERS = "ABCDEFGHIJ"
OPTIONS = {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048, "disable_log_stats": False}


def questions(kind: str, items: int, shots: int, choices: int, round_number: int) -> list[Query]:
    """The choices of all questions of a round, one after another."""
    draw = random.Random(f"{kind}{round_number}")

    def question() -> tuple[str, list[str]]:
        ends = [f" {word}" for word in draw.sample(THINGS, choices)]
        if kind == "words":
            ends[::2] = [f"{end} and{draw.choice(ends)}" for end in ends[::2]]
        listed = "".join(f"{letter}.{end}\n" for letter, end in zip(LETTERS, ends, strict=False))
        text = f"What did the {draw.choice(THINGS)} of {draw.randrange(10**6)} show?\n{listed}Answer:"
        return text, [f" {letter}" for letter in LETTERS[:choices]] if kind == "letters" else ends

    examples = "".join(f"{text}{draw.choice(ends)}\n\n" for text, ends in (question() for _ in range(shots)))
    head = f"Questions of round {round_number}.\n\n{examples}"
    asked = [question() for _ in range(items)]
    return [Query(LOGLIKELIHOOD, (head + text, end)) for text, ends in asked for end in ends]


def computed() -> float:
    """Prompt tokens that the engine has computed so far, by its own counters."""
    samples = [sample for family in REGISTRY.collect() for sample in family.samples]
    total, cached = (
        sum(sample.value for sample in samples if sample.name == f"vllm:prompt_tokens{name}_total")
        for name in ("", "_cached")
    )
    return total - cached


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=300, help="questions a round")
    parser.add_argument("--alone", type=int, help="questions that are also asked alone")
    parser.add_argument("--rounds", type=int, default=3, help="times each way is measured")
    parser.add_argument("--shots", type=int, default=5, help="examples before each question")
    parser.add_argument("--choices", type=int, default=10, help="of each question, up to ten")
    parser.add_argument("--model", help="folder or name; default: the quickstart's")
    arguments = parser.parse_args()
    engine = kind_of(EngineSpec(arguments.model or str(FOLDER), options=OPTIONS)).load(gpus=0)
    for kind in ("letters", "words"):
        tokens, seconds = np.zeros((2, 2, arguments.rounds))  # by shared or alone, and round
        largest = differ = 0.0
        for number in range(arguments.rounds):
            asked = questions(kind, arguments.items, arguments.shots, arguments.choices, number)
            values = []
            for way, shared in enumerate((True, False)):  # alone comes second: it does not read the cache
                engine._shared = shared
                count = arguments.items if shared else arguments.alone or arguments.items
                before, started = computed(), time.monotonic()
                answers = engine.answer(asked[: count * arguments.choices])
                seconds[way, number] = (time.monotonic() - started) / count
                tokens[way, number] = computed() - before
                lengths = [one.prompt_tokens for one in answers]
                values.append(np.array([one.response[0] for one in answers]).reshape(count, -1))
                if shared:
                    whole = lengths
                elif tokens[way, number] != sum(lengths):
                    raise RuntimeError(f"{tokens[way, number]:.0f} of {sum(lengths)} tokens computed alone")
            tokens[1, number] = sum(whole)
            values[0] = values[0][:count]
            largest = max(largest, float(np.abs(values[0] - values[1]).max()))
            differ += (values[0].argmax(axis=1) != values[1].argmax(axis=1)).sum()
        print(f"{kind}: {len(asked):,} log-likelihoods a round, {arguments.rounds} rounds")
        for name, numbers in (("computed prompt tokens", tokens), ("seconds per question", seconds)):
            shared, alone = np.median(numbers, axis=1)
            print(f"  {name}: shared {shared:,.4g}, alone {alone:,.4g}, ratio {shared / alone:.3f}")
        print(
            f"  largest difference {largest:.1e}; {differ:.0f} questions with another best choice", flush=True
        )
    engine.close()


if __name__ == "__main__":
    main()
