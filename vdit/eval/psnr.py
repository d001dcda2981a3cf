"""Peak signal-to-noise ratio."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["psnr"]


def psnr(a: Float[Tensor, "b c t h w"], b: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b"]:
    """Decibels between clips with pixels in [-1, 1], one number a clip: 10 log10(4 / mean squared error)."""
    error = (a.float() - b.float()).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-12))
