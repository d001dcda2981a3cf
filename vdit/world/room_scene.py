"""A scene of the room: what is in it, and how things and camera move.

Places are metres in the axes of the first camera (x right, y down, z forward), which looks along the room.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from vdit.camera.moves import MOVES, CameraMove
from vdit.types import InputError
from vdit.world.characters import CHARACTERS
from vdit.world.words import COLOURS

__all__ = [
    "BOX",
    "FLOOR",
    "LIGHTS",
    "MOTIONS",
    "SHAPES",
    "SIZES",
    "TEXTURES",
    "VARIANTS",
    "Guest",
    "RoomObject",
    "RoomScene",
    "is_held_out",
    "track",
]

BOX = ((-2.6, 2.6), (-1.8, 1.2), (-1.6, 5.6))
"""The walls along x, y and z, the same for every scene: ceiling at y = -1.8, floor at y = 1.2."""

FLOOR = BOX[1][1]
TEXTURES = ("brick", "wooden", "tiled", "marble", "checkered", "striped", "stone")
VARIANTS = 3
LIGHTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {"left": (-2.2, -1.4, 1.5), "above": (0.5, -1.6, 2.0), "right": (2.2, -1.4, 1.5)}
)
SIZES: Mapping[str, float] = MappingProxyType({"small": 0.40, "large": 0.54})
"""Half of the width, in metres, that an object of each size has when seen from the front."""

SHAPES: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "sphere": (1.0, 1.0, 1.0),
        "cube": (0.78, 0.78, 0.78),
        "cylinder": (0.66, 1.08, 0.66),
        "cone": (0.92, 1.06, 0.92),
    }
)
"""Half extents along x, y and z at size 1; a cube is narrower, for its corner is turned forward."""

MOTIONS: Mapping[str, str] = MappingProxyType(
    {
        "still": "standing still",
        "left": "moving left",
        "right": "moving right",
        "up": "rising",
        "down": "sinking",
        "toward": "coming closer",
        "away": "moving away",
        "circle": "going in a circle",
        "bounce": "bouncing",
    }
)
_HELD_OUT_PERIOD = 8
_GUEST_REACH = 0.44  # radius on the floor that holds every character


@dataclass(frozen=True)
class RoomObject:
    """A coloured primitive.

    Attributes:
        place: where it stands in frame 0, x and z in metres; the motion starts here.
        yaw: turn about the vertical, in radians.
    """

    colour: str
    shape: str
    size: str
    motion: str
    place: tuple[float, float]
    yaw: float

    @property
    def reach(self) -> float:
        """Radius in metres of the floor that it covers."""
        return SIZES[self.size]


@dataclass(frozen=True)
class Guest:
    """A named character; `place` and `yaw` as of a `RoomObject`."""

    name: str
    motion: str
    place: tuple[float, float]
    yaw: float

    @property
    def reach(self) -> float:
        """Radius in metres of the floor that it covers."""
        return _GUEST_REACH


@dataclass(frozen=True)
class RoomScene:
    """Everything that decides the pixels of a room clip, apart from its size.

    Attributes:
        walls: a word of `TEXTURES`; with `variant` one image.
        floor: the same for the floor.
        variant: which of the images of a texture.
        tint: factors near 1 on the red and blue of the walls, for variety.
        light: a key of `LIGHTS`.
        objects: no two of one colour, and none in a colour of the guest's.
        guest: a character, or None.
    """

    walls: str
    floor: str
    variant: int
    tint: tuple[float, float]
    light: str
    objects: tuple[RoomObject, ...]
    guest: Guest | None
    camera: CameraMove

    def __post_init__(self) -> None:
        for what, word, known in self._words():
            if word not in known:
                raise InputError(f"{what} {word!r} is unknown in the room; choose one of {', '.join(known)}.")

    def _words(self) -> list[tuple[str, str, tuple[str, ...]]]:
        words = [
            ("wall texture", self.walls, TEXTURES),
            ("floor texture", self.floor, TEXTURES),
            ("light", self.light, tuple(LIGHTS)),
        ]
        words += [("motion", thing.motion, tuple(MOTIONS)) for thing in self.things]
        for item in self.objects:
            words += [
                ("colour", item.colour, tuple(COLOURS)),
                ("shape", item.shape, tuple(SHAPES)),
                ("size", item.size, tuple(SIZES)),
            ]
        if self.guest is not None:
            words.append(("character", self.guest.name, tuple(CHARACTERS)))
        return words

    @property
    def things(self) -> tuple[RoomObject | Guest, ...]:
        """Objects, then the guest: the order of the instance masks."""
        return self.objects if self.guest is None else (*self.objects, self.guest)

    @property
    def held_out(self) -> bool:
        """Whether any object's colour and shape are held out together with the camera's move."""
        return any(is_held_out(item.colour, item.shape, self.camera.word) for item in self.objects)


def is_held_out(colour: str, shape: str, move: str) -> bool:
    """Whether a triple is kept for testing: one in eight, every pair of its words being trained."""
    index = list(COLOURS).index(colour) + 3 * list(SHAPES).index(shape) + 5 * list(MOVES).index(move)
    return index % _HELD_OUT_PERIOD == 0


def track(motion: str, frames: int) -> Float[np.ndarray, "t 3"]:
    """The way of a thing from its place in metres (x right, y down, z away); the motion spans the frames."""
    done = np.linspace(0.0, 1.0, frames)
    still = np.zeros(frames)
    turn = 2 * math.pi * done
    match motion:
        case "left" | "right":
            way = (0.7 * done * (1 if motion == "right" else -1), still, still)
        case "up":
            way = (still, -0.7 * done, still)
        case "down":
            way = (still, -0.7 * (1 - done), still)
        case "toward" | "away":
            way = (still, still, 0.8 * done * (1 if motion == "away" else -1))
        case "circle":
            way = (0.35 * np.sin(turn), still, 0.35 * (1 - np.cos(turn)))
        case "bounce":
            way = (still, -0.5 * np.abs(np.sin(turn)), still)
        case _:
            way = (still, still, still)
    return np.stack(way, axis=1)
