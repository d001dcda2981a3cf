"""The blocks of Wan's transformers."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vdit.models.wan.attention import CrossAttention, SelfAttention
from vdit.models.wan.stream import WanStream
from vdit.nn.lean import LeanMLP, gated_sum, lean_branch, norm_modulate

__all__ = ["EPS", "Block", "HintedBlock"]

EPS = 1e-6


class Block(nn.Module):
    """Self-attention over all tokens of the clip, cross-attention to text and image, feed-forward."""

    def __init__(self, width: int, hidden: int, heads: int, image: bool) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 6, width) / width**0.5)
        self.self_attention = SelfAttention(width, heads, EPS)
        self.norm_text = nn.LayerNorm(width, eps=EPS)
        self.text_attention = CrossAttention(width, heads, EPS, image)
        self.mlp = LeanMLP(width, hidden, width)

    def forward(self, x: Float[Tensor, "b n d"], stream: WanStream) -> Float[Tensor, "b n d"]:
        # Shift, scale and gate of self-attention, then of the feed-forward, each b #n d.
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = (stream.rows + self.modulation).unbind(2)
        attended = lean_branch(
            x,
            partial(norm_modulate, shift=shift, scale=scale, eps=EPS),
            partial(self.self_attention, rotation=stream.rotation),
        )
        x = gated_sum(x, gate, attended)
        x = x + lean_branch(x, self.norm_text, partial(self.text_attention, stream=stream))
        made = lean_branch(x, partial(norm_modulate, shift=shift_mlp, scale=scale_mlp, eps=EPS), self.mlp)
        return gated_sum(x, gate_mlp, made)


class HintedBlock(Block):
    """A block that adds the hint of a context block to its result.

    Args:
        place: which of the hints.
    """

    def __init__(self, width: int, hidden: int, heads: int, image: bool, place: int) -> None:
        super().__init__(width, hidden, heads, image)
        self.place = place

    def forward(self, x: Float[Tensor, "b n d"], stream: WanStream) -> Float[Tensor, "b n d"]:
        return super().forward(x, stream) + stream.hints[self.place]
