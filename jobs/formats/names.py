"""What to call the models of several inputs, and which evaluations may count as one."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jobs.formats.gather import GatheredTask, Origin
from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.samples import Evaluation
from orchestrator.errors import UserError

UNNAMED = "model"
DEFAULT_TASK = "scores"
"""The task of a table that names none."""

Key = tuple[int, str | None]
"""Number of a path, and a model's name as the data in it state it."""


def refuse_repeated(paths: Sequence[str]) -> None:
    """Refuse to read one input twice.

    Raises:
        UserError: if two paths are the same file or folder.
    """
    resolved = [Path(path).resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise UserError("The same input is given twice: comparing a model with itself says nothing.")


def path_ends(paths: Sequence[str]) -> list[str]:
    """The shortest ends of the paths, of equal depth, that tell them apart."""
    resolved = [Path(path).resolve() for path in paths]
    deepest = max(len(path.parts) for path in resolved)
    ends = (["/".join(path.parts[-depth:]) for path in resolved] for depth in range(1, deepest + 1))
    return next(found for found in ends if len(set(found)) == len(found))


def path_stems(paths: Sequence[str]) -> Sequence[str]:
    """Names of files without their endings if that tells them apart, else the paths."""
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else paths


def all_origins(tasks: Mapping[str, GatheredTask]) -> Iterable[Origin]:
    """Where the samples of all tasks come from, each once, in the order of the paths."""
    found = dict.fromkeys(origin for task in tasks.values() for origin in task.origins)
    return sorted(found, key=lambda origin: origin.place)


def by_data(
    tasks: Mapping[str, GatheredTask],
    paths: Sequence[str],
    shorten: Callable[[Sequence[str]], Sequence[str]] = path_ends,
) -> dict[Key, str]:
    """Names for a comparison: as the data state them, but by path where two paths hold rival results.

    Args:
        tasks: what was read.
        paths: where it was read.
        shorten: what to call each path.

    Returns:
        The name of every model of every path. Paths that hold the same model on different tasks hold one
        model; on the same task they hold two versions of it, told apart by their paths.
    """
    held: dict[Key, set[str]] = {}
    ends = shorten(paths)
    for name, task in tasks.items():
        for origin in task.origins:
            held.setdefault((origin.place, origin.model), set()).add(name)
    keys = sorted(held, key=lambda key: key[0])
    names: dict[Key, str] = {}
    for place, model in keys:
        alone = sum(other[0] == place for other in keys) == 1
        is_rival = any(
            other[1] == model and other[0] != place and held[other] & held[place, model] for other in keys
        )
        if model is None or (is_rival and alone):
            names[place, model] = ends[place]
        else:
            names[place, model] = f"{ends[place]}: {model}" if is_rival else model
    return names


def one_per_model(tasks: Mapping[str, GatheredTask]) -> dict[Key, str]:
    """Names for counting reruns: the same model is the same model, whichever path holds it."""
    return {(origin.place, origin.model): origin.model or UNNAMED for origin in all_origins(tasks)}


def newest(places: Sequence[Sequence[Evaluation]]) -> tuple[list[list[Evaluation]], list[Notice]]:
    """Of several evaluations of one thing in a folder, the last one.

    Args:
        places: the evaluations of each path, the oldest first.

    Returns:
        Those that count, and a notice for each thing that was evaluated more than once.
    """
    kept, notices = [], []
    for place in places:
        by_subject: dict[object, list[Evaluation]] = {}
        for one in place:
            settings = json.dumps(one.settings, sort_keys=True, default=str)
            by_subject.setdefault((one.subject, settings) if one.subject else id(one), []).append(one)
        kept.append([same[-1] for same in by_subject.values()])
        for same in by_subject.values():
            if len(same) > 1:
                older = some([evaluation.label for evaluation in same[:-1]], 3)
                said = f"Of {len(same)} results of {' on '.join(same[0].subject or ())} only the newest"
                text = f"{said} counts, {same[-1].label}; pass others by their paths (not used: {older})."
                notices.append(Notice(NoticeCode.OLDER_RESULTS, text))
    return kept, notices


def refuse_mixtures(
    places: Sequence[Sequence[Evaluation]], tasks: Mapping[str, GatheredTask], names: Mapping[Key, str]
) -> None:
    """Refuse evaluations that are named the same model and are not reruns of each other.

    Raises:
        UserError: if the settings of two differ; it names both and what differs.
    """
    evaluations = [evaluation for place in places for evaluation in place]
    by_model: dict[str, set[int]] = {}
    for origin in all_origins(tasks):
        by_model.setdefault(names[origin.place, origin.model], set()).add(origin.evaluation)
    for numbers in by_model.values():
        stated = [evaluations[number] for number in sorted(numbers) if evaluations[number].settings]
        for current in stated[1:]:
            first, known, found = stated[0], stated[0].settings, current.settings
            if differing := [name for name in known if name in found and known[name] != found[name]]:
                what = "; ".join(f"{name}: {known[name]} and {found[name]}" for name in differing)
                raise UserError(
                    f"{first.label} and {current.label} are not reruns of each other: their settings differ "
                    f"({what}). To compare the two, pass both files instead of the folder."
                )
