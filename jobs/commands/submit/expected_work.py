"""What is still to be asked and how long that may take: lines of `lldeg submit --dry-run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from orchestrator.errors import UserError
from orchestrator.rundir.heartbeat import read_status
from orchestrator.rundir.sample_files import read_whole
from orchestrator.workers.stopping import still_needed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.sweep.blocks import Cell
    from orchestrator.sweep.plan import Plan
    from orchestrator.sweep.prompt_lengths import Lengths
    from orchestrator.workers.stopping import StoppingPolicy

MOST_RATE = 1e9  # tokens per second
OUTPUT = "output_tokens"
FILES = 4
"""Sample files of a task from which the length of its answers is taken."""


@dataclass(frozen=True)
class Rate:
    """Tokens that all engines of a sweep process in a second, prompts and answers together.

    Attributes:
        source: where the number comes from, for a sentence.
    """

    tokens: float
    source: str


def rate_of(plan: Plan, given: float | None) -> Rate | None:
    """The rate to expect: a given one, else that of the last submit of the run; None if there is none.

    Raises:
        UserError: the given rate is no rate.
    """
    if given is not None:
        if not 0 < given <= MOST_RATE:
            raise UserError(f"--rate must be above 0 and at most {MOST_RATE:,.0f}, but is {given:g}.")
        return Rate(given, "--rate")
    status = read_status(plan.sweep.store)
    tokens = sum(count.prompt_tokens + count.output_tokens for count in status.variants.values())
    seconds = status.seconds or 0.0
    known = 0 < tokens <= MOST_RATE * seconds
    return Rate(tokens / seconds, "as in the last submit of this run") if known else None


@dataclass
class Work:
    """Requests and tokens that are still to come; `most` if every answer is as long as it may be."""

    requests: float = 0.0
    prompts: float = 0.0
    answers: float = 0.0
    most: float = 0.0

    def add(self, cell: Cell, missing: int, lengths: Lengths, known: float | None) -> None:
        """Count the missing samples of a cell.

        Args:
            cell: a variant on a task.
            missing: how many samples.
            lengths: of the task's prompts.
            known: mean length of the answers to the task, None if there are none yet.
        """
        passes = [lengths.repeats if rerun.temperature > 0 else 1 for rerun in cell.reruns]
        times = missing / lengths.items * sum(passes) / len(passes)
        self.requests += times * lengths.requests
        self.prompts += times * lengths.tokens
        self.most += times * lengths.requests * lengths.answer
        self.answers += times * (
            lengths.requests * lengths.answer if known is None else lengths.items * known
        )


def expected_work(plan: Plan, stopping: StoppingPolicy) -> Work:
    """All samples that are missing and needed."""
    work, lengths, known = Work(), plan.sweep.lengths, _answer_lengths(plan)
    for cell in plan.cells:
        if missing := still_needed([cell], stopping):
            work.add(cell, missing, lengths.of(cell.variant, cell.task), known.get(cell.task))
    return work


def _answer_lengths(plan: Plan) -> dict[str, float]:
    """Mean tokens of a sample's answers, by task, of the answers that the run has."""
    files: dict[str, list[str]] = {}
    for (_, task), paths in plan.sweep.store.sample_paths().items():
        files.setdefault(task, []).extend(paths)
    found = {}
    for task, paths in files.items():
        some = paths[:: -(-len(paths) // FILES)]
        tables = [read_whole(plan.sweep.store.filesystem, path, [OUTPUT]) for path in some]
        means = [pc.mean(table[OUTPUT]).as_py() for table in tables if table and OUTPUT in table.column_names]
        if known := [mean for mean in means if mean is not None]:
            found[task] = sum(known) / len(known)
    return found


def work_lines(
    plan: Plan, stopping: StoppingPolicy, rate: Rate | None, shares: tuple[float, float] | None
) -> Iterator[str]:
    """Requests, tokens and hours to expect, and how much of a sweep decodes, as sentences.

    Args:
        plan: the sweep.
        stopping: what earlier samples have decided.
        rate: tokens per second, None if unknown.
        shares: of the samples that are expected to be used with early stopping, with a drop and without.
    """
    work = expected_work(plan, stopping)
    if not work.requests:
        return
    answers = f" and at most {_rounded(work.most)} of answers" if work.most else ""
    if work.answers < work.most:
        answers = f" and {_rounded(work.answers)} of answers, at the length of those there are"
    yield (
        f"Still to come: about {_rounded(work.requests)} requests with {_rounded(work.prompts)} tokens of "
        f"prompts{answers}."
    )
    yield _duration(work, rate, shares)
    items = [(len(cell.items), cell.longest_answer > 0) for cell in plan.cells_of(plan.sweep.config.baseline)]
    generating = sum(count for count, is_text in items if is_text) / sum(count for count, _ in items)
    if generating < 1:
        yield (
            f"{generating:.0%} of the items generate text. The others are log-likelihoods, which cannot show "
            "what happens while a model decodes: speculative decoding, decode kernels, the prefix cache."
        )


def _duration(work: Work, rate: Rate | None, shares: tuple[float, float] | None) -> str:
    if rate is None:
        return "How long that takes will be known after a first submit, or with --rate TOKENS_PER_SECOND."
    seconds = (work.prompts + work.answers) / rate.tokens
    early = ""
    if shares is not None:
        least, most = (_hours(share * seconds) for share in sorted(shares))
        early = f", with early stopping {most if least == most else f'{least} to {most}'}"
    return f"At {_rounded(rate.tokens)} tokens a second ({rate.source}) that takes {_hours(seconds)}{early}."


def _hours(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def _rounded(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:,.1f} million"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
