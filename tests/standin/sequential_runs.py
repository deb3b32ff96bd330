"""Makes runs that stopped early as a sweep leaves them, and decides them without the product's readers."""

import json
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path

import numpy as np
from standin.runs import OWED, MadeTask, digest, make_run

from stats.sequential.boundaries import Stopping
from stats.sequential.monitor import SequentialMonitor
from stats.sequential.plan import PlannedTask, SequentialPlan, item_order

SEED = 0
BASE = "base"


@dataclass
class StoppedRun:
    """A run that stopped early, and what an independent computation makes of it.

    Args:
        path: of the run directory.
        courses: by (variant, temperature).
        counted: by (variant, temperature), differences of the items of its last look, those of all tasks
            together, NaN without both scores; only where items are independent.
    """

    path: Path
    courses: dict
    counted: dict = field(repr=False)

    @property
    def record(self):
        """Content of looks.json."""
        return json.loads((self.path / "looks.json").read_text())

    def write_record(self, content):
        """Replace looks.json."""
        (self.path / "looks.json").write_text(json.dumps(content))


def replay(plan, differences, worst=None):
    """The courses of a sweep from all that came in, by comparison and task."""
    monitor = SequentialMonitor(plan)
    for comparison, values in differences.items():
        monitor.observe(comparison, values, worst[comparison] if worst else None)
    return monitor.courses(closed=True)


def answers(rng, items, reruns, *, like=None, worse=0.0, better=0.0, failing=0.0):
    """Right or wrong answers, shape (reruns, items): new ones, or flipped at rates from those of a model."""
    if like is None:
        scores = (rng.random((reruns, items)) < 0.6).astype(float)
    else:
        flips = rng.random(like.shape)
        scores = np.where(like == 1.0, (flips >= worse).astype(float), (flips < better).astype(float))
    scores[rng.random(scores.shape) < failing] = np.nan
    return scores


def a_sweep(variants, tasks, reruns, seed=1):
    """Answers of a baseline and its variants.

    Args:
        variants: by name, the rates of `answers`.
        tasks: number of items by task.
        reruns: how many by temperature.
        seed: of the random numbers.
    """
    rng, scores = np.random.default_rng(seed), {}
    for t, count in reruns.items():
        scores[BASE, t] = {task: answers(rng, items, count) for task, items in tasks.items()}
        for name, rates in variants.items():
            scores[name, t] = {
                task: answers(rng, base.shape[1], count, like=base, **rates)
                for task, base in scores[BASE, t].items()
            }
    return scores


def make_stopped_run(folder, scores, *, clusters=None, extra=0.0, owed=None, finished=False, **plan):
    """Write a run in which every variant was stopped at the look that decides it.

    Args:
        folder: where.
        scores: by (variant, temperature), by task, answers of shape (reruns, items), NaN where the request
            failed; a task may be missing at a temperature.
        clusters: by task, the cluster of each item.
        extra: share of the items that came in after the decision.
        owed: by comparison, the share of its items that have come in, where it is not to be decided.
        finished: whether all samples are there.
        **plan: looks, until, margin and certificate.
    """
    tasks = {task: values.shape[1] for found in scores.values() for task, values in found.items()}
    labels = {task: _labels(task, items, clusters) for task, items in tasks.items()}
    order = {task: item_order(found, SEED) for task, found in labels.items()}
    entry = _entry(scores, tasks, plan, finished=finished)
    pairs = {key: _differences(scores, key, order) for key in map(tuple, entry["comparisons"])}
    blocks = {task: labels[task][order[task]] for task in tasks} if clusters else dict.fromkeys(tasks)
    courses = _decide(entry, tasks, blocks, pairs, owed or {})
    write_samples(
        folder, scores, clusters, order, _shares(entry, courses, owed or {}, extra, finished=finished)
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"baseline": BASE, "stopping": entry}))
    counted = {
        key: np.concatenate([v[: _seen(entry, courses[key], v.size)] for v in paired.values()])
        for key, (paired, _) in pairs.items()
    }
    run = StoppedRun(folder, courses, counted)
    run.write_record(_record(courses))
    return run


