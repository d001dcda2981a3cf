"""The flat level: one to three coloured shapes moving in the plane of the picture."""

import hashlib
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vdit.types import InputError
from vdit.world.flat_caption import describe_scene
from vdit.world.flat_judge import judge_clip
from vdit.world.flat_render import render_scene
from vdit.world.flat_scene import CROWDING, FlatScene, draw_scene
from vdit.world.level import Captions, Level, Rendering, Verdict

__all__ = ["Flat"]

# To be raised with every change to what a seed draws: scenes, pixels or captions.
_VERSION = 1


class Flat(Level[FlatScene]):
    """Shapes on a plain or graded background.

    Args:
        objects: least and greatest number of objects, from 1 to 3.
        graded: share of scenes on a graded background; the others are plain.

    Raises:
        InputError: if either is out of range.
    """

    name: ClassVar[str] = "flat"
    attributes: ClassVar[tuple[str, ...]] = ("colour", "shape", "size", "motion", "background", "count")

    def __init__(self, objects: tuple[int, int] = (1, 1), graded: float = 0.3):
        least, most = objects
        if not 1 <= least <= most <= max(CROWDING):
            raise InputError(
                f"objects is {least} to {most}, but must lie within 1 to {max(CROWDING)}: pick a range there."
            )
        if not 0 <= graded <= 1:
            raise InputError(f"graded is {graded}, but is a share: choose it between 0 and 1.")
        self._objects = (least, most)
        self._graded = graded

    @property
    def fingerprint(self) -> str:
        """Changes whenever any scene, pixel or caption drawn from the same seed could change."""
        parts = (self.name, _VERSION, self._objects, float(self._graded))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def scene(self, rng: np.random.Generator, held_out: bool) -> FlatScene:
        """A scene at random; held-out scenes are those whose first object is of a held-out triple."""
        return draw_scene(rng, self._objects, self._graded, held_out)

    def render(self, scene: FlatScene, frames: int, height: int, width: int) -> Rendering:
        """The scene as a clip. The motion spans the clip, however many frames it has."""
        return render_scene(scene, frames, height, width)

    def describe(self, scene: FlatScene) -> Captions:
        """The scene in words."""
        return describe_scene(scene)

    def judge(self, pixels: Float[Tensor, "3 t h w"], scene: FlatScene) -> Verdict:
        """Whether a clip shows the scene, as a reader of the short caption would ask."""
        return judge_clip(pixels, scene)
