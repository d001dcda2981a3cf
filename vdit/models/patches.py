"""What cutting latents into patches does to what is said of each latent."""

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

__all__ = ["token_sigma"]


def token_sigma(
    sigma: Float[Tensor, "b #t #h #w"], patch: tuple[int, int, int], size: tuple[int, int, int]
) -> Float[Tensor, "b #n"]:
    """One sigma a token: a patch is as noisy as its noisiest latent. One a clip stays one a clip."""
    if sigma.shape[1:] == (1, 1, 1):
        return rearrange(sigma, "b 1 1 1 -> b 1")
    full = torch.broadcast_to(sigma, (sigma.shape[0], *size))
    pt, ph, pw = patch
    return reduce(full, "b (t pt) (h ph) (w pw) -> b (t h w)", "max", pt=pt, ph=ph, pw=pw)
