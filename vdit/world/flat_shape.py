"""The outlines of the flat world: signed distances to shapes of equal area.

Every outline has the area of the unit disc, so the size of an object does not depend on its shape.
Coordinates are in radii of that disc, x to the right and y down, the centroid at the origin.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["EXTENTS", "SHAPES", "signed_distance"]

SHAPES = ("circle", "square", "triangle", "cross")

_SQUARE = math.sqrt(math.pi) / 2
_INRADIUS = math.sqrt(math.pi / (3 * math.sqrt(3)))
_ARM = 0.36
_REACH = math.sqrt(math.pi / (8 * _ARM - 4 * _ARM**2))

# How far each outline reaches to the left and right, up, and down.
EXTENTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "circle": (1.0, 1.0, 1.0),
        "square": (_SQUARE, _SQUARE, _SQUARE),
        "triangle": (math.sqrt(3) * _INRADIUS, 2 * _INRADIUS, _INRADIUS),
        "cross": (_REACH, _REACH, _REACH),
    }
)


def _box(x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    dx, dy = x.abs() - half_width, y.abs() - half_height
    outside = torch.hypot(dx.clamp(min=0), dy.clamp(min=0))
    return outside + torch.maximum(dx, dy).clamp(max=0)


def signed_distance(shape: str, x: Float[Tensor, "*#n"], y: Float[Tensor, "*#n"]) -> Float[Tensor, "*n"]:
    """Distance to the outline of `shape`, negative inside; exact near edges, a lower bound beyond corners."""
    if shape == "circle":
        return torch.hypot(x, y) - 1
    if shape == "square":
        return _box(x, y, _SQUARE, _SQUARE)
    if shape == "triangle":
        sides = math.sqrt(0.75) * x.abs() - 0.5 * y
        return torch.maximum(sides, y.expand_as(sides)) - _INRADIUS
    return torch.minimum(_box(x, y, _REACH, _ARM * _REACH), _box(x, y, _ARM * _REACH, _REACH))
