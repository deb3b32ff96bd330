"""What `lldeg.analyze` and `lldeg.submit` return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from jobs.analysis.compare import Analysis, VariantResult
    from jobs.analysis.policy import Decision
    from jobs.scores.score_set import ScoreSet
    from orchestrator.rundir.progress import SweepProgress


@dataclass(frozen=True)
class AnalysisResult:
    """The verdicts on all variants.

    Attributes:
        analysis: everything that was found, with the paired scores behind it.
    """

    analysis: Analysis = field(repr=False)

    @property
    def scores(self) -> ScoreSet:
        """The scores as they were read; of a run that stops early, those that count."""
        return self.analysis.scores

    @property
    def decision(self) -> Decision | None:
        """Of the policy; None without one."""
        return self.analysis.decision

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
        from jobs.text.outputs import verdicts  # noqa: PLC0415 - the package loads nothing before it is needed

        return verdicts(self.analysis)

    def to_frame(self, *, by_task: bool = False) -> pd.DataFrame:
        """The verdicts as a pandas table, unrounded.

        Args:
            by_task: one row per variant, temperature and task instead of one per variant and temperature.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415
        except ImportError:
            raise UserError("`to_frame` needs pandas: pip install 'lldeg[frames]'.") from None

        from jobs.text.outputs import summary_rows  # noqa: PLC0415

        return pd.DataFrame(summary_rows(self.analysis, by_task=by_task))

    def exit_status(self, gate: Literal["degraded", "certified"] = "degraded") -> int:
        """The exit status of `lldeg analyze --gate GATE`: 0, 1 or 3; with a policy, that of its decision."""
        return self.analysis.exit_status(gate)

    def write(self, folder: str) -> None:
        """Write what `lldeg analyze` writes, in the place of what it wrote before.

        Args:
            folder: path or URL; made if it is not there.

        Raises:
            UserError: the folder cannot be written to.
        """
        from jobs.report.write import write_analysis  # noqa: PLC0415

        write_analysis(self.analysis, folder, "degraded")


@dataclass(frozen=True)
class SubmitResult:
    """What a submit left in the run directory.

    Attributes:
        run_dir: path or URL.
        planned: samples that the sweep asks for.
        written: samples written by this submit, errors included.
        errors: of these, samples that could not be answered.
        missing: samples that are still to be answered.
    """

    run_dir: str
    planned: int
    written: int
    errors: int
    missing: int

    @classmethod
    def of(cls, run_dir: str, progress: SweepProgress) -> SubmitResult:
        """The counts over all variants."""
        variants = progress.variants.values()
        return cls(
            run_dir=run_dir,
            planned=sum(counts.planned for counts in variants),
            written=sum(counts.written for counts in variants),
            errors=sum(counts.errors for counts in variants),
            missing=progress.owed,
        )


class IncompleteRunError(UserError):
    """A submit ended with samples missing.

    Attributes:
        result: what is in the run directory.
    """

    def __init__(self, result: SubmitResult) -> None:
        self.result = result
        super().__init__(
            f"{result.run_dir} is incomplete: {result.missing:,} of {result.planned:,} samples are missing; "
            "submit again to resume."
        )
