"""The primitives that the things of a scene are made of, placed in the room, and where rays enter them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vdit.types import Cameras
from vdit.world.characters import CHARACTERS
from vdit.world.primitives import PRIMITIVES
from vdit.world.room_scene import FLOOR, SHAPES, SIZES, Guest, RoomObject, RoomScene, track
from vdit.world.words import COLOURS

__all__ = ["Entries", "Rays", "Solid", "entries", "solids", "ways"]

_PATTERN_DEPTH = 0.90  # brightness of the pattern on a thing of one colour


@dataclass(frozen=True)
class Rays:
    """One ray a sample: frame, row, column.

    Attributes:
        origin: the camera's centre in metres.
        direction: in room axes; of length 1 along the camera's z axis.
    """

    origin: Float[Tensor, "3 t 1 1"]
    direction: Float[Tensor, "3 t h w"]


@dataclass(frozen=True)
class Solid:
    """One primitive of a thing.

    Attributes:
        shape: a key of `PRIMITIVES`.
        label: the thing's number in the masks, from 1.
        centre: its middle at each frame, in metres.
        turn: room axes from its own.
        extents: half of its size along its own axes, in metres.
        colours: of the body and of the pattern.
        pattern: a key of `PATTERNS`.
    """

    shape: str
    label: int
    centre: Float[Tensor, "3 t"]
    turn: Float[Tensor, "3 3"]
    extents: Float[Tensor, "3"]
    colours: Float[Tensor, "2 3"]
    pattern: str


@dataclass(frozen=True)
class Entries:
    """The rays that see a solid in front of all drawn before.

    Attributes:
        where: their places in the flattened (t h w).
        depth: distance to the solid.
        point: what they see, in metres.
        normal: outward, not of unit length.
        local: the same point on the unit primitive.
    """

    where: Int64[Tensor, "n"]
    depth: Float[Tensor, "n"]
    point: Float[Tensor, "3 n"]
    normal: Float[Tensor, "3 n"]
    local: Float[Tensor, "3 n"]


def solids(scene: RoomScene, frames: int) -> list[Solid]:
    """Every primitive of the scene; labels follow `scene.things`."""
    return [
        solid
        for label, (thing, way) in enumerate(zip(scene.things, ways(scene, frames), strict=True), 1)
        for solid in _parts(thing, label, way)
    ]


def ways(scene: RoomScene, frames: int) -> Float[Tensor, "thing 3 t"]:
    """Where each thing stands on (or above) the floor, in metres."""
    places = [
        torch.from_numpy(track(thing.motion, frames)).float().T
        + torch.tensor([thing.place[0], FLOOR, thing.place[1]])[:, None]
        for thing in scene.things
    ]
    return torch.stack(places) if places else torch.zeros(0, 3, frames)


def _parts(thing: RoomObject | Guest, label: int, way: Float[Tensor, "3 t"]) -> list[Solid]:
    cosine, sine = math.cos(thing.yaw), math.sin(thing.yaw)
    turn = torch.tensor([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    if isinstance(thing, RoomObject):
        extents = torch.tensor(SHAPES[thing.shape]) * SIZES[thing.size]
        colour = torch.tensor(COLOURS[thing.colour])
        paint = torch.stack([colour, _PATTERN_DEPTH * colour])
        middle = way - torch.tensor([0.0, 1.0, 0.0])[:, None] * extents[1]
        return [Solid(thing.shape, label, middle, turn, extents, paint, "checks")]
    return [
        Solid(
            shape=part.shape,
            label=label,
            centre=way + turn @ torch.tensor(part.centre)[:, None],
            turn=turn,
            extents=torch.tensor(part.extents),
            colours=torch.tensor([COLOURS[name] for name in part.colours]),
            pattern=part.pattern,
        )
        for part in CHARACTERS[thing.name]
    ]


def entries(solid: Solid, rays: Rays, cameras: Cameras, nearest: Float[Tensor, "samples"]) -> Entries:
    """Where the solid is in front of depth `nearest`, looking only inside its bounding rectangles."""
    frames, rows, columns = rays.direction.shape[1:]
    where, frame = _candidates(solid, cameras, frames, rows, columns)
    direction = rays.direction.flatten(1)[:, where]
    # Distances keep their unit: the rays of the unit primitive are those of the room under an affine map.
    to_unit = solid.turn.T / solid.extents[:, None]
    o = (to_unit @ (rays.origin[:, :, 0, 0] - solid.centre))[:, frame]
    d = to_unit @ direction
    depth, normals = PRIMITIVES[solid.shape](o, d)
    front = torch.nonzero(depth < nearest[where]).flatten()
    depth = depth[front]
    return Entries(
        where=where[front],
        depth=depth,
        point=rays.origin[:, frame[front], 0, 0] + depth * direction[:, front],
        normal=solid.turn @ (normals(front) / solid.extents[:, None]),
        local=o[:, front] + depth * d[:, front],
    )


def _candidates(
    solid: Solid, cameras: Cameras, frames: int, rows: int, columns: int
) -> tuple[Int64[Tensor, "n"], Int64[Tensor, "n"]]:
    """Samples inside the rectangle around the solid's bounding sphere, and the frame of each."""
    radius = float(solid.extents.norm())
    seen = torch.einsum("t i j, i t -> j t", cameras.c2w[:, :3, :3], solid.centre - cameras.c2w[:, :3, 3].T)
    x, y, z = seen.numpy()
    fx, fy, cx, cy = cameras.intrinsics.T.numpy()
    bounds = []
    for place, focal, centre, cells in ((x, fx, cx, columns), (y, fy, cy, rows)):
        low, high = place - radius, place + radius
        near, far = np.maximum(z - radius, 1e-3), np.maximum(z + radius, 1e-3)
        first = (np.where(low < 0, low / near, low / far) * focal + centre) * cells
        last = (np.where(high < 0, high / far, high / near) * focal + centre) * cells
        bounds.append((np.clip(first, 0, cells).astype(int), np.ceil(np.clip(last, 0, cells)).astype(int)))
    (left, right), (top, bottom) = bounds
    bottom = np.where(z + radius > 0, bottom, top)
    grids = [
        (t * rows + np.arange(top[t], bottom[t]))[:, None] * columns + np.arange(left[t], right[t])
        for t in range(frames)
    ]
    where = np.concatenate([grid.ravel() for grid in grids])
    return torch.from_numpy(where), torch.from_numpy(
        np.repeat(np.arange(frames), [grid.size for grid in grids])
    )
