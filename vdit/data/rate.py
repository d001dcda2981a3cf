"""The rate of a video out of the stamps of its frames, which files round to their own units."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["NTSC", "Timing", "steady_times", "timing"]

NTSC = Fraction(1001, 1000)
"""What rates of television are slower by than the whole number that they are called by: 23.976 for 24."""


@dataclass(frozen=True, eq=False)
class Timing:
    """When the frames of a video are shown.

    Attributes:
        fps: frames per second; of a video without a steady rate, their average.
        times: seconds at which each frame begins to show, from 0.
        duration: seconds to the end of the last.
    """

    fps: Fraction
    times: Float64[np.ndarray, "t"]
    duration: float


def timing(
    pts: Int64[np.ndarray, "t"], base: Fraction, last: int, declared: Iterable[Fraction | None]
) -> Timing:
    """The timing of frames with these stamps, in units of `base` seconds.

    Where a steady rate explains all stamps but for their rounding, it is taken and the rounding left out.

    Args:
        pts: ascending.
        base: seconds of a unit: a thousandth in Matroska, which rounds every rate but 25 and 20.
        last: units that the last frame is shown; 0 where the file does not say.
        declared: rates that the file states, the likeliest first.
    """
    frames, span = len(pts), int(pts[-1] - pts[0])
    rates = [_named(Fraction(rate)) for rate in declared if rate]
    if frames == 1:
        fps = rates[0] if rates else 1 / (last * base) if last else Fraction(1)
        return Timing(fps, np.zeros(1), float(1 / fps))
    average = (frames - 1) / (span * base)
    for fps in [*rates, _named(average.limit_denominator(1001))]:
        if _steady(pts, fps * base):
            # The last frame may stand longer than the others.
            longer = max(last * base - 1 / fps, Fraction(0))
            duration = frames / fps + (longer if longer * fps > 0.5 else 0)
            return Timing(fps, steady_times(frames, fps), float(duration))
    end = span + (last or int(pts[-1] - pts[-2]))
    times = (pts - pts[0]).astype(np.float64) * float(base)
    return Timing(frames / (end * base), times, float(end * base))


@lru_cache
def steady_times(frames: int, fps: Fraction) -> Float64[np.ndarray, "t"]:
    """Seconds at which frames of a steady rate begin to show; read-only, because many files share them."""
    times = np.arange(frames) / float(fps)
    times.flags.writeable = False
    return times


def _steady(pts: Int64[np.ndarray, "t"], per_unit: Fraction) -> bool:
    """Whether stamps are those of frames that come at this rate, each rounded up, down or to the nearest."""
    error = pts - pts[0] - np.arange(len(pts)) / float(per_unit)
    rounding = 1 if per_unit <= 0.5 else 0  # where a unit is a frame, a step of one is a frame left out
    return float(error.max() - error.min()) < rounding + 1e-6


def _named(rate: Fraction) -> Fraction:
    """The whole number, or the rate of television, that a rounded figure stands for; else itself."""
    for usual in (Fraction(round(rate)), Fraction(round(rate * NTSC) * 1000, 1001)):
        if usual and abs(usual / rate - 1) < 1e-4:
            return usual
    return rate
