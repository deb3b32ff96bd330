"""A run directory as the analysis sees it: manifest, configuration, where samples are, and what they say.

Files whose name begins with a dot are half-written and invisible, and files that are damaged are named. The
manifest says what was to be done, so it alone decides what is missing.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from posixpath import dirname
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import ValidationError

from jobs.formats.notices import Notice, NoticeCode, some
from orchestrator.config.schema import CostConfig
from orchestrator.config.yaml_file import mistakes
from orchestrator.engines import kind_of
from orchestrator.engines.base import CUT, GENERATE, SERVED_BY, EngineSpec
from orchestrator.errors import AnswerWithheldError, UserError
from orchestrator.input_files import parse_json
from orchestrator.rundir import schema
from orchestrator.rundir.identity import differences
from orchestrator.rundir.location import subfolders
from orchestrator.rundir.manifest import software_of
from orchestrator.rundir.measurements import Measurement
from orchestrator.rundir.progress import read_status
from orchestrator.rundir.store import RunStore, open_whole, read_whole, readers

YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The quick one where PyYAML has it: 100,000 seeds are as many lines."""

ROWS_PER_PIECE = 1 << 17
PLACE, RESPONSE = ("item", "temperature", "seed"), "response"
MARKS: dict[NoticeCode, tuple[str, Callable[[pa.ChunkedArray], pa.ChunkedArray]]] = {
    NoticeCode.CUT_ANSWERS: ("finish_reason", lambda reasons: pc.equal(reasons, CUT)),
    NoticeCode.CUT_PROMPTS: ("prompt_cut", lambda tokens: pc.greater(tokens, 0)),
    NoticeCode.EMPTY_ANSWERS: (
        RESPONSE,
        lambda texts: pc.equal(pc.utf8_trim_whitespace(texts.cast(pa.string())), ""),
    ),
    NoticeCode.WITHHELD_ANSWERS: (
        "error",
        lambda errors: pc.starts_with(errors.cast(pa.string()), f"{AnswerWithheldError.__name__}:"),
    ),
}
"""What is noted of an answer: the column that tells, which older files may lack, and when it does."""


