"""Diffusion time as a vector."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["fourier"]


def fourier(
    sigma: Float[Tensor, "*shape"], channels: int, scale: float = 1000.0, theta: float = 10_000.0
) -> Float[Tensor, "*shape channels"]:
    """Cosines and sines of diffusion time at `channels` / 2 frequencies (Vaswani et al. 2017, sec. 3.5).

    Args:
        sigma: in [0, 1].
        channels: of the result; even.
        scale: the highest frequency, in radians from sigma 0 to 1. The default takes sigma in thousandths,
            as the step counts of DDPM. A model of few steps learns sooner what varies slowly.
        theta: the highest frequency over the lowest.
    """
    half = channels // 2
    exact = torch.promote_types(sigma.dtype, torch.float32)  # float64 stays
    steps = torch.arange(half, dtype=exact, device=sigma.device)
    frequency = scale * torch.exp(-math.log(theta) * steps / half)
    angle = sigma[..., None].to(exact) * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)
