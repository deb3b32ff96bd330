"""Reads sample files: the columns that are needed, in large pieces."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.inputs.notices import NoticeCode
from jobs.inputs.run_directory.files import RunFiles
from orchestrator.engines.base import CUT
from orchestrator.rundir.sample_files import read_whole

ROWS_PER_PIECE = 1 << 17
MARKS = {
    NoticeCode.CUT_ANSWERS: (("finish_reason", pa.string()), ds.field("finish_reason") == CUT),
    NoticeCode.CUT_PROMPTS: (("prompt_cut", pa.int32()), ds.field("prompt_cut") > 0),
}
"""What is noted of an answer: the column that tells, which older files may lack, and when it does."""


def scan(run: RunFiles, files: list[str], metric: str, text: str) -> Iterator[pa.Table]:
    """Read samples, in pieces of many files: a call per file would cost more than the reading.

    Args:
        run: the run directory.
        files: paths of its sample files.
        metric: key of the metric.
        text: a column of texts, "prompt_hash" or "response"; it comes dictionary-encoded.

    Yields:
        Tables with the columns item, temperature, seed, score, `text`, and one for each of `MARKS`: whether
        it holds of the answer, null where that is unknown.

    Raises:
        pyarrow.ArrowInvalid: if a file is torn, or no file has the metric.
        OSError: if a page of a file differs from its checksum, or the storage fails.
    """
    if not files:
        return
    dictionary = ds.ParquetReadOptions(dictionary_columns={text})
    verified = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    form = ds.ParquetFileFormat(read_options=dictionary, default_fragment_scan_options=verified)
    data = ds.dataset(files, format=form, filesystem=run.filesystem)
    columns = {name: ds.field(name) for name in ("item", "temperature", "seed", text)}
    columns["score"] = ds.field("scores", metric)
    for code, (field, holds) in MARKS.items():
        columns[code] = holds
        if field[0] not in data.schema.names:
            data = data.replace_schema(data.schema.append(pa.field(*field)))
    held: list[pa.RecordBatch] = []
    scanner = data.scanner(columns=columns, batch_size=ROWS_PER_PIECE, use_threads=False)
    for tagged in scanner.scan_batches():
        if tagged.record_batch.num_rows:
            held.append(tagged.record_batch)
            run.note_items(tagged.fragment.path, tagged.record_batch.column("item"))
        if sum(piece.num_rows for piece in held) >= ROWS_PER_PIECE:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()


def is_sound(run: RunFiles, path: str) -> bool:
    """Whether a sample file was written to its end, and nothing in it has changed since."""
    return read_whole(run.filesystem, path, texts=True) is not None
