"""`python -m jobs.round_weights SOURCE TARGET --bits 4 --group-size 64`: a model with its weights rounded.

Weight-only quantization stores each weight as a small integer and a scale that neighbours share, and
multiplies the two before it computes. What that does to a model's answers is in the products alone, so this
writes the products: an ordinary Hugging Face folder, which any engine runs on any CPU. It saves neither
memory nor time. The linear layers are rounded to nearest; embeddings and the output layer stay as they are,
as is usual in published checkpoints.
"""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.errors import UserError
from orchestrator.extras import require
from orchestrator.rundir.whole_files import new_folder

KEPT = ("embed", "lm_head", "norm")


def rounded(weight: Any, bits: int, group_size: int | None = None) -> Any:
    """Weights after symmetric round-to-nearest quantization.

    The scale of a group is its largest magnitude over half the integer range, kept in the weights' own number
    format, which is how compressed-tensors computes and stores it (`calculate_qparams`, symmetric).

    Args:
        weight: torch tensor, (outputs, inputs).
        bits: of the integers, 2 to 8.
        group_size: consecutive inputs of one output that share a scale; None for all of them (per channel).

    Returns:
        (outputs, inputs) in float32, which holds the products of scale and integer exactly.

    Raises:
        UserError: the inputs cannot be divided into groups of that size.
    """
    outputs, inputs = weight.shape
    size = inputs if group_size is None else group_size
    if inputs % size:
        raise UserError(f"{inputs} inputs cannot be divided into groups of {size}.")
    groups = weight.float().reshape(outputs, inputs // size, size)
    largest = groups.abs().amax(dim=-1, keepdim=True)
    scale = (largest / ((2**bits - 1) / 2)).to(weight.dtype).float()
    scale[scale == 0] = 1.0
    integers = (groups / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (integers * scale).reshape(outputs, inputs)


def round_folder(source: Path, target: Path, *, bits: int, group_size: int | None = None) -> None:
    """Write a model folder whose linear layers are rounded; it appears whole or not at all.

    Raises:
        UserError: the target exists, the source holds no weights in safetensors files, or they do not divide
            into such groups.
    """
    if target.exists():
        raise UserError(f"{target} already exists.")
    files = sorted(source.glob("*.safetensors"))
    if not files:
        raise UserError(f"{source} is not a model folder: it has no *.safetensors file.")
    require("models", "Rounding weights")
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - brings torch, seconds

    with new_folder(target) as unfinished:
        for file in source.iterdir():
            if file.is_file() and file not in files:
                shutil.copy(file, unfinished)
        for file in files:
            weights = load_file(file)
            for name, weight in weights.items():
                if weight.dim() == 2 and not any(part in name for part in KEPT):
                    weights[name] = rounded(weight, bits, group_size)
            save_file(weights, unfinished / file.name, metadata={"format": "pt"})


def main(
    source: Annotated[Path, typer.Argument(help="Folder of a Hugging Face model.")],
    target: Annotated[Path, typer.Argument(help="Folder to write.")],
    *,
    bits: Annotated[int, typer.Option(help="Bits per weight.", min=2, max=8)] = 4,
    group_size: Annotated[
        int | None, typer.Option(help="Weights that share a scale; default: all of an output channel.", min=1)
    ] = None,
) -> None:
    """Write a copy of a model with the weights of its linear layers rounded to the nearest level."""
    try:
        round_folder(source, target, bits=bits, group_size=group_size)
    except UserError as error:
        typer.echo(str(error), err=True)
        sys.exit(2)


if __name__ == "__main__":
    typer.run(main)
