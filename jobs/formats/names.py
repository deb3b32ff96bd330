"""What to call the models of several inputs, and which evaluations may count as one."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobs.formats.log_tables import LogTask, Origin
from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.samples import Evaluation, Key
from orchestrator.errors import UserError

UNNAMED = "model"
Tasks = Mapping[str, LogTask]


def path_ends(paths: Sequence[str]) -> list[str]:
    """The shortest ends of the paths, of equal depth, that tell them apart."""
    resolved = [Path(path).resolve() for path in paths]
    deepest = max(len(path.parts) for path in resolved)
    ends = (["/".join(path.parts[-depth:]) for path in resolved] for depth in range(1, deepest + 1))
    return next(names for names in ends if len(set(names)) == len(names))


def path_stems(paths: Sequence[str]) -> Sequence[str]:
    """Names of files without their endings if that tells them apart, else the paths."""
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else paths


def all_origins(tasks: Tasks) -> list[Origin]:
    """Where the samples of all tasks come from, each once, in the order of the paths."""
    origins = dict.fromkeys(origin for task in tasks.values() for origin in task.origins)
    return sorted(origins, key=lambda origin: origin[0])


def by_data(
    tasks: Tasks, paths: Sequence[str], shorten: Callable[[Sequence[str]], Sequence[str]] = path_ends
) -> dict[Key, str]:
    """Names for a comparison: as the data state them, but by path where two paths hold rival results.

    Paths that hold the same model on different tasks hold one model; on the same task they hold two versions
    of it, told apart by their shortened paths.
    """
    held: dict[Key, set[str]] = {}
    ends = shorten(paths)
    for name, task in tasks.items():
        for place, _, model in task.origins:
            held.setdefault((place, model), set()).add(name)
    names: dict[Key, str] = {}
    for place, model in sorted(held, key=lambda key: key[0]):
        is_alone = sum(other == place for other, _ in held) == 1
        is_rival = any(
            other[1] == model and other[0] != place and of_other & held[place, model]
            for other, of_other in held.items()
        )
        if model is None or (is_rival and is_alone):
            names[place, model] = ends[place]
        else:
            names[place, model] = f"{ends[place]}: {model}" if is_rival else model
    return names


def by_path(tasks: Tasks, paths: Sequence[str]) -> dict[Key, str]:
    """Every path is one model: as its results state it if all are files and it tells them apart."""
    stated = {place: model for place, _, model in all_origins(tasks)}
    names, ends = list(stated.values()), path_ends(paths)
    is_stated = None not in names and len(set(names)) == len(names) and all(Path(p).is_file() for p in paths)
    return {
        (place, model): str(model) if is_stated else ends[place] for place, _, model in all_origins(tasks)
    }


def one_per_model(tasks: Tasks) -> dict[Key, str]:
    """Names for counting reruns: the same model is the same model, whichever path holds it."""
    return {(place, model): model or UNNAMED for place, _, model in all_origins(tasks)}


def one_model(tasks: Tasks) -> dict[Key, str]:
    """The same where all paths hold reruns of one model."""
    keys = sorted({(place, model) for place, _, model in all_origins(tasks)}, key=str)
    return dict.fromkeys(keys, next((model for _, model in keys if model), UNNAMED))


def newest(places: Sequence[Sequence[Evaluation]]) -> tuple[list[list[Evaluation]], list[Notice]]:
    """Of several evaluations of one thing in a folder, the oldest first, the last one counts.

    Returns:
        Those that count by path, and a notice for each thing that was evaluated more than once.
    """
    kept, notices = [], []
    for place in places:
        by_subject: dict[object, list[Evaluation]] = {}
        for one in place:
            settings = json.dumps(one.settings, sort_keys=True, default=str)
            by_subject.setdefault((one.subject, settings) if one.subject else id(one), []).append(one)
        kept.append([same[-1] for same in by_subject.values()])
        for *others, last in by_subject.values():
            if others:
                older = some([evaluation.label for evaluation in others], 3)
                said = f"Of {len(others) + 1} results of {' on '.join(last.subject or ())} only the newest"
                text = f"{said} counts, {last.label}; pass others by their paths (not used: {older})."
                notices.append(Notice(NoticeCode.OLDER_RESULTS, text))
    return kept, notices


def refuse_mixtures(places: Sequence[Sequence[Evaluation]], tasks: Tasks, names: Mapping[Key, str]) -> None:
    """Refuse evaluations that are named the same model and are not reruns of each other.

    Raises UserError if the settings of two differ; it names both and what differs.
    """
    evaluations = [evaluation for place in places for evaluation in place]
    by_model: dict[str, set[int]] = {}
    for place, number, model in all_origins(tasks):
        by_model.setdefault(names[place, model], set()).add(number)
    for numbers in by_model.values():
        stated = [evaluations[number] for number in sorted(numbers) if evaluations[number].settings]
        for other in stated[1:]:
            first, settings = stated[0], other.settings
            differing = [k for k, value in first.settings.items() if k in settings and value != settings[k]]
            if differing:
                what = "; ".join(f"{k}: {first.settings[k]} and {settings[k]}" for k in differing)
                raise UserError(
                    f"{first.label} and {other.label} are not reruns of each other: their settings differ "
                    f"({what}). To compare the two, pass both files instead of the folder."
                )
