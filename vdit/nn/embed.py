"""Patches into tokens and back, and diffusion time into a vector."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

__all__ = ["Patch", "fourier", "patchify", "unpatchify"]

Patch = tuple[int, int, int]


def patchify(x: Float[Tensor, "b c t h w"], patch: Patch) -> Float[Tensor, "b n d"]:
    """Cut a video into patches of `patch` = (frames, rows, columns), one token each, in the order (t h w)."""
    pt, ph, pw = patch
    return rearrange(x, "b c (t pt) (h ph) (w pw) -> b (t h w) (c pt ph pw)", pt=pt, ph=ph, pw=pw)


def unpatchify(
    tokens: Float[Tensor, "b n d"], patch: Patch, grid: tuple[int, int, int]
) -> Float[Tensor, "b c t h w"]:
    """Undo `patchify`; `grid` is the number of patches along t, h and w."""
    (pt, ph, pw), (t, h, w) = patch, grid
    return rearrange(
        tokens, "b (t h w) (c pt ph pw) -> b c (t pt) (h ph) (w pw)", t=t, h=h, w=w, pt=pt, ph=ph, pw=pw
    )


def fourier(sigma: Float[Tensor, "*shape"], channels: int) -> Float[Tensor, "*shape channels"]:
    """Cosines and sines of diffusion time at `channels` / 2 frequencies from 1 to 1e-4 per thousandth.

    `sigma` lies in [0, 1] and is scaled by 1000, so that the ladder of Vaswani et al. 2017 (sec. 3.5)
    fits it as it fits the step counts of DDPM.
    """
    half = channels // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half, device=sigma.device) / half)
    angle = 1000.0 * sigma[..., None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)
