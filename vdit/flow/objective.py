"""Flow matching: a straight line from data to noise, and the velocity along it."""

from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from vdit.draws import Draws
from vdit.flow.noise import NoiseLevels
from vdit.flow.weight import Even, SigmaWeight, mean_weight
from vdit.types import onto

__all__ = ["FlowMatching", "Noised", "noised"]


@dataclass(frozen=True)
class Noised:
    """A batch on its way to noise.

    Attributes:
        x: (1 - sigma) * x0 + sigma * noise.
        sigma: diffusion time of each clip.
        velocity: dx/dsigma = noise - x0, what the network is asked for.
    """

    x: Float[Tensor, "b c t h w"]
    sigma: Float[Tensor, "b"]
    velocity: Float[Tensor, "b c t h w"]


def noised(
    x0: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b"], noise: Float[Tensor, "b c t h w"]
) -> Noised:
    """The point at `sigma` on the line from `x0` to `noise`.

    Source: Lipman et al. 2023, eq. 22; Liu et al. 2023, eq. 1.
    """
    s = rearrange(sigma, "b -> b 1 1 1 1")
    return Noised(torch.lerp(x0, noise, s), sigma, noise - x0)


class FlowMatching:
    """Draws noise and sigma, and measures how far a predicted velocity is from the true one.

    Args:
        levels: the distribution of sigma.
        weight: what the loss at each sigma counts in training; every sigma alike where it is None.
    """

    def __init__(self, levels: NoiseLevels, weight: SigmaWeight | None = None) -> None:
        self.levels = levels
        self.weight = weight or Even()
        self.mean_weight = mean_weight(self.weight, levels)

    def draw(self, x0: Float[Tensor, "b c t h w"], draws: Draws) -> Noised:
        """Noise every clip to a sigma of its own."""
        sigma = onto(self.levels.sample(x0.shape[0], draws), x0.device)
        return noised(x0, sigma, draws.normal(x0.shape, x0))

    def loss(
        self,
        velocity: Float[Tensor, "b c t h w"],
        at: Noised,
        known: Float[Tensor, "b 1 t h w"] | None = None,
    ) -> Float[Tensor, "b"]:
        """Mean squared error of the velocity, one number a clip, in float32; 1 in `known` carries none."""
        error = (velocity.float() - at.velocity.float()).square()
        if known is None:
            return reduce(error, "b c t h w -> b", "mean")
        asked = (1 - known).expand_as(error)
        return (error * asked).flatten(1).sum(1) / asked.flatten(1).sum(1).clamp(min=1)

    def weighted(self, loss: Float[Tensor, "b"], sigma: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """`loss` times the weight of its sigma, which is 1 on average, so that no rate has to follow it."""
        return loss * self.weight(sigma) / self.mean_weight
