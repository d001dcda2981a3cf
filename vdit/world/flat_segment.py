"""Finds the coloured things in a clip of the flat world, each as a soft mask, without knowing the scene."""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from vdit.world.words import COLOURS

__all__ = ["LEAST_AREA", "Segment", "find_segments"]

LEAST_AREA = 0.006  # of the frame, about a quarter of the smallest object
_FRONT = 0.2  # least distance from the background of a pixel in front of it
_LIKE = 0.2  # greatest distance of a pixel from the mixtures of a colour and the background
_OFF_PALETTE = 0.38
_MOST_SEGMENTS = 5


@dataclass(frozen=True)
class Segment:
    """All that has one colour.

    Attributes:
        colour: a name in `COLOURS`, or "unclear".
        masks: how much of each pixel of its largest part is covered, in [0, 1].
        parts: into how many separate parts of like size it falls, in the median frame.
    """

    colour: str
    masks: Float[Tensor, "t h w"]
    parts: int


def _palette_distances(pixels: Float[Tensor, "3 *n"]) -> Float[Tensor, "k *n"]:
    palette = torch.tensor(list(COLOURS.values()))
    # |p - c|² = |p|² - 2 p·c + |c|²: one product instead of a difference a colour.
    square = (pixels**2).sum(0) - 2 * einsum(palette, pixels, "k c, c ... -> k ...")
    return (
        (square + reduce(palette**2, "k c -> k", "sum").view(-1, *[1] * (pixels.ndim - 1)))
        .clamp(min=0)
        .sqrt()
    )


def _length(vectors: Float[Tensor, "3 *n"]) -> Float[Tensor, "*n"]:
    return (vectors**2).sum(0).sqrt()


def _unmix(
    difference: Float[Tensor, "3 t h w"], colour: Float[Tensor, "3"], background: Float[Tensor, "3 h w"]
) -> tuple[Float[Tensor, "t h w"], Float[Tensor, "t h w"]]:
    """How much of each pixel is `colour` rather than background, and how far it is from any such mixture."""
    line = rearrange(colour, "c -> c 1 1 1") - rearrange(background, "c h w -> c 1 h w")
    share = ((difference * line).sum(0) / line.square().sum(0).clamp(min=1e-4)).clamp(0, 1)
    return share, _length(difference - share * line)


def _label(solid: Bool[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
    """Connected parts of each frame: 0 outside, else the greatest index, from 1, of a pixel in the part."""
    _, height, width = solid.shape
    labels = rearrange(torch.arange(1.0, height * width + 1), "(h w) -> 1 h w", h=height) * solid
    while True:
        spread = functional.max_pool2d(labels[:, None], 3, stride=1, padding=1)[:, 0] * solid
        if torch.equal(spread, labels):
            return labels
        labels = spread


def _largest_parts(solid: Bool[Tensor, "t h w"]) -> tuple[Bool[Tensor, "t h w"], int]:
    """The largest part in every frame, and the median number of parts of like size."""
    labels = _label(solid)
    largest = torch.zeros_like(solid)
    counts = []
    for frame, marks in enumerate(labels):
        names, areas = marks[marks > 0].unique(return_counts=True)
        if len(names):
            largest[frame] = marks == names[areas.argmax()]
            bound = max(0.25 * float(areas.max()), LEAST_AREA * marks.numel())
            counts.append(int((areas >= bound).sum()))
        else:
            counts.append(0)
    return largest, sorted(counts)[len(counts) // 2]


def _dominant_colours(
    pixels: Float[Tensor, "3 t h w"], background: Float[Tensor, "3 h w"]
) -> list[tuple[str, Float[Tensor, "3"]]]:
    """Colours in front of the background, the most frequent first, with their values as the clip shows them.

    Each is peeled off with everything that is a mixture of it and the background, so that a blurred rim is
    not taken for a colour of its own.
    """
    difference = pixels - background[:, None]
    distances = _length(difference)
    rest = distances > _FRONT
    kinds = _palette_distances(pixels).argmin(0)
    found: list[tuple[str, Float[Tensor, "3"]]] = []
    while len(found) < _MOST_SEGMENTS and rest.float().mean() > LEAST_AREA:
        kind = int(torch.bincount(kinds[rest], minlength=len(COLOURS)).argmax())
        members = rest & (kinds == kind)
        distance = distances[members]
        value = pixels[:, members][:, distance >= distance.median()].median(dim=1).values
        off = float(_palette_distances(value)[kind])
        found.append((tuple(COLOURS)[kind] if off < _OFF_PALETTE else "unclear", value))
        _, residual = _unmix(difference, value, background)
        rest &= (residual > _LIKE) & ~members
    return found


def find_segments(pixels: Float[Tensor, "3 t h w"], background: Float[Tensor, "3 h w"]) -> list[Segment]:
    """The coloured things in a clip in [0, 1] before a fitted background, the largest first."""
    colours = _dominant_colours(pixels, background)
    if not colours:
        return []
    difference = pixels - background[:, None]
    unmixed = [_unmix(difference, value, background) for _, value in colours]
    nearest = torch.stack([residual for _, residual in unmixed]).argmin(0)
    segments = []
    for index, (name, _) in enumerate(colours):
        share, residual = unmixed[index]
        # Steeper than the share itself, which noise alone would lift above zero everywhere.
        cover = ((share - 0.2) / 0.6).clamp(0, 1) * (nearest == index) * (residual < 2 * _LIKE)
        largest, parts = _largest_parts(cover > 0.5)
        around = functional.max_pool2d(largest[:, None].float(), 3, stride=1, padding=1)[:, 0]
        masks = cover * around
        if reduce(masks, "t h w -> t", "mean").median() > LEAST_AREA:
            segments.append(Segment(name, masks, parts))
    return segments
