"""What one way of doing a thing costs beside another, on a machine that does other things too."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from vdit.eval.interval import median_ratio_interval
from vdit.types import InputError

__all__ = ["Overhead", "measure_overhead"]


@dataclass(frozen=True)
class Overhead:
    """Seconds of pairs of runs, one of each kind in a pair.

    Attributes:
        full: what is looked at.
        bare: what it is compared with.
    """

    full: tuple[float, ...]
    bare: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median of what `full` took over what `bare` did, pair by pair."""
        return statistics.median(full / bare for full, bare in zip(self.full, self.bare, strict=True))

    @property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap interval of `ratio`."""
        return median_ratio_interval(self.full, self.bare)


def measure_overhead(
    full: Callable[[], object],
    bare: Callable[[], object],
    pairs: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Overhead:
    """Time both in turns, so that what else the machine does falls on both alike.

    The order within a pair alternates. Each runs once before, untimed. Work on an accelerator must have
    finished when the callables return.

    Raises:
        InputError: fewer than two pairs.
    """
    if pairs < 2:
        raise InputError(f"{pairs} pairs say nothing of the spread: measure at least 2")
    full()
    bare()
    seconds: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            started = clock()
            (full, bare)[which]()
            seconds[which].append(clock() - started)
        progress(pair + 1, pairs)
    return Overhead(tuple(seconds[0]), tuple(seconds[1]))
