"""What a process holds of weights, gradients and states from one step to the next, by the strategy of a run.

For ZeRO this is what DeepSpeed 0.19 allocates as `vdit.parallel.zero` configures it, which is more than the
formulas of the paper: weights are float32, and there is a master copy all the same; buckets in which
gradients are exchanged have a fixed size, whatever that of the model.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from vdit.parallel.engine import Parallel
from vdit.parallel.zero import REDUCE_BUCKET

__all__ = ["GATHERED", "PERSISTENT", "States", "states_of"]

PERSISTENT = 100_000
"""Values of a weight below which stage 3 keeps it whole: `param_persistence_threshold` of DeepSpeed."""

GATHERED = 550_000_000
"""Values that stage 3 gathers at most at once: half of `max_reuse_distance`, since the last layers of the
forward are the first of the backward, and `prefetch_bucket_size`."""

FULL = 4
"""Bytes of a float32."""

IN_HALF = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose gradients DeepSpeed exchanges in bfloat16 where it casts."""


@dataclass(frozen=True)
class States:
    """Bytes of one process.

    Attributes:
        weights: as the module has them, its buffers too.
        gradients: of weights, before the optimiser takes them.
        optimiser: its states, and master copies of weights.
        average: of weights.
        buffers: of the strategy, for good.
        passing: of the strategy, while a step goes forward and backward.
        updating: of the strategy, while the optimiser steps.
        host: what stands in the memory of the CPU instead.
    """

    weights: int
    gradients: int
    optimiser: int
    average: int
    buffers: int = 0
    passing: int = 0
    updating: int = 0
    host: int = 0

    @property
    def lasting(self) -> int:
        """What is there in every moment."""
        return self.weights + self.optimiser + self.average + self.buffers


def states_of(module: nn.Module, parallel: Parallel, accumulate: int, adamw: int) -> States:
    """What each process of a run holds.

    Args:
        module: what is trained.
        parallel: the run's.
        accumulate: micro-batches a step.
        adamw: bytes of the states of the optimiser over whole weights.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    world, values = parallel.devices * parallel.nodes, sum(p.numel() for p in trained)
    whole = _bytes([*module.parameters(), *module.buffers()])
    if parallel.strategy not in ("zero1", "zero2", "zero3"):
        shared = parallel.strategy == "ddp" or world > 1
        buckets = _bytes(trained) if shared else 0
        return States(whole, _bytes(trained), adamw, FULL * values, buckets)
    part = FULL * -(-values // world)
    half = parallel.precision == "bf16-mixed"
    if parallel.strategy == "zero3":
        return _stage_3(module, part, world, parallel.offload, half)
    copies = 1 if parallel.accelerator == "cpu" else 2  # exchanged while the other one is filled
    passing = copies * len(_exchanged(module, half)) * REDUCE_BUCKET * FULL
    largest = FULL * max(p.numel() for p in trained)
    if parallel.offload:
        host = (5 + (accumulate > 1)) * part + largest
        return States(whole, 0, 0, part, largest, passing, 0, host)
    gradients = FULL * values if parallel.strategy == "zero1" and accumulate > 1 else part
    return States(whole, gradients, 3 * part, part, 0, passing, part)


def _stage_3(module: nn.Module, part: int, world: int, offload: bool, half: bool) -> States:
    weights = list(module.parameters())
    small = [p for p in weights if p.numel() < PERSISTENT]
    large = [p for p in weights if p.numel() >= PERSISTENT]
    own = sum(-(-p.numel() // world) * p.element_size() for p in weights)
    held = own + _bytes(small) + _bytes(module.buffers())
    gathered = min(sum(p.numel() for p in large), GATHERED + max((p.numel() for p in large), default=0))
    passing = gathered * (large[0].element_size() if large else 0)
    buckets = sum(REDUCE_BUCKET * size for size in _exchanged(module, half))
    if offload:
        return States(held, 0, 0, part, buckets, passing, 0, 5 * part)
    return States(held, part, 3 * part, part, buckets, passing)


def _exchanged(module: nn.Module, half: bool) -> set[int]:
    """Bytes a value, of each kind in which gradients are exchanged."""
    if not half:
        return {FULL}
    found = set()
    for part in module.modules():
        for p in part.parameters(recurse=False):
            if p.requires_grad:
                found.add(2 if type(part) in IN_HALF else FULL)
    return found


def _bytes(values: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in values)
