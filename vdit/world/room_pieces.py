"""Pieces of one colour in frames of the room, and how alike two of them are."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from vdit.world.words import COLOURS

__all__ = ["Patch", "closed", "colour_classes", "cut", "likeness", "regions"]

_SATURATION = 0.40  # the walls stay below 0.33, a shaded thing above 0.6
_CHROMA = 0.10  # of a black pixel saturation is chance
_PATCH = 24  # cells a side


@dataclass(frozen=True)
class Patch:
    """A region stretched to a square.

    Attributes:
        layers: share of each cell that each colour of the region covers.
        aspect: logarithm of the region's width over its height.
        whole: whether the region keeps off the edges of the frame.
    """

    layers: Float[Tensor, "layer 24 24"]
    aspect: float
    whole: bool


def colour_classes(frames: Float[Tensor, "t 3 h w"]) -> Int64[Tensor, "t h w"]:
    """0 where a pixel in [-1, 1] is muted, i + 1 where its hue is nearest to the i-th of `COLOURS`."""
    light = (frames + 1) / 2
    brightest, darkest = light.amax(1), light.amin(1)
    chroma = brightest - darkest
    coloured = (chroma > _SATURATION * brightest) & (chroma > _CHROMA)
    # Grey mixed in by blur changes neither what is left without the darkest channel nor its direction.
    hue = functional.normalize(light - darkest[:, None], dim=1)
    names = torch.tensor(list(COLOURS.values()))
    names = functional.normalize(names - names.amin(1, keepdim=True), dim=1)
    return (torch.einsum("t c h w, k c -> t k h w", hue, names).argmax(1) + 1) * coloured


def regions(mask: Bool[Tensor, "h w"], least: int) -> list[Bool[Tensor, "h w"]]:
    """Connected regions (neighbours also diagonally) of at least `least` pixels, the largest first.

    Rims are left out: a region must hold a block of 3 × 3 pixels, and more than one.
    """
    height, width = mask.shape
    labels = (torch.arange(height * width).view(height, width) + 1.0) * mask
    while True:
        grown = functional.max_pool2d(labels[None, None], 3, stride=1, padding=1)[0, 0] * mask
        if torch.equal(grown, labels):
            break
        labels = grown
    core = -functional.max_pool2d(-mask[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    numbers, sizes = labels[mask].unique(return_counts=True)
    found = [labels == numbers[i] for i in sizes.argsort(descending=True, stable=True) if sizes[i] >= least]
    return [region for region in found if (region & core).sum() > 1]


def closed(mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """The mask with gaps of up to four pixels filled."""
    # A margin, so that nothing grows towards the edge of the frame.
    room = functional.pad(mask[None, None].float(), (2, 2, 2, 2))
    spread = functional.max_pool2d(room, 5, stride=1, padding=2)
    return -functional.max_pool2d(-spread, 5, stride=1)[0, 0] > 0


def cut(layers: Bool[Tensor, "layer h w"]) -> Patch:
    """The smallest upright box around some layers, which must not all be empty, as a patch."""
    mask = layers.any(0)
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    box = layers[None, :, top:bottom, left:right].float()
    square = functional.interpolate(box, size=(_PATCH, _PATCH), mode="bilinear", antialias=True)[0]
    whole = top > 0 and left > 0 and bottom < mask.shape[0] and right < mask.shape[1]
    return Patch(square, math.log((right - left) / (bottom - top)), whole)


def likeness(one: Patch, other: Patch) -> float:
    """Overlap of two patches, averaged over their layers, in [0, 1]; less where their aspects differ."""
    both = torch.minimum(one.layers, other.layers).sum((1, 2))
    either = torch.maximum(one.layers, other.layers).sum((1, 2))
    overlap = (both / either.clamp(min=1e-6)).mean()
    return float(overlap) * math.exp(-abs(one.aspect - other.aspect))
