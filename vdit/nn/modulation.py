"""adaLN: diffusion time shifts, scales and gates every block."""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

__all__ = ["Modulation", "Triple", "modulate"]


class Triple(NamedTuple):
    """What one half of a block needs: `x + gate * f(norm(x) * (1 + scale) + shift)`."""

    shift: Float[Tensor, "b #n d"]
    scale: Float[Tensor, "b #n d"]
    gate: Float[Tensor, "b #n d"]


class Modulation(nn.Module):
    """`parts` triples of shift, scale and gate from the vector of diffusion time.

    Starts at zero, so that a block starts as the identity (adaLN-Zero, Peebles & Xie 2023, sec. 3.2).
    The vector has one row a clip, or one a token where sigma differs from token to token.

    Few rows may serve many tokens: `row` says which is whose, `n` of `r`.

    Shapes: `b r d` -> `parts` triples of `b r d`, or of `b n d` with `row`.
    """

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(width, parts * 3 * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, vector: Float[Tensor, "b r d"], row: Int64[Tensor, "n"] | None = None) -> list[Triple]:
        out = self.linear(torch.nn.functional.silu(vector))
        if row is not None:
            out = out[:, row]
        split = rearrange(out, "b n (parts three d) -> parts three b n d", parts=self.parts, three=3)
        return [Triple(*part) for part in split]


def modulate(x: Float[Tensor, "b n d"], triple: Triple) -> Float[Tensor, "b n d"]:
    """x * (1 + scale) + shift."""
    return torch.addcmul(triple.shift, x, 1 + triple.scale)
