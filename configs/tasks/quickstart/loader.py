"""Hands the pack's items to lm-eval from the files beside this one.

lm-eval's own `dataset_path: json` looks for files under the current folder and writes a cache; reading them
here works from anywhere and writes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import datasets


def load(name: str, **_metadata: object) -> dict[str, datasets.Dataset]:
    """The items of one task as lm-eval's test split.

    Args:
        name: stem of the file in data/.
        _metadata: the task's metadata, which lm-eval passes along.
    """
    lines = (Path(__file__).parent / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}
