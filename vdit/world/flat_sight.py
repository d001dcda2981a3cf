"""What a coloured thing in a clip of the flat world is and does: shape, size and motion, from its masks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from vdit.world.flat_scene import MOTIONS, FlatObject, path
from vdit.world.flat_segment import LEAST_AREA, Segment
from vdit.world.flat_shape import SHAPES, signed_distance

__all__ = ["Sight", "look"]

_GRID = 41
_SPAN = 2.1  # half the side of the patch around an object, in radii of the disc of equal area
_BLURS = (0.06, 0.15, 0.25, 0.35)  # in the same radii
_SCALES = (0.92, 1.0, 1.08)
_PRESENT = 0.75  # least share of the frames a thing must be seen in
_OBJECT = 0.5  # least overlap with some shape of a thing that is an object at all
_SHAPE = 0.75  # least overlap with a shape that is said to be seen
_TRACK = 0.07  # greatest deviation from a motion that is said to be seen, in frames
_AMPLITUDE = (0.6, 1.5)  # of the usual extent of a motion
_GROWTH_WEIGHT = 0.5  # makes growing by the usual factor as long a way as moving by the usual distance


@dataclass(frozen=True)
class Sight:
    """One object as a judge sees it.

    Attributes:
        colour: a name in `COLOURS`, or "unclear".
        shape: a name in `SHAPES`, or "unclear".
        motion: a name in `MOTIONS`, or "unclear".
        diameter: of the disc of equal area half-way through the clip, in shorter sides of the frame.
        centre: mean place in the frame, which is 1 wide and 1 high.
        parts: how many separate things of this colour there are.
    """

    colour: str
    shape: str
    motion: str
    diameter: float
    centre: tuple[float, float]
    parts: int


@lru_cache(maxsize=1)
def _templates() -> Float[Tensor, "shapes variants y x"]:
    """Every shape at unit area on the patch, at several blurs and scales."""
    axis = torch.linspace(-_SPAN, _SPAN, _GRID)
    step = float(axis[1] - axis[0])
    x, y = rearrange(axis, "x -> 1 x"), rearrange(axis, "y -> y 1")
    reach = torch.arange(-12, 13) * step
    variants = []
    for blur in _BLURS:
        kernel = torch.exp(-0.5 * (reach / blur) ** 2)
        kernel = kernel / kernel.sum()
        for scale in _SCALES:
            distance = torch.stack([scale * signed_distance(shape, x / scale, y / scale) for shape in SHAPES])
            cover = (0.5 - distance / step).clamp(0, 1)[:, None]
            cover = functional.conv2d(cover, kernel[None, None, None, :], padding=(0, 12))
            cover = functional.conv2d(cover, kernel[None, None, :, None], padding=(12, 0))
            variants.append(((cover - 0.2) / 0.6).clamp(0, 1))
    return rearrange(torch.stack(variants), "variants shapes 1 y x -> shapes variants y x")


def _shape(
    masks: Float[Tensor, "t h w"], centres: Float[Tensor, "t 2"], radii: Float[Tensor, "t"]
) -> tuple[str, float]:
    """The shape that overlaps best with all frames laid over one another, and by how much (0 to 1).

    Centres and radii are in pixels. Frames differ by fractions of a pixel, so that their median is sharper
    than any one of them.
    """
    height, width = masks.shape[-2:]
    axis = torch.linspace(-_SPAN, _SPAN, _GRID)
    places = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    pixels = rearrange(centres, "t xy -> t 1 1 xy") + rearrange(radii, "t -> t 1 1 1") * places
    patches = functional.grid_sample(
        masks[:, None], 2 * pixels / torch.tensor([width, height]) - 1, align_corners=False
    )
    outline = patches[:, 0].median(dim=0).values
    templates = _templates()
    shared = reduce(torch.minimum(templates, outline), "shapes variants y x -> shapes variants", "sum")
    joint = reduce(torch.maximum(templates, outline), "shapes variants y x -> shapes variants", "sum")
    best = reduce(shared / joint, "shapes variants -> shapes", "max")
    return SHAPES[int(best.argmax())], float(best.max())


def _deviation(track: np.ndarray, template: np.ndarray) -> float:
    """Root mean square distance from a template at its best amplitude, both without their means.

    A complex template may also be turned: a loop may start anywhere.
    """
    power = float((np.abs(template) ** 2).sum())
    factor = (template.conj() * track).sum() / power if power > 1e-9 else 0.0
    amplitude = float(np.clip(abs(factor), *_AMPLITUDE))
    turn = factor / abs(factor) if np.iscomplexobj(template) and abs(factor) > 0 else 1.0
    return float(np.sqrt((np.abs(track - amplitude * turn * template) ** 2).sum() / len(track)))


def _motion(track: Float[np.ndarray, "3 t"], progress: Float[np.ndarray, "t"], travel: float) -> str:
    """The motion nearest to a track of (x, y, logarithm of the diameter)."""
    seen = track - track.mean(axis=1, keepdims=True)
    seen[2] *= _GROWTH_WEIGHT
    deviations = {"still": float(np.sqrt((seen**2).sum() / len(progress)))}
    for motion in MOTIONS:
        if motion == "still":
            continue
        usual = path(FlatObject("", "", "", motion, 1.0, (0.0, 0.0), travel), progress)
        usual[2] = _GROWTH_WEIGHT * np.log(usual[2])
        usual -= usual.mean(axis=1, keepdims=True)
        if motion == "loop":
            circle = usual[0] + 1j * usual[1]
            plane = seen[0] + 1j * seen[1]
            around = min(_deviation(plane, circle), _deviation(plane, circle.conj()))
            deviations[motion] = float(np.hypot(around, np.sqrt((seen[2] ** 2).mean())))
        else:
            # Three numbers a moment, of which the mean counts moments.
            deviations[motion] = np.sqrt(3) * _deviation(seen.ravel(), usual.ravel())
    best = min(deviations, key=lambda motion: deviations[motion])
    return best if deviations[best] < _TRACK else "unclear"


def look(segment: Segment, travel: float) -> Sight | None:
    """What a segment is and does; None if it is no object at all.

    Args:
        segment: a colour with its masks.
        travel: the usual extent of a motion, as a share of the frame.
    """
    masks = segment.masks
    frames, height, width = masks.shape
    areas = reduce(masks, "t h w -> t", "sum")
    present: Bool[Tensor, "t"] = areas > LEAST_AREA / 2 * height * width
    if present.float().mean() < _PRESENT:
        return None
    masks, areas = masks[present], areas[present]
    x = (reduce(masks, "t h w -> t w", "sum") * (torch.arange(width) + 0.5)).sum(1) / areas
    y = (reduce(masks, "t h w -> t h", "sum") * (torch.arange(height) + 0.5)).sum(1) / areas
    radii = (areas / torch.pi).sqrt()
    shape, overlap = _shape(masks, torch.stack([x, y], dim=1), radii)
    if overlap < _OBJECT:
        return None
    diameters = 2 * radii / min(height, width)
    progress = np.linspace(0, 1, frames)[present.numpy()]
    track = torch.stack([x / width, y / height, diameters.log()]).double().numpy()
    # A line through the logarithms: frames in which nothing was seen do not shift the size half-way.
    halfway = np.polyfit(progress - 0.5, track[2], 1)[1] if len(progress) > 1 else track[2, 0]
    return Sight(
        colour=segment.colour,
        shape=shape if overlap > _SHAPE else "unclear",
        motion=_motion(track, progress, travel),
        diameter=float(np.exp(halfway)),
        centre=(float(track[0].mean()), float(track[1].mean())),
        parts=segment.parts,
    )
