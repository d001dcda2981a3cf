"""A camera path in words: "pan left 20deg, then dolly in 0.5 while tilting up 5deg".

    path     = part {", then" part | ";" part}
    part     = move {"while" move | "and" move} ["for" NUMBER ("s" | "frames")]
    move     = WORD [NUMBER [UNIT]] | TOOL ":" PRESET

Words are those of CameraBench (`moves.MOVES`), and "hold". A part begins where the one before it ended. Parts
without a duration share what the others leave. Other tools name translations with words of rotation; their
presets are told apart by the tool's name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

import numpy as np

from vdit.camera.moves import MOVES, CameraMove, cameras_of, poses_of
from vdit.types import Cameras, InputError

__all__ = ["PRESETS", "CameraPath", "Part", "read_path"]

PRESETS: Mapping[str, str] = MappingProxyType(
    {
        "videox:pan_left": "truck left 1.48",
        "videox:pan_right": "truck right 1.48",
        "videox:pan_up": "pedestal up 1.48",
        "videox:pan_down": "pedestal down 1.48",
        "videox:zoom_in": "dolly in 2.96",
        "videox:zoom_out": "dolly out 2.96",
        "ac3d:left": "truck left",
        "ac3d:right": "truck right",
        "ac3d:up": "pedestal up",
        "ac3d:down": "pedestal down",
        "ac3d:zoom_in": "dolly in",
        "ac3d:zoom_out": "dolly out",
        "recammaster:pan_left": "pan left",
        "recammaster:pan_right": "pan right",
        "recammaster:tilt_up": "tilt up",
        "recammaster:tilt_down": "tilt down",
        "recammaster:arc_left": "orbit left",
        "recammaster:arc_right": "orbit right",
    }
)
"""What presets of other tools mean. VideoX-Fun's go 1/54 (zoom: 2/54) a frame, for 81 frames."""

UNITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "degrees": ("deg", "degree", "degrees", "°"),
        "metres": ("m", "metre", "metres"),
        "times": ("x", "times"),
    }
)
GERUNDS: Mapping[str, str] = MappingProxyType(
    {"panning": "pan", "tilting": "tilt", "rolling": "roll", "trucking": "truck", "pedestaling": "pedestal"}
    | {"dollying": "dolly", "zooming": "zoom", "orbiting": "orbit"}
)
STILL = ("hold", "holding", "static")

_MOVE = re.compile(r"^(?P<word>[a-z][a-z -]*?)(?:\s+(?P<size>[\d.]+)\s*(?P<unit>[a-z°]+)?)?$")
_FOR = re.compile(r"\s+for\s+(?P<long>[\d.]+)\s*(?P<unit>s|seconds|frames)$")


@dataclass(frozen=True)
class Part:
    """Moves that the camera makes at once.

    Attributes:
        moves: one after the other, each in the axes of the camera as the ones before left it.
        seconds: how long; None is a share of what is left.
        frames: the same in frames.
    """

    moves: tuple[CameraMove, ...]
    seconds: float | None = None
    frames: float | None = None


@dataclass(frozen=True)
class CameraPath:
    """Parts one after the other."""

    parts: tuple[Part, ...]

    def cameras(self, frames: int, fps: float, height: int, width: int) -> Cameras:
        """One camera a frame; that of frame 0 is the identity.

        Raises:
            InputError: the parts take longer than the clip.
        """
        steps = max(frames - 1, 1)
        lengths = self._lengths(steps, fps)
        ends = np.cumsum(lengths)
        pose, zoom, poses, zooms = np.eye(4), 1.0, np.empty((frames, 4, 4)), np.empty(frames)
        at = np.arange(frames, dtype=np.float64)
        for i, (part, length, end) in enumerate(zip(self.parts, lengths, ends, strict=True)):
            last = i == len(self.parts) - 1
            inside = (at >= end - length - 1e-9) & ((at < end - 1e-9) | last)
            done = np.clip((at[inside] - (end - length)) / length, 0.0, 1.0)
            moved, zoomed = _together(part.moves, np.append(done, 1.0))
            poses[inside], zooms[inside] = pose @ moved[:-1], zoom * zoomed[:-1]
            pose, zoom = pose @ moved[-1], zoom * zoomed[-1]
        return cameras_of(poses, zooms, height, width)

    def _lengths(self, steps: int, fps: float) -> Sequence[float]:
        """Of the parts, in frames."""
        said = [part.frames if part.seconds is None else part.seconds * fps for part in self.parts]
        taken, open_parts = sum(x for x in said if x is not None), sum(x is None for x in said)
        if taken > steps + 1e-9 or (open_parts and taken > steps - 1e-3):
            raise InputError(
                f"the camera's path takes {taken:g} frames{' and more' if open_parts else ''}, and the clip "
                f"has {steps} after its first: shorten it, or ask for more --frames"
            )
        rest = (steps - taken) / max(open_parts, 1)
        return [rest if x is None else x for x in said]


def read_path(text: str) -> CameraPath:
    """A path in words.

    Raises:
        InputError: words or units that are not known, amplitudes that make no sense.
    """
    parts = [part.strip() for part in re.split(r"\s*(?:,\s*then\s|\bthen\s|;)\s*", text.strip().lower())]
    if not any(parts):
        raise InputError('the camera\'s path is empty: say for example "pan left 20deg, then dolly in 0.5"')
    return CameraPath(tuple(_part(part.removesuffix(",")) for part in parts))


def _part(text: str) -> Part:
    seconds = frames = None
    if found := _FOR.search(text):
        text, long = text[: found.start()], _number(found["long"], text)
        if long <= 0:
            raise InputError(f"{text!r} takes {long:g} {found['unit']}: give it more than 0")
        seconds, frames = (None, long) if found["unit"] == "frames" else (long, None)
    moves = re.split(r"\s+(?:while|and)\s+", text.strip())
    return Part(tuple(_move(move.strip()) for move in moves), seconds, frames)


def _move(text: str) -> CameraMove:
    if ":" in text:
        if text.replace(" ", "_") not in PRESETS:
            raise InputError(f"no camera preset {text!r}: choose {', '.join(PRESETS)}")
        text = PRESETS[text.replace(" ", "_")]
    found = _MOVE.match(text)
    word = _word(found["word"] if found else text)
    kind = MOVES[word]
    if found is None or found["size"] is None:
        middle = (kind.least * kind.most) ** 0.5 if kind.unit == "times" else (kind.least + kind.most) / 2
        return CameraMove(word, middle)
    if found["unit"] and found["unit"] not in UNITS[kind.unit]:
        raise InputError(f"{text!r}: {word} counts {kind.unit} ({UNITS[kind.unit][0]}), not {found['unit']}")
    return CameraMove(word, _number(found["size"], text))


def _word(text: str) -> str:
    first, space, rest = text.partition(" ")
    word = "static" if text in STILL else GERUNDS.get(first, first) + space + rest
    if word not in MOVES:
        alike = [move for move in MOVES if move.startswith(f"{word.split()[0]} ")]
        near = get_close_matches(word, MOVES, n=1, cutoff=0.8) or alike or get_close_matches(word, MOVES, n=1)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose hold, {', '.join(MOVES)}"
        raise InputError(f"no camera move {text!r}: {hint}")
    return word


def _number(text: str, of: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{of!r}: {text!r} is no number") from error


def _together(moves: Sequence[CameraMove], done: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    poses, zooms = np.tile(np.eye(4), (len(done), 1, 1)), np.ones(len(done))
    for move in moves:
        moved, zoomed = poses_of(move, done)
        poses, zooms = poses @ moved, zooms * zoomed
    return poses, zooms
