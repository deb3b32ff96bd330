"""The option names the installed vLLM knows, read from its source.

Importing vLLM takes ten seconds and starts CUDA; a mistyped option should be named before anything starts, so
the fields of its EngineArgs are read with `ast` instead.
"""

from __future__ import annotations

import ast
from functools import cache
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
