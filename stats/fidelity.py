"""How far a model's distributions over tokens are from a baseline's, on the same text.

Of every place in the text there are the log-probabilities of its own token and of each model's k likeliest
ones. The Kullback-Leibler divergence is estimated on a coarser partition: tokens that both lists have, one by
one, and all the rest as one class. Merging outcomes never increases a divergence (the log-sum inequality), so
it is a lower bound; what it lacks is exactly r·KL(P' ‖ Q'), with r the baseline's probability of the rest, P'
and Q' the two distributions within it. Sums of float32 leave about 1e-6 a place, of either sign, of models
that are close.
"""

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Floats, Ints

LEAST_REST = 1e-6  # probability of the rest; less is rounding
LEAST_LOG = -80.0  # log-probability, so that all numbers are finite; less counts as this

KL, LOG_RATIO, PERPLEXITY_RATIO = "kl", "log_ratio", "perplexity_ratio"
OTHER_TOP, FIRST_DIVERGENCE = "other_top", "first_divergence"
NAMES = (KL, LOG_RATIO, PERPLEXITY_RATIO, OTHER_TOP, FIRST_DIVERGENCE)


def coarse_divergence(tokens: tuple[Ints, Ints], values: tuple[Floats, Floats]) -> Floats:
    """Lower bounds of KL(baseline ‖ variant) at each place, in nats; shape (places,).

    Args:
        tokens: of the baseline and the variant, (places, 1 + k): the text's own token, then the k likeliest,
            −1 where there are fewer.
        values: their log-probabilities, likewise.
    """
    fresh = tokens[0] >= 0
    fresh[:, 1:] &= tokens[0][:, 1:] != tokens[0][:, :1]
    same = tokens[0][:, :, None] == tokens[1][:, None, :]
    common = fresh & same.any(axis=2)
    first = np.where(common, values[0], -np.inf)
    second = np.where(common, np.take_along_axis(values[1], same.argmax(axis=2), axis=1), -np.inf)
    p, q = np.exp(first), np.exp(second)
    rest_p, rest_q = (np.maximum(1.0 - one.sum(axis=1), LEAST_REST) for one in (p, q))
    logs = np.subtract(first, second, out=np.zeros_like(p), where=common)
    divergence: Floats = (p * logs).sum(axis=1) + rest_p * np.log(rest_p / rest_q)
    return divergence


def text_fidelity(tokens: tuple[Ints, Ints], values: tuple[Floats, Floats]) -> NDArray[np.float64]:
    """The numbers of `NAMES` of one text, from arrays as above; NaN where they are not known.

    They are the mean of `coarse_divergence` over places, the mean of log p − log q of the text's own tokens,
    its exponential (variant's perplexity over baseline's), the share of places where another token is the
    likeliest, and how many come before the first such place (all of them where there is none). Of a text that
    the two split into other tokens only the second and third are known, per token of the baseline.
    """
    if not len(tokens[0]):
        return np.full(len(NAMES), np.nan)
    values = np.maximum(values[0], LEAST_LOG), np.maximum(values[1], LEAST_LOG)
    ratio = (values[0][:, 0].sum() - values[1][:, 0].sum()) / len(tokens[0])
    numbers = [np.nan, ratio, np.exp(min(ratio, -LEAST_LOG)), np.nan, np.nan]
    if np.array_equal(tokens[0][:, 0], tokens[1][:, 0]):
        numbers[0] = coarse_divergence(tokens, values).mean()
        top, other = (one[:, 1] for one in tokens)
        known = (top >= 0) & (other >= 0)
        if known.all():
            differs = top != other
            numbers[3:] = differs.mean(), differs.argmax() if differs.any() else differs.size
    return np.array(numbers)


def choice_fidelity(baseline: Floats, variant: Floats) -> NDArray[np.float64]:
    """The same of a question, by the log-likelihoods of its choices, shape (choices,).

    Its distribution is over the choices alone, so nothing is left out; the ratio is that of the choice which
    the baseline takes, and there is no first place.
    """
    p, q = (np.maximum(one - np.logaddexp.reduce(one), LEAST_LOG) for one in (baseline, variant))
    taken = int(p.argmax())
    ratio = p[taken] - q[taken]
    return np.array([np.exp(p) @ (p - q), ratio, np.exp(ratio), float(q.argmax() != taken), np.nan])
