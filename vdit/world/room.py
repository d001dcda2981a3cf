"""The `room` level: coloured primitives and named characters in a textured room, under a moving camera."""

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float

from vdit.camera.moves import MOVES, CameraMove
from vdit.world.characters import CHARACTERS
from vdit.world.level import Captions, Level, Rendering, Verdict
from vdit.world.raycast import cast
from vdit.world.room_draw import Choice, draw_scene
from vdit.world.room_judge import judge_scene
from vdit.world.room_scene import LIGHTS, TEXTURES, Guest, RoomScene
from vdit.world.room_words import caption_scene

__all__ = ["Room"]

# To be raised with every change to what a seed draws: scenes, pixels or captions.
_VERSION = 1


class Room(Level[RoomScene]):
    """Coloured primitives and named characters in a textured room, under a camera that makes one move.

    Args:
        objects: least and greatest number of objects, from 1 to 3.
        guests: share of the scenes of one or two objects that have a named character besides.
        characters: who may be the guest; all by default.
        moves: words of `vdit.camera.moves.MOVES`; all by default.

    Raises:
        InputError: if any is out of range or unknown.
    """

    name: ClassVar[str] = "room"
    attributes: ClassVar[tuple[str, ...]] = ("colour", "shape", "count", "character", "camera")

    def __init__(
        self,
        objects: tuple[int, int] = (1, 2),
        guests: float = 0.35,
        characters: Sequence[str] = tuple(CHARACTERS),
        moves: Sequence[str] = tuple(MOVES),
    ):
        least, most = objects
        self._choice = Choice((least, most), float(guests), tuple(characters), tuple(moves))

    @property
    def fingerprint(self) -> str:
        """Changes whenever any scene, pixel or caption drawn from the same seed could change."""
        return hashlib.sha256(repr((self.name, _VERSION, self._choice)).encode()).hexdigest()[:16]

    def scene(self, rng: np.random.Generator, held_out: bool) -> RoomScene:
        """A scene at random; held out are one in eight triples of colour, shape and camera move."""
        return draw_scene(rng, held_out, self._choice)

    def render(self, scene: RoomScene, frames: int, height: int, width: int) -> Rendering:
        """The scene as a clip with exact masks, flow, depth and cameras."""
        return cast(scene, frames, height, width)

    def portrait(self, scene: RoomScene, height: int, width: int) -> Float[torch.Tensor, "3 h w"] | None:
        """The guest alone, between other walls, in other light, turned the other way; None without one."""
        if scene.guest is None:
            return None
        other = TEXTURES[(TEXTURES.index(scene.walls) + 3) % len(TEXTURES)]
        lights = list(LIGHTS)
        light = lights[(lights.index(scene.light) + 1) % len(lights)]
        guest = Guest(scene.guest.name, "still", (0.0, 2.6), -scene.guest.yaw)
        still = CameraMove("static", 0.0)
        alone = RoomScene(other, other, scene.variant, scene.tint, light, (), guest, still)
        return cast(alone, 1, height, width).pixels[:, 0]

    def describe(self, scene: RoomScene) -> Captions:
        """The scene in words."""
        return caption_scene(scene)

    def judge(self, pixels: Float[torch.Tensor, "3 t h w"], scene: RoomScene) -> Verdict:
        """Whether a clip shows the scene's colours, shapes, count, character and camera move.

        Raises:
            InputError: if the clip has fewer than two frames.
        """
        return judge_scene(pixels, scene)
