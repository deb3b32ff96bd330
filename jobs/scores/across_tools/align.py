"""Gathers inputs whose items are to pair although different tools name tasks and metrics differently.

What has one name in all inputs keeps it. Where each input has a single task, it is the same one; where the
inputs have no metric of a task in common, each is tested on its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.formats.metrics import requested
from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import Evaluation, PairBy, Query
from jobs.scores.across_tools.pair_keys import AS_NAMED, Renaming, keyed
from jobs.scores.samples.gather import GatheredTask, gather
from jobs.scores.source import NamedPath

Places = Sequence[Sequence[Evaluation]]


@dataclass(frozen=True)
class Aligned:
    """Inputs with one name for everything that they share.

    Attributes:
        places: the evaluations of each path.
        tasks: their samples by task.
        metrics: metric of the tasks that each input is tested on with its own.
        notices: what was taken to be the same under different names.
    """

    places: Places
    tasks: Mapping[str, GatheredTask]
    metrics: Mapping[str, str]
    notices: tuple[Notice, ...]


def gather_aligned(
    paths: Sequence[NamedPath], places: Places, query: Query, by: PairBy, metrics: Mapping[str, str]
) -> Aligned:
    """Read all evaluations; a second time where tasks or metrics must be renamed.

    Args:
        paths: the paths.
        places: the evaluations of each.
        query: what to read of them.
        by: what pairs their items.
        metrics: metric by task, group or pattern, as the user asks.
    """
    as_named = [[keyed(evaluation, by) for evaluation in place] for place in places]
    tasks = gather(as_named, query)
    renamings = _renamings(paths, tasks, metrics)
    if all(renaming == AS_NAMED for renaming in renamings):
        return Aligned(as_named, tasks, {}, ())
    notices = _notices(paths, renamings)
    renamed = [
        [keyed(evaluation, by, renaming) for evaluation in place]
        for place, renaming in zip(places, renamings, strict=True)
    ]
    chosen = {task: common for renaming in renamings for task, (_, common) in renaming.metrics.items()}
    return Aligned(renamed, gather(renamed, query), chosen, notices)


def _renamings(
    paths: Sequence[NamedPath], tasks: Mapping[str, GatheredTask], asked: Mapping[str, str]
) -> list[Renaming]:
    names = _task_names(paths, tasks)
    metrics: list[dict[str, tuple[str, str]]] = [{} for _ in paths]
    for common in dict.fromkeys(name for of_place in names for name in of_place.values()):
        own = {
            place: _numeric_metrics(tasks[task], place)
            for place, of_place in enumerate(names)
            for task, name in of_place.items()
            if name == common
        }
        if set.intersection(*map(set, own.values())) or not all(own.values()):
            continue
        wanted = requested(common, None, asked)
        chosen = {place: wanted if wanted in found else found[0] for place, found in sorted(own.items())}
        for place, metric in chosen.items():
            metrics[place][common] = (metric, next(iter(chosen.values())))
    return [
        Renaming({own: name for own, name in of_place.items() if own != name}, of_metrics)
        for of_place, of_metrics in zip(names, metrics, strict=True)
    ]


def _task_names(paths: Sequence[NamedPath], tasks: Mapping[str, GatheredTask]) -> list[dict[str, str]]:
    """By place, what each of its tasks is called in the comparison."""
    own = [
        [name for name, task in tasks.items() if any(origin.place == place for origin in task.parts)]
        for place in range(len(paths))
    ]
    models = [
        {origin.model for task in tasks.values() for origin in task.parts if origin.place == place}
        for place in range(len(paths))
    ]
    is_one_each = all(len(names) == 1 for names in own)
    known = [model for of_place in models for model in of_place if model is not None]
    if is_one_each and any(path.task for path in paths):
        return [{names[0]: path.task or names[0]} for path, names in zip(paths, own, strict=True)]
    if is_one_each and len(set(known)) == len(known):
        return [{names[0]: own[0][0]} for names in own]
    return [{name: name for name in names} for names in own]


def _numeric_metrics(task: GatheredTask, place: int) -> list[str]:
    """Metrics of one input, in order of preference."""
    held = {
        metric
        for origin, part in task.parts.items()
        if origin.place == place
        for chunk in part.chunks
        for metric in chunk.scores
    }
    return [metric for metric in task.numeric_metrics if metric in held]


def _notices(paths: Sequence[NamedPath], renamings: Sequence[Renaming]) -> tuple[Notice, ...]:
    found = []
    for path, renaming in zip(paths, renamings, strict=True):
        said = [f"task {own} as {name}" for own, name in renaming.tasks.items()]
        said += [f"{task} by {own}" for task, (own, _) in renaming.metrics.items()]
        if said:
            text = f"{path.path} is compared under other names: {', '.join(said)}."
            found.append(Notice(NoticeCode.OTHER_NAMES, text))
    return tuple(found)
