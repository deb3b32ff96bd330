"""The sweep a user asks for: every key a configuration may have, and what it means."""

from math import isfinite
from struct import pack
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from orchestrator.engines.base import DEFAULT_KIND, MOST_TOKENS
from orchestrator.input_files import MOST_TASKS, MOST_VARIANTS
from orchestrator.rundir.schema import MOST_LOOKS
from stats.drop import Certificate
from stats.sequential.boundaries import Stopping, Until, parse_spending

MOST_SEEDS = 100_000
MOST_MONEY = 1e12
MOST_UNITS = 100_000  # of replicas, nodes, and GPUs or CPUs of one replica
Spending = Annotated[str, AfterValidator(lambda name: str(parse_spending(name)))]
RAYS_OWN = {"CPU", "GPU", "memory", "object_store_memory"}


class Section(BaseModel):
    """A part of the configuration; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReplicaConfig(Section):
    """What one replica takes of the Ray cluster."""

    gpus_per_replica: float | None = Field(default=None, ge=0, le=MOST_UNITS)
    """Default: the engine's parallel sizes if the Ray cluster has GPUs, else 0. A fraction shares a GPU."""
    nodes_per_replica: int | None = Field(default=None, ge=1, le=MOST_UNITS)
    """Nodes over which one engine is spread; default: as few as can hold its GPUs (kind vllm only)."""
    cpus_per_replica: float | None = Field(default=None, gt=0, le=MOST_UNITS)
    """On each of its nodes; default: 4 with a GPU, all of a node's CPUs without one."""
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Custom Ray resources on each of its nodes, by name."""
    labels: dict[str, str] = Field(default_factory=dict)  # Ray node labels that are required, by name

    @field_validator("resources")
    @classmethod
    def _custom_ones(cls, value: dict[str, float]) -> dict[str, float]:
        if own := sorted(RAYS_OWN & value.keys()):
            raise ValueError(f"{own[0]} is not a custom resource: set cpus_per_replica or gpus_per_replica")
        return value

    @field_validator("gpus_per_replica")
    @classmethod
    def _a_fraction_or_whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and not value.is_integer():
            raise ValueError("must be a whole number, or less than 1 to share a GPU")
        return value


class ClusterConfig(ReplicaConfig):
    """Replicas on the Ray cluster."""

    replicas: Literal["auto"] | int = "auto"
    """Replicas that run at the same time; auto: as many as the Ray cluster has room for."""

    @field_validator("replicas", mode="before")
    @classmethod
    def _auto_or_positive(cls, value: Any) -> Any:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if value != "auto" and not (is_number and 1 <= value <= MOST_UNITS):
            raise ValueError(f'must be "auto" or from 1 to {MOST_UNITS:,}')
        return value


class CostConfig(Section):
    """Prices, in any one currency; what has none costs nothing."""

    gpu_hour: float | None = Field(default=None, ge=0, le=MOST_MONEY)
    """Of each GPU of a replica, from the start of its load to its end; likewise the next."""
    cpu_hour: float | None = Field(default=None, ge=0, le=MOST_MONEY)
    input: float | None = Field(default=None, ge=0, le=MOST_MONEY)  # a million tokens of prompts
    output: float | None = Field(default=None, ge=0, le=MOST_MONEY)  # a million tokens of answers

    def laid_over(self, whole: "CostConfig") -> "CostConfig":
        """What a variant sets, over the prices of the sweep."""
        return whole.model_copy(update=self.model_dump(exclude_none=True))

    def hour(self, gpus: float, cpus: float) -> float:
        """Price of an hour of so much hardware."""
        return gpus * (self.gpu_hour or 0.0) + cpus * (self.cpu_hour or 0.0)

    def tokens(self, prompt: float, output: float) -> float:
        """Price of so many tokens."""
        return (prompt * (self.input or 0.0) + output * (self.output or 0.0)) / 1e6


class VariantConfig(Section):
    """One way to run the model; what it leaves out comes from the top of the file."""

    model: str | None = None  # folder or Hugging Face name; default: the sweep's `model`
    revision: str | None = None  # branch, tag or commit on the Hugging Face hub
    engine: dict[str, Any] = Field(default_factory=dict)  # engine options that override the sweep's `engine`
    lora: str | None = None  # folder of a LoRA adapter that every request uses (kind vllm only)
    python: str | None = None
    """Python interpreter of an environment in which the replicas run, for another version of the engine."""
    image: str | None = None
    """Container image in which replicas run (Ray's `image_uri`); of a served model, what its server runs."""
    env: dict[str, Any] = Field(default_factory=dict)
    """Environment variables of the replica, in addition to those of the sweep's `engine`."""
    cluster: ReplicaConfig = ReplicaConfig()
    """Where this variant's replicas run; unset fields come from the sweep's `cluster`."""
    cost: CostConfig = CostConfig()  # its prices; unset ones are the sweep's
    control: bool = False
    """Whether it should be the same as the baseline; every analysis that finds it to differ says so."""
    other_template: bool = False
    """Whether its chat template or tokenizer may differ from those of the baseline, as of another model."""
    skip_if_unsupported: bool = False
    """Skip this variant on hardware that cannot run it, instead of refusing the sweep."""


class TokenSampling(Section):
    """How tokens are drawn, and how many at most; what is not set is left to the engine or server."""

    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)  # 0 considers all tokens
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    """1 is none. This and the next two also act at temperature 0."""
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    max_gen_toks: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    """Maximum number of tokens of an answer; default: as the task defines it."""

    def meaning(self) -> dict[str, Any]:
        """What decides answers, as far as it is set."""
        return self.model_dump(include=set(TokenSampling.model_fields), exclude_none=True)


