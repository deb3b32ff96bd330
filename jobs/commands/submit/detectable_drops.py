"""What a planned sweep will be able to detect, task by task: the end of `lldeg submit --dry-run`.

It takes a flip rate: one that the user names, or those that an earlier run has shown. Of an earlier run the
variant that flips most counts, so that a plan is never too small for any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from jobs.commands.power import detectable_text
from jobs.commands.submit.expected_samples import expectation
from jobs.reruns.summary import summarize
from jobs.scores.read import read_reruns
from jobs.scores.rerun_set import Wanted
from jobs.text.format import clean, temperature_text
from orchestrator.errors import UserError
from stats.planning import Design

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobs.reruns.summary import FlipReport
    from orchestrator.sweep.plan import Plan

ASSUMED = 0.1
"""Flip rate assumed by default: 4-bit weights flip about 13 % of the answers, 8-bit ones 9 % or less."""


Rates = tuple[float, float | None]


@dataclass(frozen=True)
class FlipRates:
    """How often answers are expected to flip.

    Attributes:
        default: for tasks that nothing is known about.
        known: (flip rate against the baseline, that of the baseline against itself or None), by task and
            temperature, and by task and None for a temperature that was not run.
        source: where they come from, for a sentence.
    """

    default: float
    known: Mapping[tuple[str, float | None], Rates]
    source: str

    def of(self, task: str, temperature: float) -> Rates:
        """Flip rate and noise rate of a task at a temperature."""
        anywhere = self.known.get((task, None), (self.default, None))
        return self.known.get((task, temperature), anywhere)


def given_flip_rate(rate: float | None) -> FlipRates:
    """The same flip rate for all tasks.

    Raises:
        UserError: if it is not a share.
    """
    if rate is None:
        return FlipRates(ASSUMED, {}, f"assuming that {ASSUMED:.0%} of the answers flip")
    if not 0.0 < rate < 1.0:
        raise UserError(f"--flip-rate must be between 0 and 1, but is {rate:g}.")
    return FlipRates(rate, {}, f"if {rate:.1%} of the answers flip")


def measured_flip_rates(location: str) -> FlipRates:
    """The flip rates of an earlier run: the largest of any variant, by task and temperature.

    Raises:
        UserError: if it is not a run, or nothing flips in it.
    """
    known = _measured(summarize(read_reruns([location], Wanted({}))))
    if not known:
        raise UserError(f"No answer flips in {location}; set the rate with --flip-rate instead.")
    rates = [rate for (_, temperature), (rate, _) in known.items() if temperature is None]
    return FlipRates(sum(rates) / len(rates), known, f"if answers flip as in {location}")


def _measured(report: FlipReport) -> dict[tuple[str, float | None], Rates]:
    noise: dict[tuple[str, float | None], float] = {}
    rates: dict[tuple[str, float | None], float] = {}
    baseline = report.cells[0].variant if report.cells else ""
    for cell in report.cells:
        if cell.task is not None and cell.flip_rate is not None and cell.variant == baseline:
            for key in ((cell.task, cell.temperature), (cell.task, None)):
                noise[key] = max(noise.get(key, 0.0), cell.flip_rate.value)
    for entry in report.against:
        if entry.task is not None:
            for key in ((entry.task, entry.temperature), (entry.task, None)):
                rates[key] = max(rates.get(key, 0.0), entry.flip_rate.value)
    found = {key: max(rates.get(key, 0.0), noise.get(key, 0.0)) for key in (*rates, *noise)}
    return {key: (rate, noise.get(key)) for key, rate in found.items() if 0.0 < rate < 1.0}


@dataclass(frozen=True)
class _Row:
    """A task at one temperature."""

    task: str
    temperature: float
    items: int
    reruns: int


def detection_table(plan: Plan, rates: FlipRates, alpha: float, power: float = 0.8) -> Table:
    """Smallest drop that each task, and all together, will show at each temperature.

    For a sweep that stops early, the caption says which share of the samples it is expected to use.

    Args:
        plan: the sweep.
        rates: expected flips.
        alpha: level; shared among the tasks of a temperature, and for all together among the comparisons.
        power: chance of detection.
    """
    rows = _rows(plan)
    temperatures = sorted({row.temperature for row in rows})
    comparisons = max(1, len(plan.sweep.variants) - 1) * len(temperatures)
    table = Table(
        title=f"Smallest detectable drops with power {power:g} at level {alpha:g}, {rates.source}",
        title_justify="left",
    )
    for heading in ("task", "T", "items", "reruns", "flips %", "smallest drop"):
        table.add_column(heading, justify="left" if heading == "task" else "right", overflow="fold")
    for temperature in temperatures:
        here = [row for row in rows if row.temperature == temperature]
        for row in here:
            rate, noise = rates.of(row.task, row.temperature)
            _add(table, row, Design(row.items, rate, row.reruns, noise, alpha / len(here), power))
        if len(here) > 1:
            _add(table, *_together(here, rates, alpha / comparisons, power))
    if entry := plan.manifest.get("stopping"):
        table.caption, table.caption_justify = expectation(entry, whole_designs(plan, rates, alpha)), "left"
    return table


def whole_designs(plan: Plan, rates: FlipRates, alpha: float, power: float = 0.8) -> dict[float, Design]:
    """By temperature, all tasks together."""
    by_temperature: dict[float, list[_Row]] = {}
    for row in _rows(plan):
        by_temperature.setdefault(row.temperature, []).append(row)
    return {t: _together(here, rates, alpha, power)[1] for t, here in sorted(by_temperature.items())}


def _rows(plan: Plan) -> list[_Row]:
    baseline = plan.sweep.config.baseline
    return [
        _Row(cell.task, temperature, len(cell.items), sum(r.temperature == temperature for r in cell.reruns))
        for cell in plan.cells_of(baseline)
        for temperature in dict.fromkeys(rerun.temperature for rerun in cell.reruns)
    ]


def _together(rows: Sequence[_Row], rates: FlipRates, alpha: float, power: float) -> tuple[_Row, Design]:
    """All tasks of a temperature as one: rates weighted by items, the fewest reruns of any."""
    items = sum(row.items for row in rows)
    known = [(row.items / items, *rates.of(row.task, row.temperature)) for row in rows]
    rate = sum(weight * flips for weight, flips, _ in known)
    noise = sum(weight * (flips if noisy is None else noisy) for weight, flips, noisy in known)
    whole = _Row("all tasks", rows[0].temperature, items, min(row.reruns for row in rows))
    return whole, Design(items, rate, whole.reruns, min(noise, rate), alpha, power)


def _add(table: Table, row: _Row, design: Design) -> None:
    table.add_row(
        Text(clean(row.task)),
        temperature_text(row.temperature),
        f"{row.items:,}",
        str(row.reruns),
        f"{100 * design.flip_rate:.1f}",
        detectable_text(design),
    )
