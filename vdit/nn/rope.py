"""Rotary position embedding over frame, height and width."""

from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor

__all__ = ["Rotation", "axis_split", "grid_positions", "grid_rotation", "rotate", "rotation"]

Rotation = Complex[Tensor, "#b n d_half"]


def axis_split(head_width: int) -> tuple[int, int, int]:
    """How many channels of a head turn with the frame, the row and the column; each is even.

    Height and width get 2 * (d // 6) each, the frame what is left: the split of Wan.
    """
    space = 2 * (head_width // 6)
    return head_width - 2 * space, space, space


def grid_positions(t: int, h: int, w: int, device: torch.device) -> Float[Tensor, "1 n 3"]:
    """Frame, row and column of every token of a t x h x w grid, in the order (t h w)."""
    axes = [torch.arange(size, dtype=torch.float32, device=device) for size in (t, h, w)]
    return rearrange(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1), "t h w p -> 1 (t h w) p")


def rotation(positions: Float[Tensor, "#b n 3"], head_width: int, theta: float = 10_000.0) -> Rotation:
    """The unit complex numbers that turn channel pairs by an angle proportional to their position.

    Args:
        positions: frame, row and column of each token; fractions are allowed.
        head_width: channels of one head; must be even.
        theta: longest period, in positions, divided by 2 pi.

    Source: Su et al. 2021, eq. 15, one frequency ladder per axis.
    """
    angles = []
    for axis, channels in enumerate(axis_split(head_width)):
        ladder = torch.arange(0, channels, 2, dtype=torch.float32, device=positions.device) / channels
        angles.append(positions[..., axis, None] * theta**-ladder)
    angle = torch.cat(angles, dim=-1)
    return torch.polar(torch.ones_like(angle), angle)


@lru_cache(maxsize=16)
def grid_rotation(
    grid: tuple[int, int, int], head_width: int, device: torch.device, theta: float = 10_000.0
) -> Rotation:
    """`rotation` of `grid_positions`, built once for a grid: a run has few."""
    with torch.inference_mode(False):  # made while sampling, it must serve training too
        return rotation(grid_positions(*grid, device=device), head_width, theta)


def rotate(x: Float[Tensor, "b n heads d"], by: Rotation) -> Float[Tensor, "b n heads d"]:
    """Turn each pair of neighbouring channels of `x` by the rotation of its token."""
    b, n, heads, d = x.shape
    pairs = torch.view_as_complex(x.float().view(b, n, heads, d // 2, 2))
    turned = torch.view_as_real(pairs * by[:, :, None])  # b n heads d_half two
    return turned.flatten(3).to(x.dtype)
