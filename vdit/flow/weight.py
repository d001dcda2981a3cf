"""How much the loss at each sigma counts, apart from how often training draws that sigma."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.flow.noise import NoiseLevels
from vdit.types import InputError

__all__ = ["Even", "InverseVariance", "SigmaWeight", "mean_weight"]

_QUANTILES = 4096


class SigmaWeight(ABC):
    """A positive weight of each sigma, up to a factor: what is drawn weighs 1 on average in training."""

    @abstractmethod
    def __call__(self, sigma: Float[Tensor, "b"]) -> Float[Tensor, "b"]: ...


class Even(SigmaWeight):
    """Every clip alike."""

    def __call__(self, sigma: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return torch.ones_like(sigma)


class InverseVariance(SigmaWeight):
    """A power of 1 / (sigma^2 + (1 - sigma)^2), the inverse of the variance of what the network sees.

    What is left of the loss after training is largest at both ends of the line and least where data and
    noise are mixed in equal parts: there outlines are decided, and there a sum over all sigmas hardly
    looks. This weight evens that out without a draw less of the ends.

    Args:
        power: 0 weighs every clip alike; 1 moves weight as CosMap moves draws (Esser et al. 2024, sec. 3.1).
    """

    def __init__(self, power: float = 1.0) -> None:
        if power < 0:
            raise InputError(f"power {power} must not be below 0; 0 weighs every clip alike")
        self.power = power

    def __call__(self, sigma: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return (sigma.square() + (1 - sigma).square()) ** -self.power


def mean_weight(weight: SigmaWeight, levels: NoiseLevels) -> float:
    """The mean of `weight` over `levels`, from equally likely sigmas."""
    u = (torch.arange(_QUANTILES, dtype=torch.float64, device="cpu") + 0.5) / _QUANTILES
    return weight(levels.at(u)).mean().item()
