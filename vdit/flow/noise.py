"""Which diffusion times training visits, and which a sampler walks through."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.draws import Draws
from vdit.types import InputError

__all__ = ["LogitNormal", "NoiseLevels", "Uniform", "shift_sigma"]


def shift_sigma(sigma: Float[Tensor, "*shape"], shift: float) -> Float[Tensor, "*shape"]:
    """Move sigma towards noise: s * sigma / (1 + (s - 1) * sigma); s = 1 changes nothing.

    More pixels hide less behind the same noise, so larger videos want a larger shift.
    Source: Esser et al. 2024, eq. 23.
    """
    return shift * sigma / (1 + (shift - 1) * sigma)


class NoiseLevels(ABC):
    """A distribution of sigma over (0, 1)."""

    def __init__(self, shift: float = 1.0) -> None:
        if shift <= 0:
            raise InputError(f"shift {shift} must be above 0; 1 changes nothing")
        self.shift = shift

    @abstractmethod
    def quantile(self, u: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The sigma below which a fraction `u` of the distribution lies, before the shift."""

    def at(self, u: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The sigma below which a fraction `u` of the distribution lies; never 0 or 1 itself."""
        return shift_sigma(self.quantile(u.clamp(1e-6, 1 - 1e-6)), self.shift)

    def sample(self, count: int, draws: Draws) -> Float[Tensor, "b"]:
        """`count` sigmas; those of a batch come one from each equal slice of probability, in random order.

        Slicing leaves the distribution of each sigma as it is and takes most of the batch-to-batch
        noise out of the loss (Kingma et al. 2021, app. I.1).
        """
        return self.at(draws.strata(count))


class Uniform(NoiseLevels):
    """Every sigma alike."""

    def quantile(self, u: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return u


class LogitNormal(NoiseLevels):
    """sigmoid of a normal variable: most work in the middle, where the velocity is hardest.

    Source: Esser et al. 2024, eq. 19.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0, shift: float = 1.0) -> None:
        super().__init__(shift)
        if std <= 0:
            raise InputError(f"std {std} must be above 0")
        self.mean, self.std = mean, std

    def quantile(self, u: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))
