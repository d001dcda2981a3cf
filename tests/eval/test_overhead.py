import pytest

from vdit.eval.overhead import measure_overhead
from vdit.types import InputError


class Clock:
    """Time that passes only when something works."""

    def __init__(self) -> None:
        self.now, self.worked = 0.0, []

    def work(self, name: str, seconds: float) -> None:
        self.worked.append(name)
        self.now += seconds


def test_both_are_timed_in_turns_after_one_warm_up_each():
    clock, told = Clock(), []
    measured = measure_overhead(
        lambda: clock.work("full", 3.0),
        lambda: clock.work("bare", 2.0),
        pairs=3,
        progress=lambda done, total: told.append((done, total)),
        clock=lambda: clock.now,
    )
    assert clock.worked == ["full", "bare", "full", "bare", "bare", "full", "full", "bare"]
    assert (measured.full, measured.bare) == ((3.0,) * 3, (2.0,) * 3)
    assert measured.ratio == 1.5
    assert measured.interval == (1.5, 1.5)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_one_pair_is_refused_before_anything_runs():
    clock = Clock()
    with pytest.raises(InputError, match="at least 2"):
        measure_overhead(lambda: clock.work("full", 1), lambda: clock.work("bare", 1), pairs=1)
    assert clock.worked == []
