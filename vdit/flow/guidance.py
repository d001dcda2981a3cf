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
    """

    scale: float
    start: float = 1.0
    stop: float = 0.0

    def acts(self, sigma: float) -> bool:
        """Whether the null branch is needed at all at this sigma."""
        return self.scale != 1.0 and self.stop < sigma <= self.start

    def compose(
        self, conditional: Float[Tensor, "*shape"], null: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """The velocity the solver follows."""
        return torch.lerp(null, conditional, self.scale)