def _labels(task, items, clusters):
    """The cluster of each item, else the hash of its document."""
    own = [digest(f"{task}{item}") for item in range(items)]
    return np.array(own if clusters is None else [str(label) for label in clusters[task]])


def _entry(scores, tasks, plan, *, finished):
    stopping = Stopping(plan.get("looks", 10), plan.get("until", "decided"))
    return {
        "certificate": plan.get("certificate", "default"),
        "looks": stopping.looks,
        "until": stopping.until,
        "spending": {"degraded": str(stopping.degraded), "certified": str(stopping.certified)},
        "alpha": 0.05,
        "margin": plan.get("margin", 0.03),
        "comparisons": [list(key) for key in scores if key[0] != BASE],
        "metrics": dict.fromkeys(tasks, "acc,none"),
        "seed": SEED,
        **({"finished": True} if finished else {}),
    }


def _differences(scores, key, order):
    """By task, differences of all items in order, and the same with every missing answer as a loss."""
    paired, worst = {}, {}
    for task, variant in scores[key].items():
        base, other = scores[BASE, key[1]][task][:, order[task]], variant[:, order[task]]
        both = ~np.isnan(base) & ~np.isnan(other)
        with np.errstate(invalid="ignore"):
            paired[task] = np.where(both, base - other, 0.0).sum(axis=0) / both.sum(axis=0)
        worst[task] = np.nan_to_num(base, nan=1.0).mean(axis=0) - np.nan_to_num(other, nan=0.0).mean(axis=0)
    return paired, worst


def _decide(entry, tasks, blocks, pairs, owed):
    """The looks of every comparison that its samples allow."""
    names = {key: f"{key[0]} at {key[1]!r}" for key in pairs}
    plan = SequentialPlan(
        tuple(PlannedTask(task, items, blocks[task]) for task, items in tasks.items()),
        tuple(names.values()),
        Stopping(entry["looks"], entry["until"], certificate=entry["certificate"]),
        entry["alpha"],
        entry["margin"],
        tasks_of={
            names[key]: tuple(paired) for key, (paired, _) in pairs.items() if len(paired) < len(tasks)
        },
    )
    seen = ({}, {})
    for key, parts in pairs.items():
        for found, values in zip(seen, parts, strict=True):
            found[names[key]] = [v[: round(owed.get(key, 1.0) * v.size)] for v in values.values()]
    courses = replay(plan, *seen)
    return {key: courses[name] for key, name in names.items()}


def _seen(entry, course, items):
    return -(-len(course.looks) * items // entry["looks"])


def _shares(entry, courses, owed, extra, *, finished):
    """Share of the items whose samples were written, by (model, temperature); the baseline leads."""
    shares = {
        key: owed.get(key, min(1.0, len(course.looks) / entry["looks"] + extra))
        for key, course in courses.items()
    }
    if finished:
        shares = dict.fromkeys(shares, 1.0)
    return shares | {(BASE, t): max(shares.values()) for _, t in shares}


def write_samples(folder, scores, clusters, order, shares):
    """Write the first items in the order of asking, as many as the shares say."""
    tasks = {}
    for task, items in order.items():
        columns = {}
        for key in (key for key in scores if task in scores[key]):
            there = set(items[: int(np.ceil(shares[key] * items.size - 1e-9))].tolist())
            columns[key] = [
                [_sample(score) if item in there else OWED for item, score in enumerate(rerun)]
                for rerun in scores[key][task].tolist()
            ]
        tasks[task] = MadeTask(
            columns,
            metrics={"acc,none": True, "f1,none": True},
            clusters=None if clusters is None else list(clusters[task]),
        )
    make_run(folder, tasks, baseline=BASE)


def _sample(score):
    return None if np.isnan(score) else score


def _record(courses):
    return {
        "format": 1,
        "comparisons": [
            {
                "variant": variant,
                "temperature": temperature,
                "verdict": course.verdict and course.verdict.value,
                "stopped": course.stopped,
                "share_used": course.share_used,
                "looks": [look_values(look) for look in course.looks],
            }
            for (variant, temperature), course in courses.items()
        ],
    }


def look_values(look):
    """A look as JSON: what is not finite is null."""
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in asdict(look).items()
    }
