"""Guidance: velocities composed into one that follows the prompt more closely."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["ClassifierFree"]


@dataclass(frozen=True)
class ClassifierFree:
    """v = v_null + scale * (v_prompt - v_null); scale 1 is the conditional velocity alone.

    Source: Ho & Salimans 2022, eq. 6, in the form where 1 is "no guidance"; limited to an interval of
    sigma as in Kynkäänniemi et al. 2024.

    Attributes:
        scale: how far beyond the conditional velocity to go.
        start: guidance acts for sigma in (stop, start].
        stop: see `start`.
        low_scale: the scale for sigma below `boundary`, where another one of two experts speaks.
        boundary: see `low_scale`.
    """

    scale: float
    start: float = 1.0
    stop: float = 0.0
    low_scale: float = 1.0
    boundary: float = 0.0

    def scale_at(self, sigma: float) -> float:
        """How far to go at this sigma."""
        if not self.stop < sigma <= self.start:
            return 1.0
        return self.scale if sigma >= self.boundary else self.low_scale

    def acts(self, sigma: float) -> bool:
        """Whether the null branch is needed at all at this sigma."""
        return self.scale_at(sigma) != 1.0

    def compose(
        self, conditional: Float[Tensor, "*shape"], null: Float[Tensor, "*shape"], sigma: float
    ) -> Float[Tensor, "*shape"]:
        """The velocity the solver follows."""
        return torch.lerp(null, conditional, self.scale_at(sigma))
