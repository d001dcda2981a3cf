"""Scenes of the room at random, from the held-out combinations of words or from all the others."""

import math
from dataclasses import dataclass

import numpy as np

from vdit.camera.moves import MOVES, CameraMove
from vdit.types import InputError
from vdit.world.characters import CHARACTERS
from vdit.world.room_scene import (
    LIGHTS,
    MOTIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    VARIANTS,
    Guest,
    RoomObject,
    RoomScene,
    track,
)
from vdit.world.words import COLOURS

__all__ = ["Choice", "draw_scene"]

_CROWD = 3  # more things would hide one another


@dataclass(frozen=True)
class Choice:
    """What scenes are drawn from.

    Attributes:
        objects: least and greatest number of objects, from 1 to 3.
        guests: share of the scenes of one or two objects that have a guest besides.
        characters: who may be the guest.
        moves: words of the camera.
    """

    objects: tuple[int, int] = (1, 2)
    guests: float = 0.35
    characters: tuple[str, ...] = tuple(CHARACTERS)
    moves: tuple[str, ...] = tuple(MOVES)

    def __post_init__(self) -> None:
        least, most = self.objects
        if not 1 <= least <= most <= _CROWD:
            raise InputError(
                f"objects is {least} to {most}, but must lie within 1 to {_CROWD}: choose such a range."
            )
        if not 0 <= self.guests <= 1:
            raise InputError(f"guests is {self.guests:g}, but is a share: choose it between 0 and 1.")
        for what, words, known in (
            ("characters", self.characters, CHARACTERS),
            ("moves", self.moves, MOVES),
        ):
            unknown = sorted(set(words) - set(known))
            if unknown or not words:
                raise InputError(
                    f"{what} is {', '.join(words) or 'empty'}; "
                    f"choose at least one of {', '.join(known)}, and no other."
                )


def draw_scene(rng: np.random.Generator, held_out: bool, choice: Choice = Choice()) -> RoomScene:
    """A scene at random; drawn again until it keeps to its side of `is_held_out` and nothing collides."""
    while True:
        scene = _draw(rng, choice)
        if scene.held_out == held_out and _is_clear(scene):
            return scene


def _draw(rng: np.random.Generator, choice: Choice) -> RoomScene:
    objects = int(rng.integers(choice.objects[0], choice.objects[1] + 1))
    name = str(rng.choice(choice.characters)) if objects < _CROWD and rng.random() < choice.guests else None
    worn = {colour for part in CHARACTERS[name] for colour in part.colours} if name else set()
    colours = [str(colour) for colour in rng.permutation(list(COLOURS)) if colour not in worn]
    things = objects + (name is not None)
    spots = [int(spot) for spot in rng.permutation(things)]
    word = str(rng.choice(choice.moves))
    red, blue = rng.uniform(0.96, 1.04, size=2)
    return RoomScene(
        walls=str(rng.choice(TEXTURES)),
        floor=str(rng.choice(TEXTURES)),
        variant=int(rng.integers(VARIANTS)),
        tint=(round(float(red), 3), round(float(blue), 3)),
        light=str(rng.choice(list(LIGHTS))),
        objects=tuple(
            RoomObject(
                colour=colours[i],
                shape=str(rng.choice(list(SHAPES))),
                size=str(rng.choice(list(SIZES))),
                motion=str(rng.choice(list(MOTIONS))),
                place=_draw_place(rng, spots[i], things),
                # A cube seen head on is a square, like a cylinder; turned, its edge tells.
                yaw=round(math.pi / 4 + float(rng.uniform(-0.3, 0.3)), 3),
            )
            for i in range(objects)
        ),
        guest=Guest(
            name=name,
            motion=str(rng.choice(list(MOTIONS))),
            place=_draw_place(rng, spots[-1], things),
            yaw=round(float(rng.uniform(-0.5, 0.5)), 3),
        )
        if name
        else None,
        camera=CameraMove(word, round(float(rng.uniform(MOVES[word].least, MOVES[word].most)), 2)),
    )


def _draw_place(rng: np.random.Generator, spot: int, things: int) -> tuple[float, float]:
    """A place in one of `things` upright strips of the first camera's view."""
    depth = float(rng.uniform(3.2, 4.2))
    slope = (spot - (things - 1) / 2) * 0.36 + float(rng.uniform(-1, 1)) * (0.20, 0.07, 0.04)[things - 1]
    return round(slope * depth, 3), round(depth, 3)


def _is_clear(scene: RoomScene) -> bool:
    """Whether no two things touch, and none hides another from the first camera."""
    ways = [np.array([thing.place[0], 0, thing.place[1]]) + track(thing.motion, 17) for thing in scene.things]
    for i, one in enumerate(scene.things):
        for j in range(i):
            other = scene.things[j]
            apart = np.hypot(*(ways[i] - ways[j])[:, [0, 2]].T).min()
            first, second = one.place, other.place
            seen_apart = abs(first[0] / first[1] - second[0] / second[1])
            widths = one.reach / first[1] + other.reach / second[1]
            if apart < one.reach + other.reach or seen_apart < 1.1 * widths:
                return False
    return True
