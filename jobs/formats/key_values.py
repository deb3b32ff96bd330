"""Options of the form KEY=VALUE, and the file of metrics, as mappings."""

from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.input_files import read_json


def parse_assignments(option: str, given: Sequence[str], form: str = "KEY=VALUE") -> dict[str, str]:
    """Turn ["a=b", …] into {a: b}.

    Raises:
        UserError: if one has no "=", an empty side, or a key twice; it names the option.
    """
    pairs = [[side.strip() for side in text.partition("=")] for text in given]
    for text, (key, _, value) in zip(given, pairs, strict=True):
        if not key or not value:
            raise UserError(f"{option} {text}: write {form}.")
    keys = [key for key, _, _ in pairs]
    if len(set(keys)) < len(keys):
        raise UserError(f"{option} names {next(k for k in keys if keys.count(k) > 1)} twice.")
    return {key: value for key, _, value in pairs}


def read_metrics(path: Path | None) -> dict[str, str]:
    """Read {task: metric} from a JSON file.

    Raises:
        UserError: if it is not such a file.
    """
    if path is None:
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UserError(f"--metrics {path} must hold a mapping from task to metric.")
    return content
