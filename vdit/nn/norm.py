"""Normalisation over channels, position by position."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ChannelRMSNorm"]


class ChannelRMSNorm(nn.Module):
    """RMS norm over the channels of every position of a video.

    It never looks at a neighbour in time or space, so a codec built on it gives the same values for a
    clip in one piece and in chunks; group or batch statistics would not. Source: Zhang & Sennrich 2019.

    Shapes: `b c t h w` -> `b c t h w`.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1, 1))
        self.eps = eps

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        scale = torch.rsqrt(x.float().square().mean(dim=1, keepdim=True) + self.eps)
        return x * scale.to(x.dtype) * self.weight
