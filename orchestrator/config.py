"""The sweep a user asks for, as YAML: what it may say, and every mistake in it named at once.

A configuration is read in three steps: YAML without duplicate keys, `--set` overrides, pydantic. Mistakes are
collected, never raised one by one, so that a file with five of them is mended in one go.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

SECRET_WORDS = ("api_key", "apikey", "token_secret", "password", "secret", "hf_token", "auth_token")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VariantConfig(_Section):
    """One way to run the model; what it leaves out comes from the top of the file."""

    model: str | None = None
    """Folder or Hugging Face name; default: the sweep's `model`."""
    revision: str | None = None
    """Branch, tag or commit on the Hugging Face hub."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Engine options laid over the sweep's `engine`."""


class TaskConfig(_Section):
    """One lm-eval task or group."""

    task: str
    """Name of an lm-eval task, group or tag."""
    metric: str | None = None
    """The "metric,filter" that decides; default: the task's first numeric one."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples in the prompt; default: the task's own number."""
    limit: int | None = Field(default=None, ge=1)
    """Take only the first so many items."""
    cluster: str | None = None
    """Field of the document whose equal values form a cluster of dependent items."""


class PromptConfig(_Section):
    """How prompts are put together; the names and meanings are lm-eval's."""

    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = False
    system_instruction: str | None = None


class SamplingConfig(_Section):
    """Reruns: every sampled request is answered once per temperature and seed."""

    temperatures: tuple[float, ...] = (0.0,)
    seeds: tuple[int, ...] = (0,)
    """A count n (meaning 0 … n-1) or a list."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    max_gen_toks: int | None = Field(default=None, ge=1)
    """Longest answer in tokens; default: the task's own."""
    repeat_greedy: bool = False
    """Repeat unsampled requests once a seed too, to measure the noise of the engine itself."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_to_list(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 1:
                raise ValueError("must be at least 1")
            return tuple(range(value))
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds_distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("must be a count or a list of different numbers")
        if min(value) < 0 or max(value) >= 2**31:
            raise ValueError("must lie between 0 and 2147483647")
        return value

    @field_validator("temperatures")
    @classmethod
    def _temperatures_distinct(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or len(set(value)) < len(value) or min(value) < 0 or max(value) > 100:
            raise ValueError("must be a list of different temperatures, each at least 0")
        return value


class ClusterConfig(_Section):
    """Places for replicas on the Ray cluster."""

    replicas: Literal["auto"] | int = "auto"
    """Engines that run at the same time; auto: as many as the cluster holds."""
    gpus_per_replica: float | None = Field(default=None, ge=0)
    """Default: the engine's parallel sizes where the cluster has GPUs, else 0."""
    cpus_per_replica: float | None = Field(default=None, gt=0)
    """Default: 4 beside a GPU, all of a node's CPUs without one."""

    @field_validator("replicas")
    @classmethod
    def _positive(cls, value: Literal["auto"] | int) -> Literal["auto"] | int:
        if isinstance(value, int) and value < 1:
            raise ValueError('must be "auto" or at least 1')
        return value


