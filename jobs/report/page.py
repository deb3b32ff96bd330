"""Lays the content out as HTML: one template, one style sheet, one script, all inside the page.

Markup escapes by default, JSON inside a script element cannot end it, and a content security policy
names the digests of the page's own style and script, so that markup that slipped through could still load and
run nothing.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jobs.report.forest import limits
from jobs.report.visible import visible
from jobs.text.format import amount, clean, p_text, percent, score_text, temperature_text
from stats.results import Unit

FOLDER = Path(__file__).parent
NO_VALUE = "–"


def _read(name: str) -> Markup:
    return Markup((FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704 - a file of this package


def script_json(value: Any) -> Markup:
    """A value as JSON that is safe in a script element: nothing in it closes the element or opens another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704 - made safe above


def full(value: Any) -> str:
    """A value of verdicts.json exactly as it is there, without rounding."""
    return json.dumps(value)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _amount(drop: float | None, unit: Unit, *, sign: bool = True) -> str:
    """A drop in its unit; a dash where it is not finite."""
    return NO_VALUE if drop is None else amount(drop, unit, sign=sign).replace("-", "−")


def _score(score: float | None, unit: Unit) -> str:
    return NO_VALUE if score is None else score_text(score, unit)


def _p(p: float | None) -> str | Markup:
    """A p-value, powers of ten in full print: 4.8 × 10⁻¹⁵."""
    if p is None:
        return NO_VALUE
    digits, _, power = p_text(p).partition("e")
    return Markup("{} × 10<sup>−{}</sup>").format(digits, abs(int(power))) if power else digits


def _number(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:,}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {
        "clean": clean,
        "visible": visible,
        "full": full,
        "script_json": script_json,
        "p": _p,
        "limits": limits,
        "percent": lambda share: NO_VALUE if share is None else percent(share),
        "amount": _amount,
        "score": _score,
        "number": _number,
        "temperature": temperature_text,
    }
    environment.filters.update(filters)
    return environment


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill in a template of this package.

    Args:
        template: its file name.
        values: what it needs besides style, script and policy.
    """
    style, script = _read("page.css"), _read("page.js")
    page = _environment().get_template(template)
    return page.render(values, style=style, script=script, policy=_policy(style, script))
