"""Pixels as the Y'CbCr 4:2:0 of BT.709, by exact arithmetic.

swscale puts chroma samples between two pixels, where H.264 has them on the left one, so colours would move by
half a pixel each time a clip is written and read; it also rounds red, green and blue before it converts them.
"""

from functools import cache

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = ["to_yuv420"]

_RED, _BLUE = 0.2126, 0.0722
"""Parts of luma, ITU-R BT.709-6."""


def to_yuv420(pixels: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "rows w"]:
    """RGB in [-1, 1], of even sizes, as planes of limited range one below the other, as PyAV takes them.

    Chroma is such that what a reader interpolates from it is nearest to the pixels' own (least squares). So a
    clip that was read and is written again gets the chroma that it had.
    """
    red, green, blue = ((pixels.detach().float().cpu() + 1) / 2).clamp(0, 1)
    luma = _RED * red + (1 - _RED - _BLUE) * green + _BLUE * blue
    chroma = torch.stack([(blue - luma) / (2 - 2 * _BLUE), (red - luma) / (2 - 2 * _RED)])
    h, w = luma.shape
    halved = _halving(h, centred=True) @ chroma @ _halving(w, centred=False).T
    planes = [16 + 219 * luma, rearrange(128 + 224 * halved, "c h w -> (c h w)").view(-1, w)]
    return torch.cat(planes).round().clamp(1, 254).to(torch.uint8).numpy()


@cache
def _halving(length: int, centred: bool) -> Float[Tensor, "half length"]:
    """The inverse, by least squares, of doubling a row of samples by linear interpolation.

    Samples stand between two pixels, or on the left one, as in H.264: left of a pair, between two rows.
    """
    half = length // 2
    places = torch.arange(length, dtype=torch.float64) / 2 - (0.25 if centred else 0)
    weights = 1 - (places[:, None].clamp(0, half - 1) - torch.arange(half)).abs()
    return torch.linalg.pinv(weights.clamp(0)).float()