class AnalysisConfig(_Section):
    """Defaults for `lldeg analyze`."""

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Rate of false alarms."""
    margin: float = Field(default=0.01, ge=0)
    """Drop, in accuracy points over all items (0.01 = one point), that is still acceptable."""


class SweepConfig(_Section):
    """Everything `lldeg submit` needs: variants x tasks x temperatures x seeds."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    baseline: str
    model: str | None = None
    revision: str | None = None
    engine: dict[str, Any] = Field(default_factory=lambda: {"kind": "vllm"})
    variants: dict[str, VariantConfig] = Field(min_length=1)
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    include_path: tuple[str, ...] = ()
    """Folders with lm-eval task files of your own, relative to the configuration file."""
    prompt: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    cluster: ClusterConfig = ClusterConfig()
    analysis: AnalysisConfig = AnalysisConfig()
    confirm_run_unsafe_code: bool = False
    """Allow tasks that execute the code a model wrote."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _names_to_tasks(cls, value: object) -> object:
        if isinstance(value, list):
            return [{"task": entry} if isinstance(entry, str) else entry for entry in value]
        return value

    @field_validator("include_path", mode="before")
    @classmethod
    def _one_to_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    def model_of(self, variant: str) -> str:
        """Model folder or hub name of a variant, with ~ expanded."""
        model = self.variants[variant].model or self.model or ""
        return str(Path(model).expanduser()) if model.startswith("~") else model

    def revision_of(self, variant: str) -> str | None:
        """Hub revision of a variant; the sweep's own holds only for the sweep's own model."""
        config = self.variants[variant]
        return config.revision or (self.revision if config.model is None else None)

    def engine_of(self, variant: str) -> dict[str, Any]:
        """Engine options of a variant, `kind` included."""
        return {"kind": "vllm", **self.engine, **self.variants[variant].engine}


def load_config(path: Path, overrides: Sequence[str] = ()) -> tuple[SweepConfig | None, list[str]]:
    """Read a sweep configuration and name every mistake in it.

    Args:
        path: the YAML file.
        overrides: `--set` arguments, each "dotted.key=value" with the value in YAML.

    Returns:
        the configuration (with the mistaken parts left out where that is possible, so that further checks can
        go on; None where it is not), and the mistakes, one sentence each. The configuration may be used only
        if there are none.

    Raises:
        UserError: no such file, or not a YAML mapping.
    """
    raw, problems = _read_yaml(path)
    for override in overrides:
        _override(raw, override)
    config, found = _validate(raw)
    problems += found
    if isinstance(raw.get("include_path"), str):
        raw["include_path"] = [raw["include_path"]]
    if config is not None:
        config = config.model_copy(
            update={"include_path": tuple(str((path.parent / p).resolve()) for p in config.include_path)}
        )
        problems += list(_contradictions(config))
    return config, problems


def _read_yaml(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; give the YAML file of a sweep.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    loader = _Loader(text)
    try:
        raw = loader.get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise UserError(f"{path} is not YAML{where}: {getattr(error, 'problem', error)}.") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} does not hold a sweep: it must be a YAML mapping with name, baseline, variants and tasks.")
    return raw, loader.duplicates


class _Loader(yaml.SafeLoader):
    """YAML without code, which notices a key that stands twice (plain YAML lets the last one win)."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.duplicates: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                self.duplicates.append(f"'{key.value}' stands twice, again at line {key.start_mark.line + 1}")
            elif isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: expected KEY=VALUE, for example --set sampling.seeds=5.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not YAML.") from None
    *parents, last = key.split(".")
    section = raw
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise UserError(f"--set {override}: '{parent}' is not a section.")
    section[last] = value


def _validate(raw: dict[str, Any]) -> tuple[SweepConfig | None, list[str]]:
    try:
        return SweepConfig.model_validate(raw), []
    except ValidationError as error:
        problems = [_sentence(raw, problem) for problem in error.errors(include_url=False)]
        remaining = _without(raw, [problem["loc"] for problem in error.errors()])
    try:
        return SweepConfig.model_validate(remaining), problems
    except ValidationError:
        return None, problems


def _without(raw: Any, locations: Sequence[Sequence[int | str]]) -> Any:
    """A copy of a nested mapping that lacks the mistaken places, for the checks that come after."""
    if not isinstance(raw, dict):
        return raw
    heads = {location[0] for location in locations if len(location) == 1}
    return {
        key: _without(value, [loc[1:] for loc in locations if len(loc) > 1 and loc[0] == key])
        for key, value in raw.items()
        if key not in heads
    }


def _sentence(raw: Mapping[str, Any], problem: Any) -> str:
    location: list[int | str] = list(problem["loc"])
    where = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{where}'{suggestion(str(location[-1]), _fields_at(location[:-1]))}"
    if problem["type"] == "missing":
        return f"'{where}' is missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}: {message[:1].lower()}{message[1:]} (it is {problem['input']!r})"


def _fields_at(location: Sequence[int | str]) -> list[str]:
    """The keys allowed at a place of the configuration, found by walking down the model classes."""
    model: type[BaseModel] = SweepConfig
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a variant's name or a position in a list: the class stays
        kinds = [field.annotation, *get_args(field.annotation)]
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, _Section)), model)
    return list(model.model_fields)


def suggestion(word: str, known: Sequence[str]) -> str:
    """The words ", did you mean …?" where something known is close, else nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f", did you mean '{close[0]}'?" if close else ""


def _contradictions(config: SweepConfig) -> Iterator[str]:
    """What is wrong between keys that are each right by themselves."""
    if config.baseline not in config.variants:
        hint = suggestion(config.baseline, list(config.variants)) or f"; variants are {', '.join(config.variants)}"
        yield f"baseline '{config.baseline}' is not a variant{hint}"
    names = [task.task for task in config.tasks]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"task '{name}' is listed twice"
    for name in config.variants:
        if not config.model_of(name):
            yield f"variants.{name} has no model: give it one, or give the sweep one"
        if not name.strip() or name in {".", ".."} or len(name) > 100:
            yield f"'{name}' cannot be the name of a variant"
        for key in config.engine_of(name):
            if any(word in key.lower() for word in SECRET_WORDS):
                yield f"variants.{name}: '{key}' looks like a secret; secrets come from the environment, never from a file"
    for folder in config.include_path:
        if not Path(folder).is_dir():
            yield f"include_path: there is no folder {folder}"
