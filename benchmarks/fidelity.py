"""What a fidelity pass costs, and whether it warns before accuracy does, on the quickstart's model.

cost   One engine answers questions freely, with some seeds and perhaps after examples, and scores an answer
       to each that it has not written, as a variant would: the time of both.
early  Items of the quickstart at temperature 0 by graded damages: weights rounded to 8 … 3 bits, 8-bit KV
       caches where the machine has them, a repetition penalty that one side does not know of (in a run of its
       own, since its distributions before the penalty are the same), and a wrong chat template (in one with
       chat prompts). Printed are drop and KL divergence, and from how many items, drawn 200 times, accuracy
       (exact one-sided test) and fidelity (two-sided, against the control's) find each in 80 % of the draws,
       at .05; then how drops and divergences correlate.

Run: python -P benchmarks/fidelity.py [cost | early] [--items 500] [--seeds 1] [--shots] [--limit 40] …
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise, product, repeat
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import pearsonr, spearmanr

from jobs.quickstart_model import FOLDER
from jobs.round_weights import round_folder
from jobs.scores.read import read_scores
from orchestrator.engines import kind_of
from orchestrator.engines.base import GENERATE, TOKENS, EngineSpec, Query
from orchestrator.engines.kind import Tokenizer
from orchestrator.hardware import this_machine
from orchestrator.sweep.prompts import ChatTemplate
from stats.change import flip_p
from stats.signflip import SignFlipTest

ROOT = Path(__file__).resolve().parent.parent
PACK = str(ROOT / "configs" / "tasks" / "quickstart")
SUBMIT = "from jobs.cli import main; main()"
ENGINE = {
    "kind": "vllm",
    "max_model_len": 512,
    "max_num_seqs": 128,
    "block_size": 32,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 2 << 30,
}
CONTROL = {"engine": {"max_num_seqs": 96}, "control": True}
TOP, SIZES, DRAWS, POWER, ALPHA = 20, (5, 10, 20, 40, 80, 160, 320, 1000), 200, 0.8, 0.05
WRONG_TEMPLATE = (
    "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"  # of another family of models
)
ASKED = (
    "Explain in a few sentences why {} is useful to people.",
    "Write a short story about {} and a child.",
    "List five facts about {}, one in a line.",
    "How would you describe {} to somebody who has never seen it?",
)
THINGS = ("water", "a bridge", "the moon", "a clock", "bread", "a library", "the wind", "a map", "salt")


def sweep(work: Path, name: str, **keys: Any) -> Path:
    """Write a sweep and run it to its end; returns its run directory."""
    folder = work / name
    folder.mkdir(parents=True)
    content = {"name": name, "model": str(FOLDER), "engine": ENGINE, **keys}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-c", SUBMIT, "submit", "sweep.yaml", "--run-dir", "run"]
    subprocess.run(command, check=True, cwd=folder)
    return folder / "run"


def cost(items: int, tokens: int, seeds: int, *, shots: bool) -> None:
    """Have one engine answer questions and then score other answers, and print the time of both."""
    engine = kind_of(EngineSpec(str(FOLDER), options=ENGINE)).load(gpus=0)
    template = ChatTemplate(Tokenizer(str(FOLDER), None, trusted=False))
    things = [f"{THINGS[number // 4 % len(THINGS)]} {number}" for number in range(items)]
    examples = "".join(
        f"Q: {ASKED[n % 4].format(thing)}\nA: It is {thing}.\n" for n, thing in enumerate(THINGS)
    )
    asked = [
        (examples if shots else "") + ASKED[number % len(ASKED)].format(thing)
        for number, thing in enumerate(things)
    ]
    prompts = [template([{"role": "user", "content": text}]) for text in asked]
    settings = {"until": [], "max_gen_toks": tokens, "temperature": 1.0, "do_sample": True}
    others = [Query(GENERATE, (f"\n{prompt}", settings), seed=0) for prompt in prompts]
    given = engine.answer(others)  # of other prompts, so that the cache holds none of what is scored
    marks = [times()]
    own = product(prompts, range(1, seeds + 1))
    answers = engine.answer([Query(GENERATE, (prompt, settings), seed=seed) for prompt, seed in own])
    marks.append(times())
    texts = [answer.response for answer in given]
    scored = engine.answer([Query(TOKENS, pair) for pair in zip(prompts, texts, repeat(TOP))])
    marks.append(times())
    assert not any(answer.error for answer in (*answers, *scored))
    written = sum(answer.output_tokens or 0 for answer in answers)
    read = sum(answer.prompt_tokens or 0 for answer in scored)
    answering, scoring = (np.subtract(later, earlier) for earlier, later in pairwise(marks))
    for what, count, (wall, cpu) in (("written", written, answering), ("read", read, scoring)):
        print(f"{count:,} tokens {what}: {wall:.1f} s, {cpu:.1f} s of CPU")
    print("scores to answers: {:.2f}, of CPU {:.2f}".format(*scoring / answering))
    engine.close()


def times() -> tuple[float, float]:
    """The clock, and the CPU time of this process, which other processes disturb less."""
    return time.perf_counter(), time.process_time()


def damages(work: Path) -> dict[str, dict[str, Any]]:
    """The graded variants, control included."""
    variants: dict[str, dict[str, Any]] = {"base": {}, "control": CONTROL}
    for bits, group in ((8, 64), (6, 64), (5, 64), (4, 64), (4, None), (3, 64)):
        name = f"int{bits}" if group else f"int{bits}-channel"
        round_folder(FOLDER, work / name, bits=bits, group_size=group)
        variants[name] = {"model": str(work / name)}
    for dtype in ("fp8_e4m3", "fp8_e5m2") if this_machine().fp8_kv_cache else ():  # type: ignore[union-attr]
        variants[f"kv-{dtype}"] = {"engine": {"kv_cache_dtype": dtype}}
    return variants


def wrong_template(work: Path) -> dict[str, dict[str, Any]]:
    """The baseline, its control, and the same model with the chat template of another family."""
    other = work / "template"
    other.mkdir()
    for file in FOLDER.iterdir():
        if file.name not in {"tokenizer_config.json", "chat_template.jinja"}:
            (other / file.name).symlink_to(file)
    config = json.loads((FOLDER / "tokenizer_config.json").read_text()) | {"chat_template": WRONG_TEMPLATE}
    (other / "tokenizer_config.json").write_text(json.dumps(config))
    return {"base": {}, "control": CONTROL, "template": {"model": str(other), "other_template": True}}


def early(work: Path, limit: int) -> None:
    """Run all damages, and print how early each is found, and what the divergence predicts."""
    asked = {
        "include_path": PACK,
        "tasks": [{"task": "lldeg_quickstart", "limit": limit}],
        "cluster": {"replicas": 1},
    }
    scored = asked | {"baseline": "base", "fidelity": {"items": 1000}}
    graded = values_of(sweep(work, "graded", variants=damages(work), **scored))
    penalty = {"repetition_penalty": 1.3}
    other = sweep(work, "penalty", baseline="penalty", variants={"penalty": {}}, sampling=penalty, **asked)
    graded["penalty"] = values_of(other)["penalty"][0], graded["control"][1]
    chat = sweep(work, "chat", variants=wrong_template(work), prompt={"apply_chat_template": True}, **scored)
    print(f"{'':14} {'points':>7} {'nats':>9} {'accuracy':>9} {'fidelity':>9}   (items until 80 % power)")
    points = show(graded)
    show(values_of(chat))
    ranks, line = spearmanr(*points)[0], pearsonr(*points)[0]
    print(f"drops and divergences: Spearman {ranks:.2f}, Pearson {line:.2f}, of {len(points[0])} variants")


def show(columns: Mapping[str, tuple[Any, Any]]) -> tuple[list[float], list[float]]:
    """Print a row for each variant; returns drops and divergences of all but the control."""
    base, floor = columns["base"][0], columns["control"][1]
    drops, distances = [], []
    for name, (scores, distance) in columns.items():
        if name == "base":
            continue
        drop, nats = float((base - scores).mean()), float(np.nanmean(distance))
        found = [needed(base - scores, one_sided=True), needed(distance - floor, one_sided=False)]
        counts = " ".join(f"{count or 'more':>9}" for count in found)
        print(f"{name:14} {100 * drop:7.2f} {nats:9.6f} {counts}")
        if name != "control":
            drops.append(drop)
            distances.append(nats)
    return drops, distances


def values_of(run: Path) -> Mapping[str, tuple[Any, Any]]:
    """Scores and divergences of all items of a run, by variant, in one order."""
    found: dict[str, tuple[list[Any], list[Any]]] = {}
    for table in sorted(read_scores([str(run)]).tasks, key=lambda table: table.info.name):
        for (variant, _), column in table.columns.items():
            own = found.setdefault(variant, ([], []))
            own[0].append(column.scores)
            own[1].append(column.measured.get("kl", np.full(column.scores.size, np.nan)))
    return {name: (np.concatenate(scores), np.concatenate(kl)) for name, (scores, kl) in found.items()}


def needed(differences: Any, *, one_sided: bool) -> int | None:
    """The fewest items of `SIZES` from which at least so many draws find a difference; None if none do."""
    known, draw = differences[~np.isnan(differences)], np.random.default_rng(0)
    for size in (min(size, known.size) for size in SIZES):
        found = 0
        for _ in range(DRAWS):
            some = draw.choice(known, size, replace=size == known.size)
            found += (SignFlipTest(some).p if one_sided else flip_p(some)) <= ALPHA
        if found >= POWER * DRAWS:
            return int(size)
    return None


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("cost", "early"), help="default: both")
    parser.add_argument("--items", type=int, default=500, help="questions of the cost")
    parser.add_argument("--tokens", type=int, default=128, help="most tokens of an answer there")
    parser.add_argument("--seeds", type=int, default=1, help="answers to each of them")
    parser.add_argument("--shots", action="store_true", help="nine examples before each of them")
    parser.add_argument("--limit", type=int, default=40, help="items of each of the nine tasks of early")
    parser.add_argument("--work", type=Path, help="folder for models and runs; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        if arguments.part != "early":
            cost(arguments.items, arguments.tokens, arguments.seeds, shots=arguments.shots)
        if arguments.part != "cost":
            early(work, arguments.limit)


if __name__ == "__main__":
    main()
