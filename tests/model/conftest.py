"""A second model, beside the quickstart's."""

import shutil

import pytest


@pytest.fixture(scope="package")
def llama(tmp_path_factory, model_folder):
    """A random Llama of 8 heads, a number that two workers can share, with the quickstart's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8}
    LlamaForCausalLM(LlamaConfig(vocab_size=49152, max_position_embeddings=512, **shape)).save_pretrained(
        folder
    )
    for file in model_folder.glob("token*"):
        shutil.copy(file, folder)
    return folder
