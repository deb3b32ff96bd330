"""Intervals of the drop that hold at all looks together, for any reason to stop.

A repeated confidence interval is the fixed interval with its levels replaced by those of the boundaries at
the look (Jennison & Turnbull 1989; 2000, ch. 9): its upper limit lies below the margin where the look
certifies, and for right or wrong its lower limit above 0 where the pooled test finds damage.
"""

from stats.acceptability import Evidence
from stats.intervals import Interval

LEAST_TAIL = 1e-9
"""A level below this leaves the limit where scores end."""


def repeated_interval(evidence: Evidence, lower_tail: float, upper_tail: float, reach: float) -> Interval:
    """Lower and upper limit of the drop at one look.

    Args:
        evidence: what has been seen.
        lower_tail: nominal one-sided level of the look for damage.
        upper_tail: nominal one-sided level of the look for a certificate.
        reach: largest possible |difference| of one item.

    Returns:
        Limits that hold at all looks with probability 1 − (level of damage + level of the certificate).
    """
    low = evidence.limits(lower_tail).low if lower_tail > LEAST_TAIL else -reach
    high = evidence.limits(upper_tail).high if upper_tail > LEAST_TAIL else reach
    return Interval(low, high)
