"""looks.json in a run directory: every look with its statistics, its boundaries and what was decided.

It is for people and other programs. Verdicts never come from it: the samples decide.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from jobs.analysis.sequential.run_plan import Place
from stats.sequential.monitor import Course, Look

FORMAT = 1


def looks_text(outlines: Mapping[Place, Course]) -> str:
    """The file.

    Args:
        outlines: by variant and temperature.
    """
    comparisons = [_comparison(*place, outline) for place, outline in outlines.items()]
    return json.dumps({"format": FORMAT, "comparisons": comparisons}, indent=1, ensure_ascii=False) + "\n"


def _comparison(variant: str, temperature: float, outline: Course) -> dict[str, Any]:
    return {
        "variant": variant,
        "temperature": temperature,
        "verdict": outline.verdict.value if outline.verdict else None,
        "stopped": outline.stopped,
        "share_used": outline.share_used,
        "looks": [look_json(look) for look in outline.looks],
    }


def look_json(look: Look) -> dict[str, float | None]:
    """One look as JSON values; what is infinite or unknown is null."""
    return {name: value if isfinite(value) else None for name, value in asdict(look).items()}