@dataclass(frozen=True)
class RunFiles:
    """An opened run."""

    store: RunStore  # the run directory
    manifest: schema.Manifest  # what was done, and with what
    sweep: dict[str, Any]  # what was asked for
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)  # first and last item of the files read
    # Of these files, the least and the greatest answer; None where the footer does not tell
    texts: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    writers: dict[str, str | None] = field(default_factory=dict)  # the ID of what wrote those with scores
    # Of these files, what the servers said of themselves, by column
    served: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    speeds: dict[str, schema.BlockSpeed] = field(default_factory=dict)  # of these files, as far as told

    @staticmethod
    def open(location: str) -> "RunFiles":
        """Open a run directory.

        Raises UserError if it is not a run directory, or its manifest or sweep cannot be read.
        """
        store = RunStore(location)
        manifest = store.read_manifest()
        try:
            sweep = yaml.load(store.read_sweep(), YAML)  # noqa: S506 - a safe loader
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
            raise UserError(
                f"The sweep.yaml of {location} is not valid YAML: {' '.join(str(error).split())}."
            ) from error
        sweep = sweep if isinstance(sweep, dict) else {}
        if (problem := schema.misshapen(sweep, schema.SweepFile)) is not None:
            raise UserError(f"The sweep.yaml of {location} is damaged: {problem}.")
        return RunFiles(store, manifest, sweep)

    @property
    def location(self) -> str:
        """What the user called it."""
        return self.store.url

    @property
    def models(self) -> Mapping[str, schema.VariantEntry]:
        """Variants by name, as the manifest describes them."""
        return self.manifest["variants"]

    @property
    def tasks(self) -> Mapping[str, schema.TaskEntry]:
        """Tasks by name, as the manifest describes them."""
        return self.manifest["tasks"]

    @property
    def baseline(self) -> str | None:
        """The baseline of the sweep."""
        return self.sweep.get("baseline")

    def items(self, task: str, columns: list[str]) -> pa.Table:
        """Columns of the item table of a task.

        Raises UserError if it is missing or unreadable.
        """
        try:
            return self.store.read_items(task, columns)
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise UserError(
                f"The items of task {task} in {self.location} are missing or damaged; submitting the sweep "
                "again writes them anew."
            ) from error

    def samples(self, model: str, task: str) -> list[str]:
        """Paths of the sample files of one model and task, sorted."""
        return self._samples.get((model, task), [])

    @cached_property
    def _samples(self) -> dict[tuple[str, str], list[str]]:
        return self.store.sample_paths()

    def is_monotonous(self, model: str, task: str) -> bool:
        """Whether all answers of a model to a task are one and the same text, as far as they were read."""
        found = {self.texts[path] for path in self.samples(model, task) if path in self.texts}
        return len(found) == 1 and (texts := found.pop()) is not None and texts[0] == texts[1]

    def declaring(self, key: str) -> set[str]:
        """Variants that the sweep says something of."""
        return {name for name, own in (self.sweep.get("variants") or {}).items() if own and own.get(key)}

    def prices(self, model: str) -> CostConfig:
        """What a model costs, by the sweep; a UserError if that is damaged."""
        own = (self.sweep.get("variants") or {}).get(model) or {}
        try:
            whole, own = (CostConfig.model_validate(one.get("cost") or {}) for one in (self.sweep, own))
        except ValidationError as error:
            said = "; ".join(text for _, text in mistakes(error, CostConfig))
            raise UserError(f"A cost in the sweep.yaml of {self.location} is wrong: {said}.") from None
        return own.laid_over(whole)

    @cached_property
    def spent(self) -> dict[str, float]:
        """What all submits have cost, by variant; those that had no prices cost nothing."""
        return {name: told.spent for name, told in read_status(self.store).variants.items() if told.spent}

    @cached_property
    def scored(self) -> dict[tuple[str, str], list[str]]:
        """Files with scores of the baseline's answers, by model and task, from one listing."""
        return self.store.fidelity.sample_paths() if "fidelity" in self.manifest else {}

    def unscored(self, model: str) -> int:
        """How many of the baseline's answers a model is still to score, by the footers of its files."""
        paths = [path for (own, _), files in self.scored.items() if own == model for path in files]
        with ThreadPoolExecutor(readers(self.store.filesystem)) as pool:
            done = sum(rows[0] for rows in pool.map(partial(_rows, self), paths) if rows is not None)
        return max(0, self.manifest.get("fidelity", {}).get("samples", 0) - done)

    def is_served(self, model: str) -> bool:
        """Whether a model is behind a server, which may apply a template of its own."""
        entry = self.models.get(model)
        return entry is not None and kind_of(EngineSpec(model, options=entry["engine"])).served

    def served_by(self, model: str) -> dict[str, tuple[str, ...]]:
        """What the servers of a model said of themselves, by column, as far as its answers were read."""
        paths = itertools.chain.from_iterable(self.samples(model, task) for task in self.tasks)
        told = [self.served[path] for path in paths if path in self.served]
        return {name: tuple(sorted(set().union(*(one[name] for one in told)))) for name in SERVED_BY}

    def software(self, model: str) -> list[schema.SoftwareEntry]:
        """What wrote the scored samples of a model; a file that names nothing known may be of any of it."""
        if self.manifest.get("imported") or model not in self.models:
            return []
        known = software_of(self.manifest)
        paths = itertools.chain.from_iterable(self.samples(model, task) for task in self.tasks)
        named = {self.writers[path] for path in paths if path in self.writers}
        return [entry for name, entry in known.items() if name in named or not named <= known.keys()]


def runs_in(path: str) -> list[str]:
    """The run itself, or the runs directly inside of a folder."""
    if RunStore(path).has_run():
        return [path]
    return [folder for folder in subfolders(path) if RunStore(folder).has_run()]


