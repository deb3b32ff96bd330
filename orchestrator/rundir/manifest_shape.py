"""The shape of a manifest and of a sweep that somebody else may have written or damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.input_files import MOST_TASKS, MOST_VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MOST_LOOKS = 100
LARGEST_NUMBER = 1e300


def misshapen(manifest: dict[str, Any]) -> str | None:
    """The first part of a manifest that is not what a reader relies on; None if there is none."""
    return next(_problems(manifest), None)


def misshapen_sweep(sweep: dict[str, Any]) -> str | None:
    """The first part of a run's sweep.yaml that is not what a reader relies on; None if there is none."""
    return next(
        (key for key, fits in _SWEEP.items() if sweep.get(key) is not None and not fits(sweep[key])), None
    )


def _problems(manifest: dict[str, Any]) -> Iterator[str]:
    for part, entries, required, most in (
        ("variants", _VARIANT, ("model", "engine"), MOST_VARIANTS),
        ("tasks", _TASK, ("group", "output_type"), MOST_TASKS),
    ):
        if not _mapping_of_mappings(manifest.get(part)):
            yield part
            return
        if len(manifest[part]) > most:
            yield f"{part} (more than {most:,})"
            return
        for name, entry in manifest[part].items():
            yield from (f"{part}.{name}.{key}" for key in required if key not in entry)
            yield from (f"{part}.{name}.{key}" for key, fits in entries.items() if not fits(entry.get(key)))
    yield from (key for key, fits in _TOP.items() if key in manifest and not fits(manifest[key]))


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _mapping_of_mappings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(entry, dict) for entry in value.values())


def _software(value: Any) -> bool:
    return _mapping_of_mappings(value) and all(
        _mapping(entry.get("versions")) and _mapping(entry.get("hardware", {})) for entry in value.values()
    )


def _text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _reruns(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, list) and len(entry) == 2 and _temperature(entry[0]) and _seed(entry[1])
        for entry in value
    )


def _temperature(value: Any) -> bool:
    return value is None or (_number(value) and 0 <= value <= 1e6)


def _seed(value: Any) -> bool:
    return value is None or _whole(value)


def _number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= LARGEST_NUMBER  # no NaN, and no whole number that is no float


def _stopping(value: Any) -> bool:
    return _mapping(value) and all(fits(value.get(key)) for key, fits in _STOPPING.items())


def _comparisons(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and entry[1] is not None
        and _temperature(entry[1])
        for entry in value
    )


def _mapping_of_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values())


_STOPPING: dict[str, Callable[[Any], bool]] = {
    "looks": lambda looks: _whole(looks) and 1 <= looks <= MOST_LOOKS,
    "until": lambda until: until in {"degraded", "decided"},
    "spending": lambda spending: _mapping_of_texts(spending) and {"degraded", "certified"} <= spending.keys(),
    "alpha": _number,
    "margin": _number,
    "comparisons": _comparisons,
    "metrics": _mapping_of_texts,
    "seed": _whole,
}


def _numbers(value: Any) -> bool:
    return _mapping(value) and all(_number(number) and abs(number) <= 1e6 for number in value.values())


_SWEEP: dict[str, Callable[[Any], bool]] = {
    "baseline": _text_or_none,
    "variants": _mapping,
    "analysis": _numbers,
}
_VARIANT: dict[str, Callable[[Any], bool]] = {"digest": _text_or_none}
_TASK: dict[str, Callable[[Any], bool]] = {
    "digest": _text_or_none,
    "group": _text_or_none,
    "metric": _text_or_none,
    "metrics": _mapping_of_mappings,
    "filters": _texts,
    "cluster": _text_or_none,
    "limit": lambda limit: limit is None or (_mapping(limit) and all(map(_whole, limit.values()))),
    "items": _whole,
    "reruns": _reruns,
}
_TOP: dict[str, Callable[[Any], bool]] = {
    "format": _whole,
    "baseline": _text_or_none,
    "versions": _mapping,
    "subset": _mapping,
    "skipped": _mapping,
    "software": _software,
    "stopping": _stopping,
}