class LimitConfig(Section):
    """How many items of each task to use, and which; one of the two."""

    random: int | None = Field(default=None, ge=1)
    """So many, chosen at random: the same ones for every variant and on every machine."""
    first: int | None = Field(default=None, ge=1)  # so many from the first on, as lm-eval's own limit

    @model_validator(mode="after")
    def _one_of_two(self) -> "LimitConfig":
        if (self.random is None) == (self.first is None):
            raise ValueError("must be a number, or one of {random: N} and {first: N}")
        return self

    @property
    def items(self) -> int:
        """How many."""
        return self.random or self.first or 0


class TaskConfig(Section):
    """One lm-eval task or group."""

    task: str  # name of an lm-eval task, group or tag
    metric: str | None = None  # the "metric,filter" to test; default: the task's first numeric one
    num_fewshot: int | None = Field(default=None, ge=0)
    """Number of examples in the prompt; default: as the task defines it."""
    limit: LimitConfig | None = None  # use only so many items; a number n means {random: n}
    cluster: str | None = None  # field of the document whose equal values form a cluster of dependent items
    metadata: dict[str, Any] = Field(default_factory=dict)
    """What the task's own code takes to make its documents, as `lm_eval --metadata`: RULER's lengths, its
    tokenizer (default: the baseline's)."""
    sampling: TokenSampling = TokenSampling()  # what this task sets differently from the sweep's `sampling`

    @field_validator("limit", mode="before")
    @classmethod
    def _number_to_random(cls, value: object) -> object:
        if value is None or isinstance(value, (dict, LimitConfig)):
            return value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError("must be a whole number of at least 1, {random: N} or {first: N}")
        return {"random": value}


class PromptConfig(Section):
    """How prompts are put together; the names and meanings are lm-eval's."""

    apply_chat_template: bool | str = False
    """Render prompts with the model's chat template; a name chooses one of several, as in lm-eval."""
    fewshot_as_multiturn: bool | None = Field(default=None, validate_default=True)
    """Send examples as turns of the conversation; default, as in lm-eval: if there is a chat template."""
    system_instruction: str | None = None
    enable_thinking: bool | None = None
    """Whether a reasoning model thinks before it answers; an argument of its chat template."""
    chat_template_args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the chat template, by name."""
    think_end_token: str | None = Field(default=None, min_length=1)
    """Text that ends the thinking part of an answer; what follows its last occurrence is scored."""
    overflow: Literal["cut", "error", "refuse"] = "cut"
    """A prompt that does not fit loses its beginning, as in lm-eval; makes its samples errors; or keeps the
    sweep from starting."""

    @property
    def template_arguments(self) -> dict[str, Any]:
        """All arguments of the chat template."""
        thinking = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return {**self.chat_template_args, **thinking}

    @property
    def must_fit(self) -> bool:
        """Whether no prompt may be cut."""
        return self.overflow != "cut"

    def beyond_prompts(self) -> dict[str, Any]:
        """What decides answers and does not show in the text of a prompt, as far as it is set."""
        own = self.model_dump(include={"enable_thinking", "chat_template_args", "think_end_token"})
        own["overflow"] = "error" if self.must_fit else None
        return {name: value for name, value in own.items() if value not in (None, {})}

    def meaning(self) -> dict[str, Any]:
        """What decides prompts and answers; the first three keys even if they are not set."""
        first = {"apply_chat_template", "fewshot_as_multiturn", "system_instruction"}
        return {**self.model_dump(include=first), **self.beyond_prompts()}

    @field_validator("apply_chat_template", mode="before")
    @classmethod
    def _yes_no_or_name(cls, value: object) -> object:
        if not isinstance(value, (bool, str)) or value == "":
            raise ValueError("must be true, false or the name of a chat template")
        return value

    @field_validator("fewshot_as_multiturn")
    @classmethod
    def _with_a_template(cls, value: bool | None, info: Any) -> bool:
        return bool(info.data.get("apply_chat_template")) if value is None else value


class SamplingConfig(TokenSampling):
    """Reruns: every sampled request is answered once per temperature and seed."""

    temperatures: tuple[float, ...] = (0.0,)
    seeds: tuple[int, ...] = (0,)  # a count n (meaning 0 … n-1) or a list
    top_p: float = Field(default=1.0, gt=0, le=1)
    repeat_greedy: bool = False
    """Repeat unsampled requests for each seed too, to measure the noise of the engine itself."""

    def meaning(self) -> dict[str, Any]:
        """What decides answers; the first three keys even if they are not set, as in every run so far."""
        return {"top_p": self.top_p, "top_k": None, "max_gen_toks": None, **super().meaning()}

    def of_task(self, own: TokenSampling) -> "SamplingConfig":
        """With what a task sets differently."""
        return self.model_copy(update=own.meaning())

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_to_list(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 1 <= value <= MOST_SEEDS:
                raise ValueError(f"must be at least 1 and at most {MOST_SEEDS:,}")
            return tuple(range(value))
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds_distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("must be a count or a list of distinct numbers")
        if min(value) < 0 or max(value) >= 2**31:
            raise ValueError("must be between 0 and 2147483647")
        return value

    @field_validator("temperatures")
    @classmethod
    def _temperatures_distinct(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        stored = {pack("f", number) for number in value if isfinite(number) and 0 <= number <= 100}
        if not value or len(stored) < len(value):  # as rows hold them: 0.7 is 0.7000000001
            raise ValueError("must be a list of distinct temperatures, each at least 0")
        return value


class AnalysisConfig(Section):
    """Defaults for `lldeg analyze`."""

    alpha: float = Field(default=0.05, gt=0, lt=1)  # false alarm rate (level of the tests)
    margin: float = Field(default=0.01, gt=0, lt=1)
    """Largest acceptable drop over all items, as a share of the metric's range (0.01 = one point)."""


