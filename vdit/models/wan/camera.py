"""The rays of a camera, added once to the patches: the adapter of Wan's camera models (VideoX-Fun)."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["RAY_CHANNELS", "CameraIn"]

RAY_CHANNELS = 24
"""Moment and direction, three each, of the four frames of a latent frame."""


class CameraIn(nn.Module):
    """Rays at the size of the pixels to what is added to each patch.

    Args:
        width: channels of the transformer's tokens.
        stride: pixels of a side of a latent, which the rays are folded by.
        patch: latents of a side of a patch.

    Shapes: `b 24 t h_pixel w_pixel` -> `b d t h w`, with h and w in patches.
    """

    def __init__(self, width: int, stride: int, patch: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(RAY_CHANNELS * stride**2, width, patch, stride=patch)
        self.up = nn.Conv2d(width, width, 3, padding=1)
        self.down = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, rays: Float[Tensor, "b c t h_pixel w_pixel"]) -> Float[Tensor, "b d t h w"]:
        b = len(rays)
        frames = F.pixel_unshuffle(rearrange(rays, "b c t h w -> (b t) c h w"), self.stride)
        x = self.conv(frames)
        x = x + self.down(F.relu(self.up(x)))
        return rearrange(x, "(b t) d h w -> b d t h w", b=b)
