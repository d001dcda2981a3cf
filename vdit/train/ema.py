"""An exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vdit.parallel.weights import Weights
from vdit.types import InputError
from vdit.weights.slices import Slice
from vdit.weights.source import Entry, WeightSource

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

    def load(self, source: WeightSource) -> None:
        """Put back an average of whole weights saved earlier; a process reads what it holds.

        Raises:
            KeyError: a name is not there.
        """
        for name, value in self.average.items():
            value.copy_(self.weights.piece(name, source))

    def entries(self) -> dict[str, Entry]:
        """What the average of whole weights is."""
        return {name: Entry(entry.shape, torch.float32) for name, entry in self.weights.entries().items()}

    def slices(self) -> list[Slice]:
        """What this rank saves of it; not copies."""
        return self.weights.slices(self.average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the weights are the average; outside, what training left. All ranks together."""
        kept = {name: p.clone() for name, p in self.weights.pieces().items()}
        self.weights.put(self.average)
        try:
            yield
        finally:
            self.weights.put(kept)
