"""What there is in a flat world: shapes that move on a plain or graded background, drawn by lot."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from vdit.world.flat_shape import EXTENTS, SHAPES
from vdit.world.words import COLOURS, RGB

__all__ = [
    "BACKGROUNDS",
    "CROWDING",
    "GRADES",
    "MOTIONS",
    "SIDES",
    "SIZES",
    "TRAVEL",
    "Background",
    "FlatObject",
    "FlatScene",
    "draw_scene",
    "is_held_out",
    "path",
]

MOTIONS = ("left", "right", "up", "down", "grow", "shrink", "loop", "still")
SIDES = ("left", "right", "top", "bottom")

# Diameter of the disc of equal area, as a share of the frame's shorter side, half-way through the clip.
SIZES: Mapping[str, float] = MappingProxyType({"small": 0.28, "large": 0.44})
# By how much everything shrinks to leave room for two or three objects.
CROWDING: Mapping[int, float] = MappingProxyType({1: 1.0, 2: 0.8, 3: 0.64})

BACKGROUNDS: Mapping[str, RGB] = MappingProxyType(
    {
        "black": (0.03, 0.03, 0.03),
        "navy": (0.07, 0.10, 0.32),
        "dark grey": (0.33, 0.33, 0.33),
        "light grey": (0.70, 0.70, 0.70),
        "beige": (0.93, 0.85, 0.66),
        "white": (1.0, 1.0, 1.0),
    }
)
# Pairs far enough apart to be seen as a gradient.
GRADES = tuple(
    pair
    for pair in combinations(BACKGROUNDS, 2)
    if np.linalg.norm(np.subtract(BACKGROUNDS[pair[0]], BACKGROUNDS[pair[1]])) > 0.5
)

# Length of a straight path as a share of the frame, by the number of objects.
TRAVEL: Mapping[int, float] = MappingProxyType({1: 0.38, 2: 0.34, 3: 0.31})

_LOOP = 0.45  # radius of a loop, as a share of the travel
_GROWTH = 2.0
_JITTER = 0.05


@dataclass(frozen=True)
class FlatObject:
    """One shape and its motion.

    Attributes:
        colour: a name in `COLOURS`.
        shape: a name in `SHAPES`.
        size: a name in `SIZES`.
        motion: a name in `MOTIONS`.
        diameter: of the disc of equal area half-way through the clip; the frame's shorter side is 1.
        centre: middle of the path, x to the right and y down; the frame is 1 wide and 1 high.
        travel: length of a straight path, and the measure of a loop, in the same unit.
        phase: where on its circle a loop starts, in radians, clockwise from the right.
        clockwise: which way round a loop goes.
    """

    colour: str
    shape: str
    size: str
    motion: str
    diameter: float
    centre: tuple[float, float]
    travel: float
    phase: float = 0.0
    clockwise: bool = True


@dataclass(frozen=True)
class Background:
    """A plain background, or one graded in a straight line from one side of the frame to the other.

    Attributes:
        colour: a name in `BACKGROUNDS`, the colour on `side`.
        other: the colour on the opposite side; None for a plain background.
        side: a name in `SIDES`; without meaning when plain.
    """

    colour: str
    other: str | None = None
    side: str = "left"


@dataclass(frozen=True)
class FlatScene:
    """One to three objects, later ones in front of earlier ones, and what is behind them."""

    objects: tuple[FlatObject, ...]
    background: Background


def is_held_out(colour: str, shape: str, motion: str) -> bool:
    """Whether training never shows this triple: one in eight, while every pair of its words is shown."""
    place = tuple(COLOURS).index(colour) + 3 * SHAPES.index(shape) + MOTIONS.index(motion)
    return place % len(COLOURS) == 0


_TRIPLES = {
    held_out: [triple for triple in product(COLOURS, SHAPES, MOTIONS) if is_held_out(*triple) == held_out]
    for held_out in (False, True)
}


def path(thing: FlatObject, progress: Float64[ndarray, "t"]) -> Float64[ndarray, "3 t"]:
    """Centre x, centre y and diameter of an object where `progress` runs from 0 to 1 over the clip."""
    x, y, diameter = thing.centre[0], thing.centre[1], thing.diameter
    zero = np.zeros_like(progress)
    along = thing.travel * (progress - 0.5)
    if thing.motion in ("left", "right"):
        x = x + (along if thing.motion == "right" else -along)
    elif thing.motion in ("up", "down"):
        y = y + (along if thing.motion == "down" else -along)
    elif thing.motion in ("grow", "shrink"):
        diameter = diameter * _GROWTH ** ((progress - 0.5) * (1 if thing.motion == "grow" else -1))
    elif thing.motion == "loop":
        angle = thing.phase + 2 * np.pi * progress * (1 if thing.clockwise else -1)
        x = x + _LOOP * thing.travel * np.cos(angle)
        y = y + _LOOP * thing.travel * np.sin(angle)
    return np.stack([x + zero, y + zero, diameter + zero])


def _objects(rng: np.random.Generator, count: int, held_out: bool) -> list[FlatObject]:
    """Objects of different colours, all in the middle of the frame."""
    things: list[FlatObject] = []
    while len(things) < count:
        triples = _TRIPLES[held_out and not things]
        colour, shape, motion = triples[rng.integers(len(triples))]
        size = tuple(SIZES)[rng.integers(len(SIZES))]
        room, jitter, phase = CROWDING[count], rng.uniform(-_JITTER, _JITTER, 2), rng.uniform(0, 2 * np.pi)
        clockwise = bool(rng.integers(2))
        if any(colour == thing.colour for thing in things):
            continue
        things.append(
            FlatObject(
                colour=colour,
                shape=shape,
                size=size,
                motion=motion,
                diameter=float(SIZES[size] * room * (1 + jitter[0])),
                centre=(0.5, 0.5),
                travel=float(TRAVEL[count] * (1 + jitter[1])),
                phase=float(phase),
                clockwise=clockwise,
            )
        )
    return things


def _place(rng: np.random.Generator, things: list[FlatObject]) -> list[FlatObject] | None:
    """The objects at random places, whole in the frame and apart throughout; None where none were found."""
    progress = np.linspace(0, 1, 9)
    paths = np.stack([path(thing, progress) for thing in things])  # object, (x y diameter), moment
    radii = paths[:, 2] / 2
    extents = np.array([EXTENTS[thing.shape] for thing in things])
    left = (radii * extents[:, :1] - (paths[:, 0] - 0.5)).max(1)
    right = 1 - (radii * extents[:, :1] + (paths[:, 0] - 0.5)).max(1)
    top = (radii * extents[:, 1:2] - (paths[:, 1] - 0.5)).max(1)
    bottom = 1 - (radii * extents[:, 2:] + (paths[:, 1] - 0.5)).max(1)
    low, high = np.stack([left, top], 1), np.stack([right, bottom], 1)  # object, (x y)
    tries = 1 if len(things) == 1 else 128
    centres = rng.uniform(low, np.maximum(low, high), size=(tries, *low.shape))
    apart = np.ones(tries, dtype=bool)
    for i, j in combinations(range(len(things)), 2):
        offset = centres[:, i, :, None] - centres[:, j, :, None] + paths[i, :2] - paths[j, :2]
        reach = radii[i] * extents[i].mean() + radii[j] * extents[j].mean()
        apart &= (np.hypot(offset[:, 0], offset[:, 1]) > reach).all(1)
    if not apart.any():
        return None
    chosen = centres[int(apart.argmax())]
    return [replace(thing, centre=(float(x), float(y))) for thing, (x, y) in zip(things, chosen, strict=True)]


def draw_scene(
    rng: np.random.Generator, objects: tuple[int, int], graded: float, held_out: bool
) -> FlatScene:
    """A scene at random.

    Args:
        rng: where the randomness comes from.
        objects: least and greatest number of objects.
        graded: share of scenes on a graded background.
        held_out: whether the first object shows a held-out triple; no other object ever does.
    """
    count = int(rng.integers(objects[0], objects[1] + 1))
    if rng.random() < graded:
        first, second = GRADES[rng.integers(len(GRADES))]
        if rng.integers(2):
            first, second = second, first
        background = Background(first, second, SIDES[rng.integers(len(SIDES))])
    else:
        background = Background(tuple(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))])
    placed = None
    while placed is None:
        placed = _place(rng, _objects(rng, count, held_out))
    return FlatScene(tuple(placed), background)
