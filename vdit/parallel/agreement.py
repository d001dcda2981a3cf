"""What ranks agree on beside the steps, without any of them waiting."""

from datetime import timedelta

import torch
import torch.distributed as dist

__all__ = ["Agreement"]


class Agreement:
    """The highest of the values that ranks have, a small number each.

    One process is told at once. Several are told, at every call, what was highest at the call before: the
    exchange runs on the CPUs while a step computes, and all ranks hear the same.

    Args:
        world: processes of the run.
        patience: how long a process waits for the others.
    """

    def __init__(self, world: int, patience: timedelta | None = None) -> None:
        self._group = dist.new_group(backend="gloo", timeout=patience) if world > 1 else None
        self._value = torch.zeros((), dtype=torch.int64)
        self._under_way: dist.Work | None = None

    def highest(self, value: int) -> int:
        """Give this rank's value, and hear the highest. All ranks call it as often."""
        if self._group is None:
            return value
        before = self.settled()
        self._value = torch.tensor(value)
        self._under_way = dist.all_reduce(self._value, dist.ReduceOp.MAX, self._group, async_op=True)
        return before

    def now(self, value: int) -> int:
        """Give this rank's value, and wait for those of all others. Raises RuntimeError if one has gone."""
        if self._group is None:
            return value
        self.highest(value)
        return self.settled()

    def settled(self) -> int:
        """The highest of the last call's values; 0 before the first. It waits for ranks that are behind."""
        if self._under_way is not None:
            self._under_way.wait()
            self._under_way = None
        return int(self._value)
