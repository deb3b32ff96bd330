"""What `lldeg.analyze` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from jobs.analysis.compare import Analysis, VariantResult
    from jobs.inputs.score_set import ScoreSet


@dataclass(frozen=True)
class AnalysisResult:
    """The verdicts on all variants.

    Attributes:
        analysis: everything that was found, with the paired scores behind it.
        scores: the scores as they were read.
    """

    analysis: Analysis = field(repr=False)
    scores: ScoreSet = field(repr=False)

    @property
    def baseline(self) -> str:
        """Name of the baseline."""
        return self.analysis.baseline

    @property
    def comparisons(self) -> Sequence[VariantResult]:
        """One per variant and temperature: `variant`, `temperature`, and `comparison` with all numbers."""
        return self.analysis.results

    @property
    def degraded(self) -> tuple[str, ...]:
        """Variants that are degraded at any temperature, each once."""
        names = (result.variant for result in self.comparisons if result.comparison.verdict == "degraded")
        return tuple(dict.fromkeys(names))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the verdicts must know, a sentence each."""
        return tuple(notice.text for notice in self.analysis.warnings)

    @property
    def verdicts(self) -> dict[str, Any]:
        """The content of verdicts.json, as JSON values (docs/results.md)."""
        from jobs.analysis.outputs import verdicts  # noqa: PLC0415 - the package loads nothing before it is needed

        return verdicts(self.analysis)

    def to_frame(self, *, by_task: bool = False) -> pd.DataFrame:
        """The verdicts as a pandas table, unrounded.

        Args:
            by_task: one row per variant, temperature and task instead of one per variant and temperature.
        """
        import pandas as pd  # noqa: PLC0415

        from jobs.analysis.outputs import summary_rows, task_rows  # noqa: PLC0415

        return pd.DataFrame(task_rows(self.analysis) if by_task else summary_rows(self.analysis))

    def exit_status(self, gate: Literal["degraded", "certified"] = "degraded") -> int:
        """The exit status that `lldeg analyze --gate GATE` would have: 0, 1 or 3."""
        from jobs.analysis.gate import exit_status  # noqa: PLC0415

        return exit_status(self.analysis, gate)

    def write(self, folder: str) -> None:
        """Write what `lldeg analyze` writes: verdicts.json, tables, plots and report.html.

        Args:
            folder: path or URL; made if it is not there.

        Raises:
            OSError: the folder cannot be written to.
        """
        from jobs.analysis.outputs import write_outputs  # noqa: PLC0415
        from jobs.report import write_report  # noqa: PLC0415

        write_outputs(self.analysis, self.scores, folder)
        write_report(self.analysis, self.scores.runs, folder)
