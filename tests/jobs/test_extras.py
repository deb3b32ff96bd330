"""What an extra brings is asked for in one sentence, which names it as pyproject.toml does."""

import re
import tomllib

import pytest
from standin.command import ROOT

from jobs.quickstart_model import prepare
from jobs.round_weights import round_folder
from lldeg import AnalysisResult, UserError, submit
from orchestrator import extras

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def core_only(monkeypatch):
    """Nothing that only an extra brings is installed."""
    monkeypatch.setattr(extras, "find_spec", lambda name: None)


@pytest.mark.parametrize("arguments", [("submit", "x.yaml"), ("figures", "--out", "x")], ids=lambda a: a[0])
def test_a_command_without_its_extra_is_refused(lldeg, core_only, arguments):
    """Exit status 2, and what to install."""
    ended = lldeg(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert re.fullmatch(rf"Error: lldeg {arguments[0]} needs .+: pip install 'lldeg\[.+\]'.*\.\n", ended.err)


def test_python_gets_the_same_sentence(core_only, tmp_path):
    """As an error of the user; what makes models, too, and nothing is left of them."""
    (tmp_path / "x.safetensors").touch()
    for action in (
        lambda: submit("x.yaml"),
        lambda: AnalysisResult(None).to_frame(),
        lambda: round_folder(tmp_path, tmp_path / "rounded", bits=4),
        lambda: prepare(tmp_path / "x.gguf", tmp_path / "model"),
    ):
        with pytest.raises(UserError, match=r"needs .+: pip install 'lldeg\["):
            action()
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_the_extras_exist():
    """Every name in a sentence is one of pyproject.toml's, and none of their packages is always installed."""
    named = {name for _, text in extras.EXTRAS.values() for name in re.findall(r"lldeg\[(\w+)\]", text)}
    assert named <= PROJECT["optional-dependencies"].keys()
    always = {re.split(r"[\[<>=]", line)[0] for line in PROJECT["dependencies"]}
    modules = {module for modules, _ in extras.EXTRAS.values() for module in modules}
    assert not modules & {name.replace("-", "_") for name in always}
