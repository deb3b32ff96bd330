"""What the name of a metric says about its scores: which direction is better, and how far they can range.

Ranges are those of a single sample's value. Where two scales are in use (BLEU as a share or in percent), the first
one that holds all scores is meant. An error rate of words is not bounded: insertions can exceed the reference.
"""

import re
from dataclasses import dataclass

from jobs.inputs.bounds import PERCENT, UNBOUNDED, UNIT, Bounds


@dataclass(frozen=True)
class KnownMetric:
    """Direction and possible ranges of a metric.

    Attributes:
        higher_is_better: its direction.
        ranges: scales in use, the narrowest first; empty where the name does not say.
    """

    higher_is_better: bool
    ranges: tuple[Bounds, ...] = ()


_LOWER_UNBOUNDED = KnownMetric(False, (UNBOUNDED,))
_LOWER_SHARE = KnownMetric(False, (UNIT, PERCENT))
_HIGHER_SHARE = KnownMetric(True, (UNIT, PERCENT))
_HIGHER_UNBOUNDED = KnownMetric(True, (UNBOUNDED,))

_BY_ENDING = {
    "perplexity": _LOWER_UNBOUNDED, "ppl": _LOWER_UNBOUNDED, "bits_per_byte": _LOWER_UNBOUNDED,
    "bits_per_char": _LOWER_UNBOUNDED, "bpb": _LOWER_UNBOUNDED, "loss": _LOWER_UNBOUNDED, "nll": _LOWER_UNBOUNDED,
    "cross_entropy": _LOWER_UNBOUNDED, "kl_divergence": _LOWER_UNBOUNDED, "wer": _LOWER_UNBOUNDED,
    "cer": _LOWER_UNBOUNDED, "ter": _LOWER_UNBOUNDED, "edit_distance": _LOWER_UNBOUNDED,
    "levenshtein": _LOWER_UNBOUNDED, "levenshtein_distance": _LOWER_UNBOUNDED, "mae": _LOWER_UNBOUNDED,
    "mse": _LOWER_UNBOUNDED, "rmse": _LOWER_UNBOUNDED,
    "normalized_edit_distance": KnownMetric(False, (UNIT,)), "brier": KnownMetric(False, (UNIT, (0.0, 2.0))),
    "brier_score": KnownMetric(False, (UNIT, (0.0, 2.0))), "ece": KnownMetric(False, (UNIT,)),
    "error_rate": _LOWER_SHARE, "error": KnownMetric(False), "err": KnownMetric(False),
    "hallucination_rate": _LOWER_SHARE, "toxicity": KnownMetric(False, (UNIT,)),
}  # fmt: skip
"""Names that say the direction wherever they end a longer one: valid_loss, word_perplexity."""

_BY_NAME = {
    "acc": _HIGHER_SHARE, "acc_norm": _HIGHER_SHARE, "accuracy": _HIGHER_SHARE, "exact_match": _HIGHER_SHARE,
    "em": _HIGHER_SHARE, "f1": _HIGHER_SHARE, "bleu": _HIGHER_SHARE, "sacrebleu": _HIGHER_SHARE,
    "chrf": _HIGHER_SHARE, "rouge1": _HIGHER_SHARE, "rouge2": _HIGHER_SHARE, "rougel": _HIGHER_SHARE,
    "rougelsum": _HIGHER_SHARE, "meteor": _HIGHER_SHARE, "bleu_max": _HIGHER_SHARE,
    "rouge1_max": _HIGHER_SHARE, "rouge2_max": _HIGHER_SHARE, "rougel_max": _HIGHER_SHARE,
    "mcc": KnownMetric(True, ((-1.0, 1.0),)), "loglikelihood": _HIGHER_UNBOUNDED, "logprob": _HIGHER_UNBOUNDED,
    "log_likelihood": _HIGHER_UNBOUNDED,
}  # fmt: skip

_ENDING = re.compile(rf"(?:^|[\W_])({'|'.join(sorted(_BY_ENDING, key=len, reverse=True))})$")


def known_metric(name: str) -> KnownMetric | None:
    """What is known of a metric by its name.

    Args:
        name: "metric" or "metric,filter", in any case.

    Returns:
        None where the name says nothing.
    """
    plain = name.partition(",")[0].strip().lower()
    if plain in _BY_NAME:
        return _BY_NAME[plain]
    found = _ENDING.search(plain.replace("-", "_").replace(" ", "_"))
    return None if found is None else _BY_ENDING[found[1]]


def known_direction(name: str) -> bool:
    """Whether higher is better as far as the name says; True where it says nothing."""
    known = known_metric(name)
    return known is None or known.higher_is_better
