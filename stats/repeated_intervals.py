"""Intervals of the drop that hold at every look together, whatever the reason for stopping.

A repeated confidence interval is the fixed interval with its levels replaced by those of the boundaries at
the look (Jennison & Turnbull 1989; 2000, ch. 9): its lower limit lies above 0 where the pooled test finds
damage, its upper limit below the margin where Tango's score certifies.
"""

from stats.intervals import Interval, fay_lumbard_interval, t_interval, tango_interval
from stats.sequential_noninferiority import Acceptability

LEAST_TAIL = 1e-9
"""A level below this leaves the limit where scores end."""


def repeated_interval(seen: Acceptability, lower_tail: float, upper_tail: float) -> Interval:
    """Lower and upper limit of the drop at one look.

    Args:
        seen: the blocks so far.
        lower_tail: nominal one-sided level of the look for damage.
        upper_tail: nominal one-sided level of the look for a certificate.

    Returns:
        Where items are right or wrong, the lower limit of Fay & Lumbard and, from 20 flips on, the upper one
        of Tango; else Student's. Both hold at all looks with probability 1 − (level of damage + level of the
        certificate).
    """
    low = _limits(seen, lower_tail, tango=False).low if lower_tail > LEAST_TAIL else -seen.reach
    tango = not seen.few_flips
    high = _limits(seen, upper_tail, tango=tango).high if upper_tail > LEAST_TAIL else seen.reach
    return Interval(low, high)


def _limits(seen: Acceptability, tail: float, *, tango: bool) -> Interval:
    if not seen.counted:
        return t_interval(seen.sums, seen.sizes, 2.0 * tail, seen.reach)
    counts = (int((seen.sums > 0.0).sum()), int((seen.sums < 0.0).sum()), seen.sums.size)
    return (tango_interval if tango else fay_lumbard_interval)(*counts, 2.0 * tail)
