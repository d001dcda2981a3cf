"""Camera moves in strict CameraBench words, and the exact cameras behind them.

Pan, tilt and roll rotate; truck, pedestal and dolly translate; zoom changes the lens; orbit does two of
these at once around a point in front of the camera (Lin et al. 2025, CameraBench).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vdit.types import Cameras, InputError

__all__ = ["FOCAL", "MOVES", "PIVOT", "CameraMove", "MoveKind", "cameras_of", "poses_of", "trajectory"]

FOCAL = 0.9  # focal length over the shorter side of the frame: a field of view of 58 degrees
PIVOT = 3.5  # metres from the first camera to the point that an orbit keeps in its centre


@dataclass(frozen=True)
class MoveKind:
    """One word for a camera move.

    Attributes:
        phrase: the move as a predicate of "the camera".
        unit: what the amplitude counts: "degrees", "metres" or "times" (ratio of focal lengths).
        least: smallest amplitude that scenes ask for.
        most: largest amplitude that scenes ask for.
    """

    phrase: str
    unit: str
    least: float
    most: float


MOVES: Mapping[str, MoveKind] = MappingProxyType(
    {
        "static": MoveKind("stands still", "metres", 0.0, 0.0),
        "pan left": MoveKind("pans left", "degrees", 14.0, 20.0),
        "pan right": MoveKind("pans right", "degrees", 14.0, 20.0),
        "tilt up": MoveKind("tilts up", "degrees", 11.0, 16.0),
        "tilt down": MoveKind("tilts down", "degrees", 11.0, 16.0),
        "roll clockwise": MoveKind("rolls clockwise", "degrees", 18.0, 30.0),
        "roll counter-clockwise": MoveKind("rolls counter-clockwise", "degrees", 18.0, 30.0),
        "truck left": MoveKind("trucks left", "metres", 0.7, 1.1),
        "truck right": MoveKind("trucks right", "metres", 0.7, 1.1),
        "pedestal up": MoveKind("pedestals up", "metres", 0.5, 0.8),
        "pedestal down": MoveKind("pedestals down", "metres", 0.5, 0.8),
        "dolly in": MoveKind("dollies in", "metres", 0.9, 1.3),
        "dolly out": MoveKind("dollies out", "metres", 0.8, 1.1),
        "zoom in": MoveKind("zooms in", "times", 1.4, 1.8),
        "zoom out": MoveKind("zooms out", "times", 1.4, 1.8),
        "orbit left": MoveKind("orbits left", "degrees", 20.0, 30.0),
        "orbit right": MoveKind("orbits right", "degrees", 20.0, 30.0),
    }
)


@dataclass(frozen=True)
class CameraMove:
    """A camera move with its size.

    Attributes:
        word: a key of `MOVES`.
        amplitude: what the camera has done by the last frame, in the unit of the word; never negative.
    """

    word: str
    amplitude: float

    def __post_init__(self) -> None:
        if self.word not in MOVES:
            raise InputError(f"camera move {self.word!r} is unknown; choose one of {', '.join(MOVES)}.")
        if MOVES[self.word].unit == "times" and self.amplitude < 1:
            raise InputError(f"a zoom of {self.amplitude:g} times is below 1; swap zoom in and zoom out.")
        if self.amplitude < 0:
            raise InputError(f"camera amplitude {self.amplitude:g} is negative; use the opposite word.")


def trajectory(move: CameraMove, frames: int, height: int, width: int) -> Cameras:
    """The cameras of `frames` frames: from the identity to the whole move, at constant speed.

    Axes are OpenCV's (x right, y down, z forward). "Left" and "right", "up" and "down", "in" and "out" say
    where the camera goes or turns; "clockwise" is as seen from behind the camera.

    Raises:
        InputError: if a size is not positive.
    """
    if min(frames, height, width) < 1:
        raise InputError(f"a clip of {frames} frames of {height} × {width} is empty; use sizes above 0.")
    poses, zoom = poses_of(move, np.linspace(0.0, 1.0, frames))
    return cameras_of(poses, zoom, height, width)


def poses_of(
    move: CameraMove, done: Float[np.ndarray, "t"]
) -> tuple[Float[np.ndarray, "t 4 4"], Float[np.ndarray, "t"]]:
    """Camera-to-world poses and the ratio of focal lengths after shares of a move in [0, 1]."""
    kind, _, way = move.word.partition(" ")
    sign = {"right": 1, "up": 1, "in": 1, "clockwise": 1}.get(way, -1)
    poses, zoom = np.tile(np.eye(4), (len(done), 1, 1)), np.ones(len(done))
    angle = sign * math.radians(move.amplitude) * done
    metres = sign * move.amplitude * done
    match kind:
        case "pan":
            poses[:, :3, :3] = _turn(angle, forward=2, towards=0)
        case "tilt":
            poses[:, :3, :3] = _turn(-angle, forward=2, towards=1)
        case "roll":
            poses[:, :3, :3] = _turn(angle, forward=0, towards=1)
        case "truck":
            poses[:, 0, 3] = metres
        case "pedestal":
            poses[:, 1, 3] = -metres
        case "dolly":
            poses[:, 2, 3] = metres
        case "zoom":
            zoom = move.amplitude ** (sign * done)
        case "orbit":
            poses[:, :3, :3] = _turn(-angle, forward=2, towards=0)
            poses[:, 0, 3] = PIVOT * np.sin(angle)
            poses[:, 2, 3] = PIVOT * (1 - np.cos(angle))
    return poses, zoom


def cameras_of(
    poses: Float[np.ndarray, "t 4 4"], zoom: Float[np.ndarray, "t"], height: int, width: int
) -> Cameras:
    """Cameras of the usual focal length times `zoom`, for frames of a size."""
    focal, centre = FOCAL * min(height, width) * zoom, np.full(len(zoom), 0.5)
    intrinsics = np.stack([focal / width, focal / height, centre, centre], axis=1)
    return Cameras(intrinsics=_tensor(intrinsics), c2w=_tensor(poses))


def _turn(angle: np.ndarray, forward: int, towards: int) -> np.ndarray:
    """Rotations (t 3 3) that carry axis `forward` towards axis `towards`."""
    turns = np.tile(np.eye(3), (len(angle), 1, 1))
    turns[:, forward, forward] = turns[:, towards, towards] = np.cos(angle)
    turns[:, towards, forward] = np.sin(angle)
    turns[:, forward, towards] = -np.sin(angle)
    return turns


def _tensor(values: np.ndarray) -> Float[Tensor, "..."]:
    return torch.from_numpy(values.astype(np.float32))
