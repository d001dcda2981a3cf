"""Clean images as tokens after those of the clip, for whoever attends to them."""

from typing import NamedTuple

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vdit.types import Appended

__all__ = ["Sequence", "append"]


class Sequence(NamedTuple):
    """The tokens of clips, and what is said of each.

    Attributes:
        x: the tokens.
        positions: frame, row and column.
        sigma: in rows, each of one token or of many.
        row: which row is whose; None where there is one alone.
        mask: True where a token is one; None where all are.
    """

    x: Float[Tensor, "b n d"]
    positions: Float[Tensor, "#b n 3"]
    sigma: Float[Tensor, "b r"]
    row: Int64[Tensor, "n"] | None
    mask: Bool[Tensor, "b n"] | None


def append(clip: Sequence, images: Appended, patches: Float[Tensor, "b k d h w"]) -> Sequence:
    """The tokens of clips and, behind them, those of clean images, whose sigma is 0.

    Args:
        clip: tokens of clips alone, which begin with all of frame 0.
        images: where they stand in time, and which of them there are.
        patches: of each image.
    """
    b, k, _, h, w = patches.shape
    n, more = clip.x.shape[1], k * h * w
    frame = repeat(images.frame, "b k -> b (k n) 1", n=h * w)
    place = repeat(clip.positions[:, : h * w, 1:], "1 n p -> b (k n) p", b=b, k=k)
    row = clip.x.new_zeros(n, dtype=torch.long) if clip.row is None else clip.row
    return Sequence(
        torch.cat([clip.x, rearrange(patches, "b k d h w -> b (k h w) d")], dim=1),
        torch.cat([clip.positions.expand(b, -1, -1), torch.cat([frame, place], dim=-1)], dim=1),
        torch.cat([clip.sigma, clip.sigma.new_zeros(b, 1)], dim=1),
        torch.cat([row, row.new_full((more,), clip.sigma.shape[1])]),
        torch.cat([images.mask.new_ones(b, n), images.mask.repeat_interleave(h * w, dim=1)], dim=1),
    )
