"""The rays of a camera, added once to the patches, as in Wan's camera models (VideoX-Fun)."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["RAY", "CameraIn"]

RAY = 6
"""Channels of a ray: moment and direction, three each."""


class CameraIn(nn.Module):
    """Rays at the size of the pixels to what is added to each patch.

    Args:
        width: channels of the transformer's tokens.
        stride: pixels of a side of a latent, which the rays are folded by.
        patch: latents of a side of a patch.
        stride_t: pixel frames of a latent frame, whose rays come together.

    Shapes: `b (6 stride_t) t h_pixel w_pixel` -> `b d t h w`, with h and w in patches.
    """

    def __init__(self, width: int, stride: int, patch: int, stride_t: int = 4) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(RAY * stride_t * stride**2, width, patch, stride=patch)
        self.up = nn.Conv2d(width, width, 3, padding=1)
        self.down = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, rays: Float[Tensor, "b c t h_pixel w_pixel"]) -> Float[Tensor, "b d t h w"]:
        b = len(rays)
        frames = F.pixel_unshuffle(rearrange(rays, "b c t h w -> (b t) c h w"), self.stride)
        x = self.conv(frames)
        x = x + self.down(F.relu(self.up(x)))
        return rearrange(x, "(b t) d h w -> b d t h w", b=b)

    def silence(self) -> None:
        """Let it add nothing at first; the first convolution learns at once, the others after it."""
        for layer in (self.conv, self.down):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
