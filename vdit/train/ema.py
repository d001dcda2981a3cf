"""An exponential moving average of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from vdit.parallel.weights import Weights
from vdit.types import InputError

__all__ = ["EMA"]


class EMA:
    """Averages what is trained, in float32; samples and validation use the average.

    The decay grows as (1 + step) / (10 + step) up to `decay`, so that a short run does not average in
    its random start. A process averages what it holds of the weights.

    Args:
        weights: those to follow.
        decay: weight of the past at every step once warm; 0 follows the weights exactly.
        every: steps from one update to the next, which then weighs as much as that many.
    """

    def __init__(self, weights: Weights, decay: float, every: int = 1) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"ema decay {decay} must lie in [0, 1)")
        self.weights, self.decay, self.every = weights, decay, every
        self.average = {name: p.float().clone() for name, p in weights.pieces().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after step `step` (from 0) into the average, if it is their turn."""
        if (step + 1) % self.every:
            return
        decay = min(self.decay, (1 + step) / (10 + step)) ** self.every
        live = [p.float() for p in self.weights.pieces().values()]
        torch._foreach_lerp_(list(self.average.values()), live, 1 - decay)

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Put back an average of whole weights saved earlier. Raises KeyError on names that do not match."""
        for name, value in self.average.items():
            value.copy_(self.weights.piece(name, average[name]))

    def whole(self) -> dict[str, Tensor]:
        """The average of whole weights, for the main rank; all ranks together."""
        return self.weights.joined(self.average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the weights are the average; outside, what training left. All ranks together."""
        kept = {name: p.clone() for name, p in self.weights.pieces().items()}
        self.weights.put(self.average)
        try:
            yield
        finally:
            self.weights.put(kept)
