"""How pixels enter a network as channels, square by square, and leave it."""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.types import InputError

__all__ = ["Squares"]


class Squares(nn.Module):
    """Squares of pixels as channels and back, without loss; each colour and each square for itself.

    Args:
        side: pixels of one side of a square.
        basis: `pixels`, one channel a pixel (space-to-depth); or `haar`, one channel for each wavelet of the
            full Haar tree (Coifman & Wickerhauser 1992): the mean of the square first, then ever finer
            differences. Both span the same, so a network can do with either what it can do with the other;
            what differs is where training starts and what a weight of some size means.

    Raises:
        InputError: a side below 1, or one that is no power of 2 with `haar`.
    """

    def __init__(self, side: int, basis: Literal["pixels", "haar"] = "pixels") -> None:
        super().__init__()
        if side < 1:
            raise InputError(f"patch is {side}, but must be at least 1")
        self.side = side
        self.channels = 3 * side**2
        self.register_buffer("waves", None if basis == "pixels" else waves(side), persistent=False)
        self.waves: Tensor | None

    def to_channels(self, pixels: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h_square w_square"]:
        """Pixels as channels."""
        x = rearrange(pixels, "b c t (h ph) (w pw) -> b c (ph pw) t h w", ph=self.side, pw=self.side)
        if self.waves is not None:
            x = torch.einsum("kp, b c p t h w -> b c k t h w", self.waves.to(x.dtype), x)
        return rearrange(x, "b c k t h w -> b (c k) t h w")

    def to_pixels(self, x: Float[Tensor, "b c t h_square w_square"]) -> Float[Tensor, "b 3 t h w"]:
        """Undo `to_channels`."""
        x = rearrange(x, "b (c k) t h w -> b c k t h w", c=3)
        if self.waves is not None:
            x = torch.einsum("kp, b c k t h w -> b c p t h w", self.waves.to(x.dtype), x)
        return rearrange(x, "b c (ph pw) t h w -> b c t (h ph) (w pw)", ph=self.side, pw=self.side)


def waves(side: int) -> Float[Tensor, "wave pixel"]:
    """The Haar wavelets of a square: rows of length 1, at right angles to each other.

    Raises:
        InputError: `side` is no power of 2.
    """
    if side & (side - 1):
        raise InputError(f"patch is {side}, but must be a power of 2 for the basis haar")
    line = torch.ones(1, 1)
    step = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5
    while len(line) < side:
        line = torch.kron(step, line)
    return torch.kron(line, line)
