"""What is asked of an analysis: by the command line, from Python, and by the page that shows a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from typer import Option

from jobs.analysis.policy import Policy, PolicyError
from jobs.formats.columns import Columns
from jobs.formats.samples import InputQuery, PairBy
from jobs.scores.scales import AS_READ, ScaleOptions
from jobs.scores.score_set import ScoreSet
from orchestrator.errors import UserError
from stats.drop import Certificate
from stats.multiplicity import Adjust
from stats.results import CHOICES, Certify, Missing, Settings
from stats.tasks.combinations import Combine

_MISSING = (
    "For certificates: count missing and failed answers as losses of the variant (worst), or use only "
    "items that both models answered (drop)."
)
_CERTIFY = (
    "Control the error of each certificate (may this variant ship?), or of all together (which ones may?)."
)
_CERTIFICATE = (
    "Certify by the most likely distribution with such a drop (default), or by a proof that holds for every "
    "distribution (proven), which takes about twice as many items."
)
_CLUSTER = (
    "Groups of dependent items: a column of the documents or the table (prompt_id:| means prompt_id up to "
    "|), whole tasks, or none; default: those of the run."
)
_PAIR_BY = (
    "How to match items between models: by identifier (id), or by prompt text (prompt) where tools number "
    "items differently; default: id."
)
_CONTROL = "Variant that should be the same as the baseline: a check of all verdicts; default: the sweep's."
_STRICT = (
    "Refuse to compare answers to different prompts, or from different software or hardware, or beside a "
    "control that differs."
)
_MIN_COMMON = "Refuse to compare models that share fewer than this fraction of items."

NUMBERS = ("alpha", "margin")  # settings that a policy or an input may bring; each is between 0 and 1
Cluster = Annotated[str | None, Option(metavar="COLUMN|task|none", help=_CLUSTER)]
PairByOption = Annotated[PairBy | None, Option("--pair-by", help=_PAIR_BY)]
AtTemperature = Annotated[float | None, Option(metavar="T", help="Compare only at this temperature.")]


@dataclass(frozen=True)
class AnalyzeRequest:
    """What to read, what to compare, and how.

    Fields with an `Option` are options of `lldeg analyze`, whose help says what they are; None stands for the
    input's choice. `stats.results.Settings` explains those that it has, too. With a policy, its `max_missing`
    takes the place of `min_common`.

    Raises:
        PolicyError: level or margin are those of the policy, and others are given, too.
    """

    metrics: Mapping[str, str] = field(default_factory=dict)  # by task, group or pattern ("*")
    where: Mapping[str, str] = field(default_factory=dict)  # the value that a column of a table must have
    scales: ScaleOptions = AS_READ  # direction and range of tasks, and margins in a metric's own unit
    columns: Columns | None = None  # which columns of JSON Lines and CSV files mean what
    policy: Policy | None = None  # of a release; it decides, and brings its level and its margin
    margin: float | None = None  # largest acceptable drop as a share of the range
    baseline: Annotated[
        str | None, Option(metavar="NAME", help="Baseline; default: the sweep's, else the first.")
    ] = None
    control: Annotated[str | None, Option(metavar="NAME", help=_CONTROL)] = None
    temperature: AtTemperature = None
    alpha: Annotated[
        float | None, Option(metavar="A", help="False alarm rate; default: the sweep's, or 0.05.")
    ] = None
    combine: Annotated[Combine, Option(help="How to combine the tasks in one test.")] = Settings.combine
    adjust: Annotated[Adjust, Option(help="Adjustment of p for multiple comparisons.")] = Settings.adjust
    cluster: Cluster = None
    pair_by: PairByOption = None
    missing: Annotated[Missing, Option(help=_MISSING)] = Settings.missing
    certify: Annotated[Certify, Option(help=_CERTIFY)] = Settings.certify
    certificate: Annotated[Certificate, Option(help=_CERTIFICATE)] = Settings.certificate
    min_common: Annotated[float, Option(metavar="SHARE", min=0, max=1, help=_MIN_COMMON)] = 0.5
    strict: Annotated[bool, Option("--strict", help=_STRICT)] = False

    def __post_init__(self) -> None:
        for name in NUMBERS:
            stated, given = getattr(self.policy, name, None), getattr(self, name)
            if stated is not None and given is not None:
                said = f"--{name} {given:g} and {name}: {stated:g} in the policy: remove one of them"
                raise PolicyError("The policy", [("invalid-policy", said)])

    @property
    def query(self) -> InputQuery:
        """What the readers need to know."""
        return InputQuery(dict(self.metrics), self.cluster, dict(self.where), self.columns, self.pair_by)

    def stated(self, name: str) -> float | None:
        """The level or the margin of the policy, else the one asked for."""
        given: float | None = getattr(self, name)
        return getattr(self.policy, name, None) or given

    def settings(self, scores: ScoreSet) -> Settings:
        """The settings for some scores: what the user or the policy says, else the input, else the defaults.

        Raises:
            UserError: if the level or the margin is out of range (it says where that one comes from), or a
                choice is none of those there are.
        """
        numbers: dict[str, Any] = {}
        for name in NUMBERS:
            stated = self.stated(name)
            number = getattr(scores, name) if stated is None else stated
            if number is None:
                continue
            if not 0.0 < number < 1.0:
                source = f"analysis.{name} of the sweep" if stated is None else f"--{name}"
                raise UserError(f"{source} must be between 0 and 1, but is {number:g}. Set it with --{name}.")
            numbers[name] = number
        try:
            return Settings(**numbers, **{name: getattr(self, name) for name in CHOICES})
        except ValueError as error:
            raise UserError(str(error)) from None
