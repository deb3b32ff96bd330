"""Packages that only some commands need; pyproject.toml has them as extras."""

from importlib.util import find_spec

from orchestrator.errors import UserError

EXTRAS = {
    "sweeps": (("ray", "lm_eval"), "'lldeg[gpu]', 'lldeg[cpu]' or, for served models alone, 'lldeg[run]'"),
    "vllm": (("vllm",), "'lldeg[gpu]' or 'lldeg[cpu]'"),
    "models": (("torch", "transformers"), "'lldeg[cpu]'"),
    "calls": (("jsonschema",), "'lldeg[calls]'"),
    "figures": (("matplotlib",), "'lldeg[figures]'"),
    "frames": (("pandas",), "'lldeg[pandas]'"),
}
"""By purpose: modules that are imported, and what to install for them."""


def lacking(purpose: str, what: str) -> str | None:
    """The sentence that says what to install, or None if it is installed; `what` needs it."""
    modules, extras = EXTRAS[purpose]
    missing = [module for module in modules if find_spec(module) is None]
    return f"{what} needs {' and '.join(missing)}: pip install {extras}." if missing else None


def require(purpose: str, what: str) -> None:
    """Raise UserError, with the sentence of `lacking`, if something is not installed."""
    if sentence := lacking(purpose, what):
        raise UserError(sentence)
