"""The columns of samples and items in Parquet: what every reader of a run directory can rely on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ITEMS = pa.schema(
    {
        "task": pa.string(),
        "item": pa.int32(),
        "doc_hash": pa.string(),
        "prompt_hash": pa.string(),
        "cluster": pa.string(),
        "prompt": pa.string(),
        "target": pa.string(),
        "doc": pa.string(),
    }
)
"""Documents and prompts of a task; one row per item."""


@dataclass(frozen=True)
class SampleColumns:
    """Columns of every block of a run: a score per "metric,filter", a filtered text per filter, of all tasks.

    All files of a run share them, so that a reader takes the whole folder for one table; what a task does not
    have is null in its rows.
    """

    metrics: tuple[str, ...]
    filters: tuple[str, ...]

    @classmethod
    def of(cls, tasks: Iterable[Mapping[str, Any]]) -> SampleColumns:
        """Columns for tasks, given as entries of a manifest."""
        entries = list(tasks)
        return cls(
            tuple(sorted({metric for entry in entries for metric in entry["metrics"]})),
            tuple(sorted({name for entry in entries for name in entry["filters"]})),
        )

    @property
    def schema(self) -> pa.Schema:
        """The Parquet schema."""
        return pa.schema(
            {
                "item": pa.int32(),
                "doc_hash": pa.string(),
                "prompt_hash": pa.string(),
                "temperature": pa.float32(),
                "seed": pa.int32(),
                "scores": pa.struct({metric: pa.float64() for metric in self.metrics}),
                "response": pa.string(),
                "filtered": pa.struct({name: pa.string() for name in self.filters}),
                "finish_reason": pa.string(),
                "prompt_tokens": pa.int32(),
                "output_tokens": pa.int32(),
                "error": pa.string(),
                "sample_key": pa.string(),
            }
        )
