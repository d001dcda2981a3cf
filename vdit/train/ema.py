"""An exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vdit.types import InputError

__all__ = ["EMA"]


class EMA:
    """Averages what is trained, in float32; samples and validation use the average.

    The decay grows as (1 + step) / (10 + step) up to `decay`, so that a short run does not average in
    its random start.

    Args:
        module: whose trainable weights to follow.
        decay: weight of the past at every step once warm; 0 follows the weights exactly.
        every: steps from one update to the next, which then weighs as much as that many.
    """

    def __init__(self, module: nn.Module, decay: float, every: int = 1) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"ema decay {decay} must lie in [0, 1)")
        self.decay, self.every = decay, every
        self._live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().float().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after step `step` (from 0) into the average, if it is their turn."""
        if (step + 1) % self.every:
            return
        decay = min(self.decay, (1 + step) / (10 + step)) ** self.every
        live = [p.float() for p in self._live.values()]
        torch._foreach_lerp_(list(self.average.values()), live, 1 - decay)

    def load(self, average: dict[str, Tensor]) -> None:
        """Put back an average saved earlier. Raises KeyError on names that do not match."""
        for name, value in self.average.items():
            value.copy_(average[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module's weights are the average; outside, they are what training left."""
        kept = {name: p.detach().clone() for name, p in self._live.items()}
        self._write(self.average)
        try:
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, p in self._live.items():
            p.copy_(values[name])
