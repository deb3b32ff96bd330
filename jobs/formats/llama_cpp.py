"""Reads what `llama-perplexity --kl-divergence` prints: a model beside its base, chunk by chunk of a text.

Its table (`kl_divergence` in tools/perplexity/perplexity.cpp of llama.cpp) has running means over all chunks
so far, each of as many tokens; a chunk's own are their differences. They have four or five decimals, so that
a late chunk is known less well than the mean of all. Chunks are the items, and the negative log-likelihood of
a token is their score. Of several logs in a folder, which must have one base, that base is read once.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.formats.json_files import files_at, head_of
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, SampleBatch, Stated, TaskFacts
from orchestrator.errors import UserError
from orchestrator.input_files import read_input
from stats import fidelity

TASK, METRIC, BASE = "perplexity", "nll", "base"
MARK, HEAD = b"KL Divergence", 1 << 20
FIELDS, PLACES = 18, (1, 4, 7, 14)
"""Of a row: number, then perplexity, logarithm of the ratio, divergence, Δp and same top, each "… ± …"."""
LARGEST_DIFFERENCE = 1e-3  # of one base in two logs, as they are rounded


def _files(path: str) -> list[Path]:
    """The file itself, or all logs below a folder; those of PowerShell are UTF-16."""
    files = files_at(path, "*.log"), files_at(path, "*.txt")
    return [
        file for file in sorted({*files[0], *files[1]}) if MARK in head_of(file, HEAD).replace(b"\0", b"")
    ]


def _evaluations(path: str) -> Iterator[Evaluation]:
    """One per log, and before them one of the base, as the longest log has it."""
    logs = {file: _chunks(file) for file in _files(path)}
    whole = max(logs, key=lambda file: logs[file].shape[1])
    base = logs[whole][0] - logs[whole][1]
    yield Evaluation(f"{whole}, base", partial(_read, BASE, np.array([base, *[np.zeros_like(base)] * 3])))
    names = {BASE}
    for file, numbers in logs.items():
        if abs(numbers[0, 0] - numbers[1, 0] - base[0]) > LARGEST_DIFFERENCE:
            raise UserError(f"{file} has another base or another text than {whole}.")
        if file.stem in names:
            raise UserError(f"{file} has the name of another log, or of the base: name it after its model.")
        names.add(file.stem)
        yield Evaluation(str(file), partial(_read, file.stem, numbers))


FORMAT = InputFormat(
    "a log of llama.cpp's --kl-divergence", "logs of llama.cpp's --kl-divergence", _files, _evaluations
)


def _chunks(file: Path) -> NDArray[np.float64]:
    """Negative log-likelihood, its excess over the base's, divergence, and share of other likeliest tokens.

    Shape (4, chunks); of a log of several runs the last one counts. A UserError if a chunk is missing.
    """
    rows: list[list[float]] = []
    try:
        text = read_input(file).replace(b"\0", b"").decode("utf-8", "replace")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}.") from error
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == FIELDS and fields[0].isdecimal() and fields[13] == fields[17] == "%":
            if fields[0] == "1":
                rows.clear()
            rows.append([float(fields[place]) for place in PLACES])
            if int(fields[0]) != len(rows):
                raise UserError(f"{file} has no row of chunk {len(rows)}.")
    means = np.array(rows).T
    if not rows or not np.isfinite(means).all() or means[0].min() <= 0.0:
        raise UserError(f"{file} has no table of chunks with finite numbers.")
    running = np.array([np.log(means[0]), means[1], means[2], 1.0 - means[3] / 100.0])
    chunks: NDArray[np.float64] = np.diff(running * np.arange(1, len(rows) + 1), prepend=0.0)
    chunks[3] = chunks[3].clip(0.0, 1.0)
    return chunks


def _read(model: str, numbers: NDArray[np.float64], _query: InputQuery) -> Iterator[SampleBatch]:
    score, excess, divergence, other = numbers
    stated = {METRIC: Stated(higher_is_better=False)}
    facts = TaskFacts(TASK, model, preferred=(METRIC,), stated=stated, output_type=None)
    values = (divergence, excess, np.exp(excess), other)
    columns = {name: own.tolist() for name, own in zip(fidelity.NAMES, values, strict=False)}
    yield SampleBatch(facts, list(range(1, score.size + 1)), {METRIC: score}, columns)
