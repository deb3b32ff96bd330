"""What the name of a metric says about its scores: which direction is better, and how far they can range.

Ranges are those of a single sample's value. Where two scales are in use (BLEU as a share or in percent),
the first one that holds all scores is meant. A word error rate has no limit: insertions can exceed the
reference.
"""

import re
from dataclasses import dataclass

from jobs.inputs.scales.bounds import PERCENT, UNBOUNDED, UNIT, Bounds


@dataclass(frozen=True)
class KnownMetric:
    """Direction and possible ranges of a metric.

    Attributes:
        higher_is_better: its direction.
        ranges: scales in use, the narrowest first; empty where the name does not say.
    """

    higher_is_better: bool
    ranges: tuple[Bounds, ...] = ()


_BY_ENDING = {
    **dict.fromkeys(
        ("perplexity", "ppl", "bits_per_byte", "bits_per_char", "bpb", "loss", "nll", "cross_entropy",
         "kl_divergence", "wer", "cer", "ter", "edit_distance", "levenshtein", "levenshtein_distance", "mae",
         "mse", "rmse"),
        KnownMetric(False, (UNBOUNDED,)),
    ),
    **dict.fromkeys(("normalized_edit_distance", "ece", "toxicity"), KnownMetric(False, (UNIT,))),
    **dict.fromkeys(("error_rate", "hallucination_rate"), KnownMetric(False, (UNIT, PERCENT))),
    **dict.fromkeys(("brier", "brier_score"), KnownMetric(False, (UNIT, (0.0, 2.0)))),
    **dict.fromkeys(("error", "err"), KnownMetric(False)),
}  # fmt: skip
"""Names that say the direction wherever they end a longer one: valid_loss, word_perplexity."""

_BY_NAME = {
    **dict.fromkeys(
        ("acc", "acc_norm", "accuracy", "exact_match", "em", "f1", "bleu", "sacrebleu", "chrf", "rouge1",
         "rouge2", "rougel", "rougelsum", "meteor", "bleu_max", "rouge1_max", "rouge2_max", "rougel_max"),
        KnownMetric(True, (UNIT, PERCENT)),
    ),
    **dict.fromkeys(("loglikelihood", "log_likelihood", "logprob"), KnownMetric(True, (UNBOUNDED,))),
    "mcc": KnownMetric(True, ((-1.0, 1.0),)),
}  # fmt: skip

_SHARE_OF_RIGHT = re.compile(r"(?:^|_)(?:acc|accuracy|exact_match|pass(?:@\d+)?)(?:_|$)")
"""Right or wrong in longer names, too: prompt_level_strict_acc, exact_match_original, pass@1."""

_ENDING = re.compile(rf"(?:^|[\W_])({'|'.join(sorted(_BY_ENDING, key=len, reverse=True))})$")


def known_metric(name: str) -> KnownMetric | None:
    """What is known of a metric by its name.

    Args:
        name: "metric" or "metric,filter", in any case.

    Returns:
        None where the name says nothing.
    """
    plain = _plain(name)
    if plain in _BY_NAME:
        return _BY_NAME[plain]
    if found := _ENDING.search(plain):
        return _BY_ENDING[found[1]]
    return KnownMetric(True, (UNIT, PERCENT)) if _SHARE_OF_RIGHT.search(plain) else None


def certain_range(name: str) -> Bounds | None:
    """The range of a metric's values as far as it is certain before any has been seen.

    Args:
        name: as for `known_metric`.

    Returns:
        None where the values have no range, or the name leaves several possible.
    """
    known = known_metric(name)
    if known is None or not known.ranges:
        return None
    is_certain = len(known.ranges) == 1 or _SHARE_OF_RIGHT.search(_plain(name))
    return known.ranges[0] if is_certain and known.ranges[0] != UNBOUNDED else None


def _plain(name: str) -> str:
    """The metric alone, its words joined by underscores."""
    return name.partition(",")[0].strip().lower().replace("-", "_").replace(" ", "_")


def known_direction(name: str) -> bool:
    """Whether higher is better as far as the name says; True where it says nothing."""
    known = known_metric(name)
    return known is None or known.higher_is_better
