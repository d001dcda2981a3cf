"""Intervals: how far a number from few trials can be trusted."""

import math
from collections.abc import Sequence

import numpy as np

from vdit.types import InputError

__all__ = ["median_ratio_interval", "wilson"]

# The 97.5th percentile of the unit normal: 95% lie between it and its opposite.
_Z = 1.959963984540054


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95% interval of a share, given `right` successes in `of` trials.

    Unlike the plain normal interval it stays within [0, 1] and has a width at 0 and `of` successes.
    Source: Wilson 1927; Brown, Cai & DasGupta 2001, eq. 4.

    Raises:
        InputError: no trials, or more successes than trials.
    """
    if not 0 <= right <= of or of < 1:
        raise InputError(f"{right} of {of} is no share: there must be at least one trial")
    p, scale = right / of, 1 + _Z**2 / of
    centre = (p + _Z**2 / (2 * of)) / scale
    half = _Z * math.sqrt(p * (1 - p) / of + _Z**2 / (4 * of**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def median_ratio_interval(
    above: Sequence[float], below: Sequence[float], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The 95% bootstrap interval of the median of above / below, pair by pair (Efron 1979).

    Pairs that were measured one after the other share what slowed the machine, and in a ratio it cancels.
    """
    ratios = np.array(above) / np.array(below)
    chosen = np.random.default_rng(seed).integers(len(ratios), size=(draws, len(ratios)))
    low, high = np.percentile(np.median(ratios[chosen], axis=1), [2.5, 97.5])
    return float(low), float(high)