def mixed_writers(runs: Sequence[RunFiles], baseline: str, variant: str) -> Iterator[Notice]:
    """Say what differs in software, and in hardware, between and within the sides of a comparison.

    What is not known (of imported samples, and the hardware of earlier versions) differs from nothing. What a
    variant declares, an environment of its own or a number format, is what is compared, and may differ. The
    way to log-likelihoods counts where a task asks for some.
    """
    writers = {name: [entry for run in runs for entry in run.software(name)] for name in (baseline, variant)}
    sides = [{name: entries} for name, entries in writers.items()]
    declares = any("versions" in run.models[name] for run in runs for name in writers if name in run.models)
    asks = {entry["output_type"] for run in runs for entry in run.tasks.values()} - {None, GENERATE}
    software, hardware = NoticeCode.MIXED_SOFTWARE, NoticeCode.MIXED_HARDWARE
    for code, what, groups, keys in (
        (software, "software", sides if declares else [writers], ("versions", "commit")),
        (software, "ways to log-likelihoods", [writers] if asks else [], ("log_likelihoods",)),
        (hardware, "hardware or drivers", [writers], ("device", "cuda", "driver")),
        (hardware, "number formats", sides, ("dtype",)),
    ):
        for group in groups:
            changes: dict[str, None] = {}
            for key in keys:
                entries = itertools.chain(*group.values())
                stated = [{**entry, **entry.get("hardware", {})}.get(key) for entry in entries]
                first, *others = [value for value in stated if value] or [None]
                changes |= dict.fromkeys(one for other in others for one in differences(first, other, [key]))
            if changes:
                said = (
                    f"The answers of {' and '.join(group)} come from different {what}, so the comparison is "
                    f"not of the models alone ({some(list(changes))})."
                )
                yield Notice(code, said)


def read_files(
    run: RunFiles,
    files: Sequence[str],
    columns: Sequence[str] | Callable[[str, Any], Sequence[str]] | None = None,
    texts: Sequence[str] = (),
) -> Iterator[tuple[str, pa.Table | None]]:
    """Columns of files of samples, as `read_whole` gives them, in their order; None for a damaged file.

    What chooses columns gets path and footer of a file.

    Raises OSError if the storage fails.
    """
    at_once = readers(run.store.filesystem)
    with ThreadPoolExecutor(at_once) as pool:
        for start in range(0, len(files), at_once):  # so that no more than these are held
            paths = files[start : start + at_once]
            wanted = [partial(columns, path) if callable(columns) else columns for path in paths]
            tables = pool.map(partial(read_whole, run.store.filesystem, texts=texts), paths, wanted)
            yield from zip(paths, tables, strict=True)


