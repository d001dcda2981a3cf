"""Diffusion time as a vector."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["fourier"]


def fourier(sigma: Float[Tensor, "*shape"], channels: int) -> Float[Tensor, "*shape channels"]:
    """Cosines and sines of diffusion time at `channels` / 2 frequencies from 1 to 1e-4 per thousandth.

    `sigma` lies in [0, 1] and is scaled by 1000, so that the ladder of Vaswani et al. 2017 (sec. 3.5)
    fits it as it fits the step counts of DDPM.
    """
    half = channels // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half, device=sigma.device) / half)
    angle = 1000.0 * sigma[..., None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)