class SpendingConfig(Section):
    """How the level is spent over the looks: "obf", or "hsd" with its parameter, such as "hsd-4"."""

    degraded: Spending = str(Stopping.degraded)
    certified: Spending = str(Stopping.certified)


class StoppingConfig(Section):
    """When a variant is stopped early, at one of several equally spaced looks at its answers."""

    looks: int = Field(default=Stopping.looks, ge=2, le=MOST_LOOKS)
    until: Until = Stopping.until  # degraded: stop for damage only; decided: also for a certificate
    spending: SpendingConfig = SpendingConfig()
    certificate: Certificate = Stopping.certificate
    """What a certificate rests on; "proven" holds for every distribution and spends nothing over looks."""
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    """Of the order in which items are asked; drawn for each run by default."""
    policy: dict[str, Any] | str | None = None
    """Of a release, which then decides when a variant ends: its file, relative to the configuration, or what
    would be in it. Its level and margin take the place of those of `analysis`."""

    @field_validator("policy", mode="before")
    @classmethod
    def _file_or_content(cls, value: object) -> object:
        if not isinstance(value, dict | str | None):
            raise ValueError("must be the file of a policy, or what would be in it")  # noqa: TRY004 - pydantic's way
        return value


class FidelityConfig(Section):
    """That every variant scores the baseline's own answers, token by token."""

    answers: Literal["baseline"] = "baseline"  # whose answers
    top: int = Field(default=20, ge=1, le=20)  # likeliest tokens per place, from which the divergence follows
    items: int = Field(default=500, ge=1)  # of all tasks that generate text together, chosen at random


class SweepConfig(Section):
    """Everything `lldeg submit` needs: variants x tasks x temperatures x seeds."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    baseline: str
    model: str | None = None
    revision: str | None = None
    engine: dict[str, Any] = Field(default_factory=lambda: {"kind": DEFAULT_KIND})
    variants: dict[str, VariantConfig] = Field(min_length=1, max_length=MOST_VARIANTS)
    tasks: tuple[TaskConfig, ...] = Field(min_length=1, max_length=MOST_TASKS)
    items: str | None = None
    """File of `lldeg subset`, relative to the configuration file: tasks that it names run only its items."""
    include_path: tuple[str, ...] = ()
    """Folders with your own lm-eval task files, relative to the configuration file."""
    prompt: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    cluster: ClusterConfig = ClusterConfig()
    analysis: AnalysisConfig = AnalysisConfig()
    stopping: StoppingConfig | None = None
    """Stop a variant as soon as its verdict is certain; default: answer every planned sample."""
    fidelity: FidelityConfig | None = None
    """How far the variants' distributions of tokens are from the baseline's; default: not asked for."""
    cost: CostConfig = CostConfig()
    """Prices, by which the dry run, the progress and the report say what a sweep and an answer cost."""
    budget: float | None = Field(default=None, gt=0, le=MOST_MONEY)
    """The most that all submits into the run may cost together: nothing more is asked then."""
    confirm_run_unsafe_code: bool = False  # allow tasks that execute the code a model wrote, in a sandbox

    @model_validator(mode="before")
    @classmethod
    def _written_short(cls, raw: Any) -> Any:
        """Nothing for a variant of defaults only, a name for a task, a folder for a list of one."""
        if not isinstance(raw, dict):
            return raw
        whole, variants, tasks = dict(raw), raw.get("variants"), raw.get("tasks")
        if isinstance(variants, dict):
            whole["variants"] = {name: {} if entry is None else entry for name, entry in variants.items()}
        if isinstance(tasks, list):
            whole["tasks"] = [{"task": entry} if isinstance(entry, str) else entry for entry in tasks]
        if isinstance(raw.get("include_path"), str):
            whole["include_path"] = (raw["include_path"],)
        return whole