def scores_of_answers(run: RunFiles, model: str, task: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """How a model scores the baseline's answers, by item, temperature (of 32 bits) and seed.

    They are tokens and log-probabilities, both of shape (places, 1 + k); of a task with choices, the
    log-likelihoods of its own answer, shape (choices,). What is damaged is left out.

    Raises OSError if the storage fails.
    """
    known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    if "fidelity" not in run.manifest:
        return known
    texts = run.tasks[task]["output_type"] == GENERATE
    files = run.scored.get((model, task), []) if texts else run.samples(model, task)
    shape = -1, run.manifest["fidelity"]["top"] + 1
    for _, table in read_files(run, files, [*PLACE, *(("tokens", "logprobs") if texts else (RESPONSE,))]):
        columns = () if table is None else table.columns
        for item, temperature, seed, *told in zip(*columns, strict=True):
            with suppress(AttributeError, TypeError, ValueError):  # of a failed request, or another kind
                if texts:
                    arrays = [np.asarray(one.values.to_numpy()).reshape(shape) for one in told]
                else:
                    arrays = [np.array([float(value) for value, _ in json.loads(told[0].as_py())])]
                known[item.as_py(), np.float32(temperature.as_py()), seed.as_py()] = tuple(arrays)
    return known


def refuse_damaged(files: Sequence[str]) -> None:
    """End where an answer that is left out would be taken for one that never was.

    Raises UserError if there are damaged files; it names them.
    """
    if files:
        raise UserError(
            f"These sample files are torn or damaged: {some(files)}. Submit the sweep again to replace their "
            "samples."
        )


def scan(
    run: RunFiles,
    files: Sequence[str],
    metric: str,
    text: str,
    damaged: list[str],
    *,
    measured: Sequence[Measurement] = (),
) -> Iterator[pa.Table]:
    """Read sample files of a run by the key of a metric, in pieces of many files.

    `text` is a column of texts, "prompt_hash" or "response", and comes dictionary-encoded. Paths of torn or
    damaged files, of which nothing is read, go to `damaged`.

    Yields:
        Tables with the columns item, temperature, seed, score, `text`, unscored (whether it is an answer
        without an error that has no such score), one for each of `MARKS`: whether it holds of the answer,
        null where that is unknown, and one for each of the measurements, by its name, likewise.

    Raises:
        UserError: if no file has the metric.
        OSError: if the storage fails.
    """
    needed, has_metric = {*PLACE, text}, False
    columns = {one.column for one in measured} - {RESPONSE}
    always = list({*needed, "error", f"scores.{metric}", "finish_reason", "prompt_cut", *columns})

    def choose(path: str, footer: Any) -> list[str]:
        """Without the answers, if what is known of them tells that none is blank.

        Nor with those of other tools, some of which keep no text of an answer that was a call of a tool. What
        servers say of themselves is read where a file has several words for it.
        """
        if run.manifest.get("imported"):
            return always
        told = {name: set(text_range(footer, name) or ()) for name in SERVED_BY}
        run.served[path] = told
        read = [*always, *(name for name, words in told.items() if len(words) > 1)]
        answers = run.texts[path] = text_range(footer, RESPONSE)
        return read if answers is not None and answers[0].strip() else list({*read, RESPONSE})

    held: list[pa.Table] = []
    for path, table in read_files(run, files, choose, [text]):
        if table is None or not needed <= set(table.column_names):
            damaged.append(path)
        elif table.num_rows:
            items = table["item"].to_numpy()
            run.spans[path] = int(items.min()), int(items.max())
            nothing_blank = run.texts.get(path) is not None and RESPONSE not in table.column_names
            _note_source(run, path, table)
            held.append(piece := _projected(table, metric, text, measured, nothing_blank=nothing_blank))
            if piece["score"].null_count < table.num_rows:
                writer = (table.schema.metadata or {}).get(schema.SOFTWARE_KEY)
                run.writers[path] = None if writer is None else writer.decode(errors="replace")
            has_metric |= "scores" in table.column_names
        if sum(piece.num_rows for piece in held) >= ROWS_PER_PIECE:
            yield _joined(held)
            held = []
    if run.spans.keys() & set(files) and not has_metric:
        raise UserError(f"No file in {dirname(files[0])} has the metric {metric!r}.")
    if held:
        yield _joined(held)


def _note_source(run: RunFiles, path: str, table: pa.Table) -> None:
    """Note what servers said of themselves where a table has it, and how long its block took."""
    with suppress(UserError):  # none, or damaged
        speed = parse_json((table.schema.metadata or {}).get(schema.SPEED_KEY, b""), path)
        if schema.misshapen(speed, schema.BlockSpeed) is None:
            run.speeds[path] = speed
    served = run.served.get(path, {})
    for name in served.keys() & set(table.column_names):
        served[name] |= {*table[name].unique().drop_null().to_pylist()}


def _projected(
    table: pa.Table, metric: str, text: str, measured: Sequence[Measurement], *, nothing_blank: bool
) -> pa.Table:
    """The columns that `scan` yields; what the file does not have is null."""
    columns = {name: table[name] for name in (*PLACE, text)}
    there, rows = table.column_names, table.num_rows
    has_metric = "scores" in there
    columns["score"] = (
        pc.struct_field(table["scores"], [metric]) if has_metric else pa.nulls(rows, pa.float64())
    )
    failed = pc.is_valid(table["error"]) if "error" in there else pa.nulls(rows, pa.bool_())
    unknown = pc.is_null(columns["score"], nan_is_null=True)
    columns["unscored"] = pc.and_not(unknown, pc.fill_null(failed, False))
    for code, (column, holds) in MARKS.items():
        columns[code] = holds(table[column]) if column in there else pa.nulls(rows, pa.bool_())
    for one in measured:
        if one.column in there:
            columns[one.name] = one.values(table[one.column])
        elif one.column == RESPONSE and nothing_blank:
            columns[one.name] = np.zeros(rows, dtype=np.float32)
        else:
            columns[one.name] = np.full(rows, np.nan, dtype=np.float32)
    return pa.table(columns)


def _joined(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive").unify_dictionaries().combine_chunks()


def text_range(metadata: Any, column: str) -> tuple[str, str] | None:
    """The least and the greatest text of a column; None without any, or if the writer kept no statistics."""
    known = [group for group in statistics(metadata, column) if group is None or group.num_values]
    if not known or not all(group is not None and group.has_min_max for group in known):
        return None
    return min(group.min for group in known), max(group.max for group in known)


def statistics(metadata: Any, column: str) -> list[Any]:
    """Statistics of a top-level column in every row group; None where the writer kept none."""
    number = next((i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column), None)
    if number is None:
        return []
    return [metadata.row_group(i).column(number).statistics for i in range(metadata.num_row_groups)]


def samples_table(run: RunFiles, cells: Iterable[tuple[str, str]] | None = None) -> pa.Table:
    """Samples, each with its variant and its task, of some pairs of both or of all.

    Raises UserError if a file cannot be read.
    """
    tables, damaged = [], []
    for variant, task in itertools.product(run.models, run.tasks) if cells is None else cells:
        for path, table in read_files(run, run.samples(variant, task)):
            if table is None:
                damaged.append(path)
                continue
            labels = [pa.array([label] * table.num_rows, pa.string()) for label in (variant, task)]
            names = ["variant", "task", *table.column_names]
            tables.append(pa.Table.from_arrays([*labels, *table.columns], names=names))
        refuse_damaged(damaged)
    if not tables:
        return pa.schema({"variant": pa.string(), "task": pa.string()}).empty_table()
    return pa.concat_tables(tables, promote_options="permissive")


def items_table(run: RunFiles) -> pa.Table:
    """The items of all tasks.

    Raises UserError if a file is missing or cannot be read.
    """
    tables = [run.items(task, schema.ITEMS.names) for task in run.tasks]
    return pa.concat_tables(tables, promote_options="permissive") if tables else schema.ITEMS.empty_table()


@dataclass(frozen=True)
class Count:
    """Samples of a variant, or of a run."""

    planned: int  # what the sweep asked for
    done: int  # rows that are there
    errors: int  # of these, rows with an error instead of an answer
    not_needed: int = 0  # not there because a comparison was decided, by the last heartbeat
    damaged: tuple[str, ...] = ()  # sample files that are torn or damaged; nothing in them is there

    @property
    def needed(self) -> int:
        """Samples that are there or still to come."""
        return self.planned - self.not_needed

    @staticmethod
    def total(counts: Iterable["Count"]) -> "Count":
        """All of them together."""
        listed = list(counts)
        names = ("planned", "done", "errors", "not_needed")
        sums = {name: sum(getattr(count, name) for count in listed) for name in names}
        return Count(**sums, damaged=tuple(path for count in listed for path in count.damaged))


class Footers:
    """What the footers of sample files say, each read once: a finished block is never changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int] | None] = {}

    def count(self, run: RunFiles) -> dict[str, Count]:
        """Samples by variant."""
        asked = sum(int(entry["items"]) * len(entry["reruns"]) for entry in run.tasks.values())
        asked += run.manifest.get("fidelity", {}).get("samples", 0)
        told = read_status(run.store).variants
        counts = {}
        for variant in run.models:
            paths = [path for task in run.tasks for path in run.samples(variant, task)]
            paths += [path for task in run.tasks for path in run.scored.get((variant, task), ())]
            unknown = [path for path in paths if path not in self._known]
            with ThreadPoolExecutor(readers(run.store.filesystem)) as pool:
                self._known.update(zip(unknown, pool.map(partial(_rows, run), unknown), strict=True))
            known = [rows for path in paths if (rows := self._known[path]) is not None]
            done, errors = sum(rows for rows, _ in known), sum(failed for _, failed in known)
            planned = max(asked, done)  # an imported run asks for nothing
            not_needed = min(told[variant].not_needed if variant in told else 0, planned - done)
            damaged = tuple(path for path in paths if self._known[path] is None)
            counts[variant] = Count(planned, done, errors, not_needed, damaged)
        return counts


def _rows(run: RunFiles, path: str) -> tuple[int, int] | None:
    """Rows of a file, and those that are errors, by its footer alone; None if it is torn or damaged."""
    file = open_whole(run.store.filesystem, path)
    if file is None:
        return None
    errors = sum(group.num_values for group in statistics(file.metadata, "error") if group is not None)
    return file.metadata.num_rows, errors
