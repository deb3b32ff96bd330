"""What a sweep would run, how much work that is, and what it can detect: `lldeg submit --dry-run`.

What it can detect follows from a flip rate: one that the user names, or those that an earlier run has shown.
Of an earlier run the variant that flips most counts, so that a plan is never too small for any of them.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from jobs.analysis.sequential.run_monitor import comparisons_of, settled_tasks, stopping_of
from jobs.formats.run_files import RunFiles
from jobs.reruns.summary import Entry, summarize
from jobs.scores.read import read_reruns
from jobs.submit import run_sweep
from jobs.submit.request import SubmitRequest
from jobs.text.format import clean, detectable_text, money, points_text, temperature_text
from jobs.text.terminal import fitting
from orchestrator.cluster.resources import CPUS_BESIDE_A_GPU
from orchestrator.errors import UserError
from orchestrator.rundir.progress import read_status
from orchestrator.rundir.store import read_whole
from orchestrator.sweep.plan import Plan
from orchestrator.workers.stopping import StoppingPolicy, still_needed
from stats.arrays import Floats
from stats.planning import Design
from stats.sequential.paths import expected_course

ASSUMED_FLIP_RATE = 0.1  # 4-bit weights flip about 13 % of the answers, 8-bit ones 9 % or less
ASSUMED_DROP = 0.02
"""In a sweep that stops early, unless so few answers flip that there can only be a smaller one."""
MOST_TOKENS_PER_SECOND = 1e9
WIDEST = 9_999  # characters of a table that is not to be folded
FILES = 4  # sample files of a task from which the length of its answers is taken
OUTPUT = "output_tokens"
POWER = 0.8

RateOf = Callable[[str, float], tuple[float, float | None]]
"""Of a task and temperature the flip rate, and that of the baseline against itself, None if unknown."""
Designs = Mapping[float, tuple[dict[str, Design], Design]]
"""By temperature: the design of each task, and of all of them together at the level of the sweep."""


def show_dry_run(request: SubmitRequest, console: Console) -> None:
    """Print the forecast of a sweep; nothing is written, and no engine started.

    Raises:
        UserError: every mistake in the configuration; no flip rate, or none in the run that is named.
    """
    sweep = run_sweep.prepare_sweep(request, console)
    plan = run_sweep.announce_plan(sweep, request, console)
    known = measured_flip_rates(request.flips_of) if request.flips_of else given_flip_rate(request.flip_rate)
    stopping = StoppingPolicy()
    if sweep.store.has_run():
        stopping = run_sweep.early_stopping(plan, lambda _: None, record=False)
    speed = tokens_per_second(plan, request.rate)
    console.print(fitted(plan_table(plan, stopping), console))
    designs = detectable_designs(plan, known[0])
    shares = expected_shares(plan, designs)
    for line in work_lines(plan, stopping, speed, shares):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    fate = "their samples will fail" if sweep.config.prompt.must_fit else "their beginning will be cut off"
    for excess in sweep.too_long():
        console.print(f"Warning: {excess}: {fate}.", style="yellow", markup=False, soft_wrap=True)
    console.print(fitted(detection_table(plan, designs, known[1], shares), console))


def fitted(table: Table, console: Console) -> RenderableType:
    """A table with lines, or where it does not fit its rows as `fitting` lays them out."""
    if Measurement.get(console, console.options.update(width=WIDEST), table).maximum <= console.width:
        return table
    cells = ([str(column.header), *map(str, column.cells)] for column in table.columns)
    header, *rows = zip(*cells, strict=True)
    caption = [Text(str(table.caption))] if table.caption else []
    return Group(Text(str(table.title)), fitting(header, rows, console.width), *caption)


def plan_table(plan: Plan, stopping: StoppingPolicy) -> Table:
    """Per variant and task, the samples planned, done and missing; those not needed are not missing."""
    missing = [still_needed([cell], stopping) for cell in plan.cells]
    loads = dict.fromkeys(cell.variant for cell, count in zip(plan.cells, missing, strict=True) if count)
    total = sum(cell.planned for cell in plan.cells)
    owed = sum(cell.owed for cell in plan.cells)
    not_needed = f", {owed - sum(missing):,} not needed" if owed > sum(missing) else ""
    engines = "no engine to load" if not loads else f"engines to load: {', '.join(loads)}"
    counts = f"{total:,} samples, {total - owed:,} done, {sum(missing):,} missing{not_needed}"
    headings = ("variant", "task", "items", "reruns", "planned", "done", "missing")
    table = _ruled_table(f"{plan.sweep.store.url}: {counts}; {engines}", headings, names=2)
    for cell, count in zip(plan.cells, missing, strict=True):
        numbers = (len(cell.items), len(cell.reruns), cell.planned, cell.planned - cell.owed, count)
        task = f"{cell.task} (fidelity)" if cell.fidelity else cell.task
        table.add_row(Text(cell.variant), Text(task), *(f"{number:,}" for number in numbers))
    return table


def _ruled_table(title: str, headings: Sequence[str], names: int) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < names else "right", overflow="fold")
    return table


def tokens_per_second(plan: Plan, given: float | None) -> tuple[float, str] | None:
    """Tokens that all engines process in a second, prompts and answers together, and where that is from.

    It is the rate that the user names, or that of the run's last submit; None if that tells none.

    Raises:
        UserError: the given rate is no rate.
    """
    most = MOST_TOKENS_PER_SECOND
    if given is not None:
        if not 0 < given <= most:
            raise UserError(f"--rate must be above 0 and at most {most:,.0f}, but is {given:g}.")
        return given, "--rate"
    status = read_status(plan.sweep.store)
    tokens = sum(count.prompt_tokens + count.output_tokens for count in status.variants.values())
    seconds = status.seconds or 0.0
    known = 0 < tokens <= most * seconds
    return (tokens / seconds, "as in the last submit of this run") if known else None


def expected_work(plan: Plan, stopping: StoppingPolicy) -> dict[str, Floats]:
    """What each variant lacks and needs: requests, tokens of prompts, of answers as expected and at most."""
    files, answer_lengths = plan.sweep.store.sample_paths(), dict[str, float]()
    work = {name: np.zeros(4) for name in plan.sweep.variants}
    for task in {task for _, task in files}:  # mean tokens of a sample's answers, of those that the run has
        paths = [path for (_, own), of_cell in files.items() if own == task for path in of_cell]
        some = paths[:: -(-len(paths) // FILES)]
        tables = [read_whole(plan.sweep.store.filesystem, path, [OUTPUT]) for path in some]
        means = [pc.mean(table[OUTPUT]).as_py() for table in tables if table and OUTPUT in table.column_names]
        if known := [mean for mean in means if mean is not None]:
            answer_lengths[task] = sum(known) / len(known)
    for cell in plan.cells:
        if missing := still_needed([cell], stopping):
            lengths = plan.sweep.lengths(cell.variant, cell.task)
            repeats = [lengths.repeats if rerun.temperature > 0 else 1 for rerun in cell.reruns]
            most = lengths.requests * lengths.answer
            each = answer_lengths.get(cell.task)
            answers = most if each is None else lengths.items * each
            times = missing / lengths.items * sum(repeats) / len(repeats)
            if cell.fidelity:  # reads the answers, too
                work[cell.variant] += times * np.array([lengths.requests, lengths.tokens + answers, 0, 0])
                continue
            work[cell.variant] += times * np.array([lengths.requests, lengths.tokens, answers, most])
    return work


def work_lines(
    plan: Plan,
    stopping: StoppingPolicy,
    speed: tuple[float, str] | None,
    shares: Mapping[float, Sequence[float]],
) -> Iterator[str]:
    """Requests, tokens and hours to expect, at that speed and with those shares, and what part decodes."""
    work = expected_work(plan, stopping)
    requests, prompts, answers, most = sum(work.values(), np.zeros(4)).tolist()
    if not requests:
        return
    of_answers = f" and at most {_rounded(most)} of answers" if most else ""
    if answers < most:
        of_answers = f" and {_rounded(answers)} of answers, judging by the answers so far"
    yield (
        f"Still to come: about {_rounded(requests)} requests with {_rounded(prompts)} tokens of "
        f"prompts{of_answers}."
    )
    if speed is None:
        yield "How long that takes will be known after a first submit, or with --rate TOKENS_PER_SECOND."
    else:
        seconds, early = (prompts + answers) / speed[0], ""
        if shares:
            means = sorted(sum(each) / len(each) for each in shares.values())
            least, longest = (_hours(share * seconds) for share in means)
            early = f", with early stopping {longest if least == longest else f'{least} to {longest}'}"
        source = f"{_rounded(speed[0])} tokens a second ({speed[1]})"
        yield f"At {source} that takes {_hours(seconds)}{early}."
    yield from cost_lines(plan, work, speed)
    items = [(len(cell.items), cell.longest_answer > 0) for cell in plan.baseline_cells]
    generating = sum(count for count, is_text in items if is_text) / sum(count for count, _ in items)
    if generating < 1:
        yield (
            f"{generating:.0%} of the items generate text. The others are log-likelihoods, which cannot show "
            "what happens while a model decodes: speculative decoding, decode kernels, the prefix cache."
        )


def cost_lines(plan: Plan, work: Mapping[str, Floats], speed: tuple[float, str] | None) -> Iterator[str]:
    """What the work of each variant will cost by its prices, and whether the budget is enough for it.

    Hours are those of one replica at a time, or as many as are asked for, with the GPUs of its engine.
    """
    config, costs, unknown = plan.sweep.config, dict[str, float](), False
    engines = 1 if config.cluster.replicas == "auto" else config.cluster.replicas
    for name, (_, prompts, answers, _) in work.items():
        variant = plan.sweep.variants[name]
        gpus, cpus = variant.cluster.gpus_per_replica, variant.cluster.cpus_per_replica
        gpus = (0 if variant.kind.served else variant.kind.gpus) if gpus is None else gpus
        hour = engines * variant.cost.hour(gpus, cpus or (CPUS_BESIDE_A_GPU if gpus else os.cpu_count() or 1))
        unknown |= bool(hour) and speed is None
        hours = (prompts + answers) / speed[0] / 3600.0 if speed else 0.0
        costs[name] = variant.cost.tokens(prompts, answers) + hour * hours
    if not any(price for variant in plan.sweep.variants.values() for _, price in variant.cost):
        return
    spent, total = sum(count.spent for count in plan.initial_counts().values()), sum(costs.values())
    if unknown:
        yield "What its hours cost will be known after a first submit, or with --rate TOKENS_PER_SECOND."
    else:
        listed = ", ".join(f"{clean(name)} {money(cost)}" for name, cost in costs.items())
        yield f"Estimated cost, from planned samples and their tokens: {money(total)} ({listed})."
    if config.budget is not None:
        lacks = total > config.budget - spent
        fits = ": the budget will run out before the sweep is complete" if lacks else ", which is enough"
        yield f"{money(spent)} of the budget of {config.budget:,g} is spent{'' if unknown else fits}."


def _hours(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _rounded(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:,.1f} million"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def given_flip_rate(rate: float | None) -> tuple[RateOf, str]:
    """The same flip rate for all tasks, None for the assumed one, and where it comes from, for a sentence.

    Raises UserError if it is not between 0 and 1.
    """
    if rate is None:
        assumed = f"assuming that {ASSUMED_FLIP_RATE:.0%} of the answers flip"
        return lambda *_: (ASSUMED_FLIP_RATE, None), assumed
    if not 0.0 < rate < 1.0:
        raise UserError(f"--flip-rate must be between 0 and 1, but is {rate:g}.")
    return lambda *_: (rate, None), f"if {rate:.1%} of the answers flip"


def measured_flip_rates(location: str) -> tuple[RateOf, str]:
    """The flip rates of an earlier run, the largest of any variant, and where they come from.

    A temperature that was not run has the largest rate at any other, an unknown task the mean of all tasks.

    Raises UserError if it is not a run, or nothing flips in it.
    """
    report = summarize(read_reruns([location]))
    own = [cell for cell in report["cells"] if cell["variant"] == report["cells"][0]["variant"]]
    noise, largest = _largest_rates(own), _largest_rates([*report["against"], *own])
    known = {key: (rate, noise.get(key)) for key, rate in largest.items() if 0.0 < rate < 1.0}
    if not known:
        raise UserError(f"No answer flips in {location}; set the rate with --flip-rate instead.")
    overall = [rate for (_, temperature), (rate, _) in known.items() if temperature is None]
    unknown = sum(overall) / len(overall), None

    def rate_of(task: str, temperature: float) -> tuple[float, float | None]:
        return known.get((task, temperature), known.get((task, None), unknown))

    return rate_of, f"if answers flip as in {location}"


def _largest_rates(entries: Iterable[Entry]) -> dict[tuple[str, float | None], float]:
    """The largest flip rate of each task, by temperature, and with None over all temperatures."""
    rates: dict[tuple[str, float | None], float] = {}
    for entry in entries:
        if entry["task"] is not None and entry["flip_rate"] is not None:
            for key in ((entry["task"], entry["temperature"]), (entry["task"], None)):
                rates[key] = max(rates.get(key, 0.0), entry["flip_rate"]["value"])
    return rates


def detectable_designs(plan: Plan, rate_of: RateOf) -> Designs:
    """What is planned, by temperature, with the flip rates to expect.

    Tasks share the level, under a policy with all of its cases; together they are tested jointly, with flip
    rates weighted by items, and the fewest reruns of any.
    """
    (alpha, cases), designs = sharing(plan), {}
    cells = plan.baseline_cells
    for temperature in sorted({rerun.temperature for cell in cells for rerun in cell.reruns}):
        reruns = {cell.task: sum(r.temperature == temperature for r in cell.reruns) for cell in cells}
        items = {cell.task: len(cell.items) for cell in cells if reruns[cell.task]}
        tasks = {
            task: Design(count, rate, reruns[task], noise, alpha / (cases or len(items)), POWER)
            for task, count in items.items()
            for rate, noise in [rate_of(task, temperature)]
        }
        total = sum(items.values())
        weighted = [(items[task] / total, *rate_of(task, temperature)) for task in tasks]
        rate = sum(weight * flips for weight, flips, _ in weighted)
        noise = sum(weight * (flips if noisy is None else noisy) for weight, flips, noisy in weighted)
        fewest = min(reruns[task] for task in tasks)
        shares = tuple(weight for weight, *_ in weighted)
        designs[temperature] = tasks, Design(total, rate, fewest, min(noise, rate), alpha, POWER, shares)
    return designs


def detection_table(
    plan: Plan, designs: Designs, source: str, shares: Mapping[float, Sequence[float]]
) -> Table:
    """Smallest drop that each task, and all together, will show at each temperature.

    All tasks together share the level with the other comparisons. For a sweep that stops early, the caption
    says which share of the samples it is expected to use. The title says where the flip rates come from.
    """
    alpha, cases = sharing(plan)
    comparisons = cases or max(1, len(plan.sweep.variants) - 1) * len(designs)
    title = f"Smallest detectable drops with power {POWER:g} at level {alpha:g}, {source}"
    headings = ("task", "T", "items", "reruns", "flips %", "smallest drop")
    table = _ruled_table(title, headings, names=1)
    for temperature, (tasks, whole) in designs.items():
        several = {"all tasks": replace(whole, alpha=alpha / comparisons)} if len(tasks) > 1 else {}
        for name, design in (*tasks.items(), *several.items()):
            table.add_row(
                Text(clean(name)),
                temperature_text(temperature),
                f"{design.items:,}",
                str(design.reruns),
                f"{100 * design.flip_rate:.1f}",
                detectable_text(design.detectable_drop()),
            )
    if shares:
        at = [f" (T {temperature:g})" if len(designs) > 1 else "" for temperature in designs]
        with_drop, without = (
            ", ".join(f"{100 * share:.0f} %{place}" for share, place in zip(each, at, strict=True))
            for each in shares.values()
        )
        drop = points_text(round(next(iter(shares)), 4))
        table.caption = (
            f"Stopping early, until {plan.manifest['stopping']['until']}: expected to use {with_drop} of a "
            f"variant's samples if the drop is {drop}; {without} without a drop."
        )
    elif cases:
        until = plan.manifest["stopping"]["until"]
        table.caption = f"Stopping early, until {until}: the {cases} cases of its policy share the level."
    return table


def sharing(plan: Plan) -> tuple[float, int]:
    """The level of a sweep, and how many cases share it of the policy by which it stops, 0 without one."""
    entry = plan.manifest.get("stopping")
    if entry is None or "policy" not in entry:
        return plan.sweep.config.analysis.alpha, 0
    run = RunFiles(plan.sweep.store, plan.manifest, {})
    families = [
        entry.get("families", {}).get(key[0], 0) for key in comparisons_of(run, settled_tasks(run))[1]
    ]
    return entry["alpha"], families.count(max(families))


def expected_shares(plan: Plan, designs: Designs) -> dict[float, list[float]]:
    """Share of a variant's samples that are expected to be used before it is decided, or at the end.

    Returns:
        For an assumed drop, and then for none: the share at each temperature. Empty if nothing stops early.
    """
    entry = plan.manifest.get("stopping")
    if entry is None or "policy" in entry:  # whose tasks end at looks of their own
        return {}
    at_level = [replace(whole, alpha=entry["alpha"]) for _, whole in designs.values()]
    assumed = min(ASSUMED_DROP, *(design.largest_drop for design in at_level))
    stopping, comparisons = stopping_of(entry), len(entry["comparisons"])
    return {
        drop: [expected_course(d, drop, stopping, entry["margin"], comparisons)[2] for d in at_level]
        for drop in (assumed, 0.0)
    }
