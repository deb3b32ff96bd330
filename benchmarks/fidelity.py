"""What a fidelity pass costs, and whether it warns before accuracy does, on the quickstart's model.

cost   One sweep of questions that are answered freely, by a baseline and its control. The seconds of a
       variant's own answers, and of its scores of the baseline's, by the times of their files.
early  The quickstart's 780 items at temperature 0 by graded damages: weights rounded to 8 … 3 bits, 8-bit KV
       caches where the machine has them, a wrong chat template, and a repetition penalty that one side does
       not know of (a run of its own: its distributions before the penalty are the same). Printed are drop and
       KL divergence, and from how many items, drawn 200 times, accuracy (exact one-sided test) and fidelity
       (two-sided, against the control's) find each in 80 % of the draws, at .05; then how the two correlate.

Run: python -P benchmarks/fidelity.py [cost | early] [--items 500] [--tokens 128] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import pearsonr, spearmanr

from jobs.quickstart_model import FOLDER
from jobs.round_weights import round_folder
from jobs.scores.read import read_scores
from orchestrator.hardware import this_machine
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
SIZES, DRAWS, POWER, ALPHA = (5, 10, 20, 40, 80, 160, 320, 780), 200, 0.8, 0.05
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


def cost(work: Path, items: int, tokens: int) -> None:
    """Measure both parts of one sweep, and print them."""
    pack = work / "pack"
    pack.mkdir()
    things = [f"{THINGS[number // 4 % len(THINGS)]} {number}" for number in range(items)]
    docs = [{"question": ASKED[i % len(ASKED)].format(thing)} for i, thing in enumerate(things)]
    (pack / "data").mkdir()
    (pack / "data" / "open.jsonl").write_text("\n".join(map(json.dumps, docs)))
    (pack / "loader.py").write_text((Path(PACK) / "loader.py").read_text())
    (pack / "open.yaml").write_text(
        "task: open\ncustom_dataset: !function loader.load\ndataset_kwargs: {name: open}\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_text: '{{question}}'\ndoc_to_target: ''\nnum_fewshot: 0\n"
        f"generation_kwargs: {{until: [], max_gen_toks: {tokens}, do_sample: false}}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    run = sweep(
        work,
        "cost",
        baseline="base",
        variants={"base": {}, "control": CONTROL},
        include_path=str(pack),
        tasks=["open"],
        prompt={"apply_chat_template": True},
        sampling={"temperatures": [0.0]},
        fidelity={"items": items},
        cluster={"replicas": 1},
    )
    loaded = {}
    for event in map(json.loads, (run / "logs" / "events.jsonl").read_text().splitlines()):
        if event["event"] == "loaded":
            loaded[event["variant"]] = event["time"]
    status = json.loads((run / "logs" / "status.json").read_text())["variants"]
    for name, since in loaded.items():
        files = [run.glob(f"{part}/variant={name}/*/*.parquet") for part in ("samples", "fidelity")]
        answered, scored = (max(path.stat().st_mtime for path in paths) for paths in files)
        answers, scores = answered - since, scored - answered
        print(
            f"{name}: {items} answers of {status[name]['output_tokens'] / items:.0f} tokens took "
            f"{answers:.1f} s, their scores {scores:.1f} s: {scores / answers:.2f}"
        )


def damages(work: Path) -> dict[str, dict[str, Any]]:
    """The graded variants, control included."""
    variants: dict[str, dict[str, Any]] = {"base": {}, "control": CONTROL}
    for bits in range(8, 2, -1):
        round_folder(FOLDER, work / f"int{bits}", bits=bits, group_size=64)
        variants[f"int{bits}"] = {"model": str(work / f"int{bits}")}
    for dtype in ("fp8_e4m3", "fp8_e5m2") if this_machine().fp8_kv_cache else ():  # type: ignore[union-attr]
        variants[f"kv-{dtype}"] = {"engine": {"kv_cache_dtype": dtype}}
    other = work / "template"
    other.mkdir()
    for file in FOLDER.iterdir():
        if file.name not in {"tokenizer_config.json", "chat_template.jinja"}:
            (other / file.name).symlink_to(file)
    config = json.loads((FOLDER / "tokenizer_config.json").read_text()) | {"chat_template": WRONG_TEMPLATE}
    (other / "tokenizer_config.json").write_text(json.dumps(config))
    variants["template"] = {"model": str(other), "other_template": True}
    return variants


def early(work: Path) -> None:
    """Run all damages, and print how early each is found, and what the divergence predicts."""
    asked = {
        "include_path": PACK,
        "tasks": ["lldeg_quickstart"],
        "prompt": {"apply_chat_template": True},
        "sampling": {"temperatures": [0.0]},
        "cluster": {"replicas": 1},
    }
    run = sweep(work, "early", baseline="base", variants=damages(work), fidelity={"items": 1000}, **asked)
    penalty = asked | {"sampling": {"temperatures": [0.0], "repetition_penalty": 1.3}}
    other = sweep(work, "penalty", baseline="penalty", variants={"penalty": {}}, **penalty)
    columns = values_of(run)
    columns["penalty"] = values_of(other)["penalty"][0], columns["control"][1]
    print(f"{'':14} {'points':>7} {'nats':>9} {'accuracy':>9} {'fidelity':>9}   (items until 80 % power)")
    drops, distances = [], []
    base, floor = columns["base"][0], columns["control"][1]
    for name, (scores, distance) in columns.items():
        if name in {"base", "control"}:
            continue
        found = [needed(base - scores, one_sided=True), needed(distance - floor, one_sided=False)]
        print(
            f"{name:14} {100 * (base - scores).mean():7.2f} {np.nanmean(distance):9.5f} "
            + " ".join(f"{count or '> 780':>9}" for count in found)
        )
        drops.append((base - scores).mean())
        distances.append(np.nanmean(distance))
    print(f"control        {100 * (base - columns['control'][0]).mean():7.2f} {np.nanmean(floor):9.7f}")
    ranks, line = spearmanr(drops, distances)[0], pearsonr(drops, distances)[0]
    print(f"drops and divergences: Spearman {ranks:.2f}, Pearson {line:.2f}, of {len(drops)} variants")


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
    parser.add_argument("--work", type=Path, help="folder for models and runs; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        if arguments.part != "early":
            cost(work, arguments.items, arguments.tokens)
        if arguments.part != "cost":
            early(work)


if __name__ == "__main__":
    main()
