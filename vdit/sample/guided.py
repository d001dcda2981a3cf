"""The velocity that a solver follows: a denoiser's, guided by what is asked."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.denoiser import Denoiser, Signals
from vdit.flow.guidance import Branch, Guidance, compose, ladder
from vdit.types import Kept

__all__ = ["Guided"]


class Guided:
    """All branches of guidance in one evaluation, and what steps have in common computed once.

    Args:
        denoiser: gives velocity.
        asked: the signals of what is asked.
        nulls: what stands in their place in branches that do not hear them.
        guidance: the scales.
        told: what the model is told of a step's sigma.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        asked: Signals,
        nulls: Signals,
        guidance: Guidance,
        told: Callable[[float], float],
    ) -> None:
        self.denoiser, self.asked, self.nulls = denoiser, asked, nulls
        self.guidance, self.told = guidance, told
        self.levels = [level for level in self.guidance.scales(1.0) if level in denoiser.asks()]
        self.made: dict[tuple[int, ...], tuple[Signals, Kept]] = {}

    def __call__(self, x: Float[Tensor, "b c t h w"], sigma: float) -> Float[Tensor, "b c t h w"]:
        told = self.told(sigma)
        scales = self.guidance.scales(told)
        branches = ladder([scales[level] for level in self.levels])[::-1]
        signals, kept = self.stacked(branches)
        at = torch.full((len(branches) * len(x),), told, device=x.device)
        velocities = self.denoiser(torch.cat([x] * len(branches)), at, signals, kept).chunk(len(branches))
        return compose(velocities[::-1], branches[::-1])

    def stacked(self, branches: list[Branch]) -> tuple[Signals, Kept]:
        """The signals of these branches along one batch, and what was computed with them."""
        key = tuple(branch.heard for branch in branches)
        if key not in self.made:
            heard = [self.denoiser.hearing(self.asked, self.nulls, self.levels[:count]) for count in key]
            self.made[key] = self.denoiser.stack(heard), Kept()
        return self.made[key]
