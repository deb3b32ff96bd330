"""A LoRA adapter as a variant, on the real model."""

import json

import pytest
import torch
from safetensors.torch import save_file
from standin.command import ROOT
from standin.files import write_sweep
from standin.machine import DTYPE
from standin.rows import events, samples

pytestmark = pytest.mark.model

RANK, LAYER = 4, "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"


def write_adapter(folder, config, strength):
    """An adapter of the query projections of all layers, which changes nothing at strength 0."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    tensors = {}
    for layer in range(layers):
        tensors[LAYER.format(layer, "A")] = torch.randn(RANK, width, generator=generator) / width**0.5
        tensors[LAYER.format(layer, "B")] = strength * torch.randn(width, RANK, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return str(folder)


def test_an_adapter_is_used_for_every_query(tmp_path, model_folder, command):
    """In one process: one that changes nothing gives the base texts, another others; identities differ."""
    config = json.loads((model_folder / "config.json").read_text())
    adapters = {
        name: write_adapter(tmp_path / name, config, by) for name, by in (("zero", 0.0), ("large", 0.5))
    }
    path = write_sweep(
        tmp_path,
        model=str(model_folder),
        include_path=str(ROOT / "configs" / "tasks" / "quickstart"),
        tasks=[{"task": "lldeg_sums", "limit": 6}],
        engine={
            "dtype": DTYPE,
            "max_model_len": 256,
            "block_size": 32,
            "enforce_eager": True,
            "kv_cache_memory_bytes": 1 << 28,
        },
        variants={"base": {}, **{name: {"lora": folder} for name, folder in adapters.items()}},
    )
    status, _, err = command.run("submit", path, "--run-dir", tmp_path / "run", cwd=tmp_path, timeout=900)
    assert status == 0, err
    assert [one.get("process_of") for one in events(tmp_path / "run", "started")] == [None, 1, 2]
    rows = samples(tmp_path / "run")
    assert [row["error"] for row in rows if row["error"]] == []
    texts = {
        name: {row["item"]: row["response"] for row in rows if row["variant"] == name}
        for name in ("base", *adapters)
    }
    assert texts["zero"] == texts["base"] != texts["large"]
    variants = json.loads((tmp_path / "run" / "manifest.json").read_text())["variants"]
    assert len({entry["revision"] for entry in variants.values()}) == 3
