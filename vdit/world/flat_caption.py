"""The flat world in words: one grammar for short, dense and structured captions."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from vdit.world.flat_scene import BACKGROUNDS, Background, FlatObject, FlatScene, path
from vdit.world.level import Captions
from vdit.world.words import article, listing, number

__all__ = ["MOTION_WORDS", "background_words", "describe_scene"]

MOTION_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "left": "moving left",
        "right": "moving right",
        "up": "moving up",
        "down": "moving down",
        "grow": "growing",
        "shrink": "shrinking",
        "loop": "moving in a loop",
        "still": "standing still",
    }
)

_SIDE_WORDS = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
_OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


def background_words(background: Background) -> str:
    """The background as short captions name it; a gradient without its direction, in one fixed order."""
    if background.other is None:
        return f"{article(background.colour)} background"
    first, second = sorted((background.colour, background.other), key=tuple(BACKGROUNDS).index)
    return f"a background graded between {first} and {second}"


def _place(x: float, y: float) -> str:
    """One of nine places of the frame."""
    column = ("left", "centre", "right")[min(int(3 * x), 2)]
    row = ("upper", "middle", "lower")[min(int(3 * y), 2)]
    if row == "middle":
        return "centre" if column == "centre" else f"middle {column}"
    return f"{row} {column}"


def _dense_object(thing: FlatObject) -> str:
    name = article(f"{thing.size} {thing.colour} {thing.shape}")
    (x0, x1), (y0, y1), _ = path(thing, np.array([0.0, 1.0]))
    start, end = _place(x0, y0), _place(x1, y1)
    if thing.motion == "still":
        return f"{name} stands still in the {start} of the frame"
    if thing.motion in ("grow", "shrink"):
        change = "grows to twice its width" if thing.motion == "grow" else "shrinks to half its width"
        return f"{name} in the {start} of the frame {change}"
    if thing.motion == "loop":
        turn = "clockwise" if thing.clockwise else "anticlockwise"
        return f"{name} starts in the {start} of the frame and moves once round in a {turn} loop"
    finish = "within it" if start == end else f"to the {end}"
    return f"{name} starts in the {start} of the frame and moves {thing.motion} {finish}"


def _dense_background(background: Background) -> str:
    if background.other is None:
        return f"The background is plain {background.colour}."
    near, far = _SIDE_WORDS[background.side], _SIDE_WORDS[_OPPOSITE[background.side]]
    return f"The background fades from {background.colour} {near} to {background.other} {far}."


def describe_scene(scene: FlatScene) -> Captions:
    """A scene in words; the same words mean the same everywhere in the level."""
    count = len(scene.objects)
    things = [
        f"{article(f'{thing.size} {thing.colour} {thing.shape}')} {MOTION_WORDS[thing.motion]}"
        for thing in scene.objects
    ]
    behind = f"on {background_words(scene.background)}"
    short = f"{things[0]} {behind}" if count == 1 else f"{number(count)} shapes {behind}: {listing(things)}"
    sentences = [_dense_object(thing) for thing in scene.objects]
    opening = "" if count == 1 else f"{number(count).capitalize()} shapes are in view. "
    dense = opening + " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)
    structured = {
        "count": count,
        "objects": [
            {
                "colour": thing.colour,
                "shape": thing.shape,
                "size": thing.size,
                "motion": thing.motion,
                "centre": [round(value, 3) for value in thing.centre],
            }
            for thing in scene.objects
        ],
        "background": {
            "kind": "plain" if scene.background.other is None else "graded",
            "colour": scene.background.colour,
            "other": scene.background.other,
            "side": None if scene.background.other is None else scene.background.side,
        },
    }
    return Captions(short, short, short, f"{dense} {_dense_background(scene.background)}", structured)
