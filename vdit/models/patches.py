"""What cutting latents into patches does to what is said of each latent."""

import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["sigma_rows", "token_sigma"]


def token_sigma(
    sigma: Float[Tensor, "b #t #h #w"], patch: tuple[int, int, int], size: tuple[int, int, int]
) -> Float[Tensor, "b #n"]:
    """One sigma a token: a patch is as noisy as its noisiest latent. One a clip stays one a clip."""
    if sigma.shape[1:] == (1, 1, 1):
        return rearrange(sigma, "b 1 1 1 -> b 1")
    full = torch.broadcast_to(sigma, (sigma.shape[0], *size))
    pt, ph, pw = patch
    return reduce(full, "b (t pt) (h ph) (w pw) -> b (t h w)", "max", pt=pt, ph=ph, pw=pw)


def sigma_rows(
    sigma: Float[Tensor, "b #t #h #w"], patch: tuple[int, int, int], size: tuple[int, int, int]
) -> tuple[Float[Tensor, "b r"], Int64[Tensor, "n"] | None]:
    """As `token_sigma`, but one row for tokens that share their sigma, and which row is whose.

    One row a clip, or one a latent frame, or one a token; None where there is one row alone.
    """
    if sigma.shape[1:] == (1, 1, 1):
        return rearrange(sigma, "b 1 1 1 -> b 1"), None
    pt, ph, pw = patch
    t, n = size[0] // pt, size[1] // ph * (size[2] // pw)
    if sigma.shape[2:] == (1, 1):
        rows = reduce(sigma.expand(-1, size[0], 1, 1), "b (t pt) 1 1 -> b t", "max", pt=pt)
        return rows, torch.arange(t, device=sigma.device).repeat_interleave(n)
    return token_sigma(sigma, patch, size), torch.arange(t * n, device=sigma.device)
