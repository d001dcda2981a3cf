"""A white-box judge of the flat world: it looks first, and compares with what was asked only then."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vdit.world.flat_backdrop import fit_backdrop
from vdit.world.flat_caption import background_words
from vdit.world.flat_scene import CROWDING, SIZES, TRAVEL, FlatScene
from vdit.world.flat_segment import find_segments
from vdit.world.flat_sight import Sight, look
from vdit.world.level import Verdict
from vdit.world.words import number

__all__ = ["judge_clip"]

_MOST_PIXELS = 96  # shorter side beyond which more pixels tell nothing more
_BOUND = math.sqrt(SIZES["small"] * SIZES["large"])
_SIZE_RANGE = (SIZES["small"] * 0.65, SIZES["large"] * 1.4)


def _size(diameter: float, room: float) -> str:
    diameter /= room
    if diameter < _SIZE_RANGE[0]:
        return "tiny"
    if diameter > _SIZE_RANGE[1]:
        return "huge"
    return "small" if diameter < _BOUND else "large"


def _shrink(pixels: Float[Tensor, "3 t h w"]) -> Float[Tensor, "3 t h w"]:
    """The clip in [0, 1], at most 96 pixels on the shorter side; what is not a number becomes grey."""
    pixels = (pixels.detach().float().cpu().nan_to_num(0).clamp(-1, 1) + 1) / 2
    height, width = pixels.shape[-2:]
    factor = _MOST_PIXELS / min(height, width)
    if factor >= 1:
        return pixels
    return functional.interpolate(pixels, size=(round(height * factor), round(width * factor)), mode="area")


def _match(sights: list[Sight], scene: FlatScene) -> list[Sight | None]:
    """For each object asked for, what is seen of it: first by colour, then the nearest of what is left.

    Only as many of the largest count as were asked for, or a jumble of all colours would please everyone.
    """
    left = sights[: len(scene.objects)]
    matches: list[Sight | None] = [None] * len(scene.objects)
    for index, thing in enumerate(scene.objects):
        same = [sight for sight in left if sight.colour == thing.colour]
        if same:
            matches[index] = same[0]
            left.remove(same[0])
    for index, thing in enumerate(scene.objects):
        if matches[index] is None and left:
            nearest = min(left, key=lambda sight: math.dist(sight.centre, thing.centre))
            matches[index] = nearest
            left.remove(nearest)
    return matches


@torch.no_grad()
def judge_clip(pixels: Float[Tensor, "3 t h w"], scene: FlatScene) -> Verdict:
    """Which attributes of `scene` a clip shows; one attribute is right only if it is for every object."""
    clip = _shrink(pixels)
    backdrop = fit_backdrop(clip)
    room = CROWDING[len(scene.objects)]
    looks = [look(segment, TRAVEL[len(scene.objects)]) for segment in find_segments(clip, backdrop.colours)]
    sights = [sight for sight in looks if sight is not None]
    matches = _match(sights, scene)
    count = sum(sight.parts for sight in sights)
    asked = {
        "colour": [thing.colour for thing in scene.objects],
        "shape": [thing.shape for thing in scene.objects],
        "size": [thing.size for thing in scene.objects],
        "motion": [thing.motion for thing in scene.objects],
        "background": [background_words(scene.background)],
        "count": [number(len(scene.objects))],
    }
    seen = {
        "colour": ["nothing" if sight is None else sight.colour for sight in matches],
        "shape": ["nothing" if sight is None else sight.shape for sight in matches],
        "size": ["nothing" if sight is None else _size(sight.diameter, room) for sight in matches],
        "motion": ["nothing" if sight is None else sight.motion for sight in matches],
        "background": [backdrop.words],
        "count": [number(count)],
    }
    return Verdict(
        right={name: asked[name] == seen[name] for name in asked},
        seen={name: ", ".join(words) for name, words in seen.items()},
    )
