"""The shape of the code: imports point down, there are no circles, and files and folders stay small.

Imports are read from the source. Those inside functions count, since they run, too. Those for type checkers
only (`if TYPE_CHECKING`) count between packages and rooms, because they show what these know of each other,
but not between modules, where only imports that run can fail.
"""

import ast
from collections import defaultdict
from dataclasses import fields
from functools import cache
from inspect import signature
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import lldeg
from jobs.commands.analyze import analyze
from orchestrator.engines.vllm_kind import vllm_options
from stats.results import CHOICES, Comparison, Settings
from stats.tasks.combinations import COMBINATIONS, SMALLEST_OF, STATISTICS, Combine

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("lldeg", "jobs", "orchestrator", "stats")  # from top to bottom
MAX_LINES, MAX_ROOMS, MAX_STATS_FLOORS = 600, 14, 10
OTHER_MEANINGS = {
    "hf_token",  # a word that betrays a secret
    "generation_config",  # a field of Every Eval Ever's files
    "quantization_config",  # a key of a Hugging Face model's config.json
}


@cache
def modules():
    """Every module of the packages by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for floor in FLOORS
        for path in sorted((ROOT / floor).rglob("*.py"))
    }


@cache
def tree(path):
    """The parsed source of a module."""
    return ast.parse(path.read_text("utf-8"))


def is_for_type_checkers(node):
    """Whether a statement is `if TYPE_CHECKING`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def import_nodes(node, *, types):
    """Import statements at any depth; those for type checkers only if asked for."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif types or not is_for_type_checkers(child):
            yield from import_nodes(child, types=types)


def imports(name, *, types):
    """The modules of ours that a module imports."""
    known = modules()
    for node in import_nodes(tree(known[name]), types=types):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            assert not node.level, f"{name} has a relative import"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [target if target in known else node.module for target in targets]
        yield from (target for target in targets if target in known)


def graph(of=lambda name: name, *, types):
    """Which modules, or what `of` makes of them, import which others."""
    arrows = defaultdict(set)
    for name in modules():
        for target in imports(name, types=types):
            if of(target) and of(name) and of(target) != of(name):
                arrows[of(name)].add(of(target))
    return arrows


def circle(arrows):
    """A circle in a graph as a list of names; empty if there is none."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        found = next(filter(None, map(visit, sorted(arrows.get(name, ())))), [])
        path.pop()
        done.add(name)
        return found

    return next(filter(None, map(visit, sorted(arrows))), [])


def room_of(floor):
    """The room of a package that a module is in: a folder or a file of it."""

    def room(name):
        parts = name.split(".")
        return parts[1] if parts[0] == floor and len(parts) > 1 else None

    return room


def test_a_circle_is_found():
    """The search itself: it finds a circle behind a branch, and takes no diamond for one."""
    assert circle({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}}) == []
    assert circle({"a": {"b"}, "b": {"c", "x"}, "x": {"b"}}) == ["b", "x", "b"]


def test_imports_point_down():
    """Lldeg → jobs → orchestrator → stats, also for type checkers."""
    arrows = graph(lambda name: name.split(".")[0], types=True)
    up = {(a, b) for a, targets in arrows.items() for b in targets if FLOORS.index(b) < FLOORS.index(a)}
    assert up == set()


def test_no_circle_of_modules():
    """No module needs one that needs it."""
    assert circle(graph(types=False)) == []


def test_the_statistics_have_few_floors():
    """The longest chain of modules of stats in which each needs the next."""
    arrows = graph(lambda name: name if name.startswith("stats.") else None, types=False)

    @cache
    def height(name):
        return 1 + max(map(height, arrows.get(name, ())), default=0)

    assert max(map(height, list(arrows))) <= MAX_STATS_FLOORS


@pytest.mark.parametrize("floor", ["jobs", "orchestrator"])
def test_no_circle_of_rooms(floor):
    """No room of a package knows one that knows it, not even by types."""
    assert circle(graph(room_of(floor), types=True)) == []


@pytest.mark.parametrize("floor", ["jobs", "orchestrator"])
def test_a_package_has_few_rooms(floor):
    """Folders and files of a package, without its front doors."""
    rooms = {room_of(floor)(name) for name in modules()} - {None, "__main__"}
    assert len(rooms) <= MAX_ROOMS, sorted(rooms)


def test_files_are_short():
    """No file of code, tests or benchmarks is long."""
    folders = [*FLOORS, "tests", "benchmarks"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_class_name_has_two_meanings():
    """A name is one class in the whole product."""
    nodes = (node for path in modules().values() for node in ast.walk(tree(path)))
    names = [node.name for node in nodes if isinstance(node, ast.ClassDef)]
    assert {name for name in names if names.count(name) > 1} == set()


def test_only_engines_name_options_of_vllm():
    """Names with an underscore only; `dtype` may mean something else, as names in other tools' files do."""
    names = {name for name in vllm_options() if "_" in name} - OTHER_MEANINGS
    if not names:
        pytest.skip("vLLM is not installed")
    found = {
        (name, node.value)
        for name, path in modules().items()
        if not name.startswith(("orchestrator.engines", "stats", "jobs.formats", "jobs.scores"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert found == set()


def test_files_are_written_in_one_place():
    """Whole or not at all: nobody else writes to a path, but into folders that are temporary or hidden."""
    writers = {
        "write_text",
        "write_bytes",
        "open_output_stream",
        "copyfile",
        "copytree",
        "to_csv",
        "to_parquet",
    }
    found = {
        name
        for name, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in writers
    }
    assert found == {
        "orchestrator.rundir.whole_files",
        "jobs.commands.configs",  # into a `new_folder`
        "jobs.submit.remote_job",
        "orchestrator.cluster.code_shipping",
        "orchestrator.workers.sandbox",  # to /proc
    }


def test_the_list_of_tests_over_tasks_is_whole():
    """Every name has an entry and a field of a comparison; what is made of others is made of statistics."""
    assert tuple(c.name for c in COMBINATIONS) == get_args(Combine)
    assert {c.field for c in COMBINATIONS} <= {field.name for field in fields(Comparison)}
    assert set(SMALLEST_OF) <= set(STATISTICS)


@pytest.mark.parametrize("name", CHOICES)
def test_options_offer_what_the_statistics_know(name):
    """Values and defaults of `lldeg analyze --combine` and its like are those of the statistics."""
    assert get_args(get_type_hints(analyze)[name]) == CHOICES[name]
    for function in (analyze, lldeg.analyze):
        assert signature(function).parameters[name].default == getattr(Settings, name)
