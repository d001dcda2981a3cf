"""The surfaces of the room: periodic multi-octave images, and their bake with light onto the six walls.

The images are muted (saturation below 0.33), so that everything saturated in a clip is an object.
"""

from functools import lru_cache

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vdit.world.room_scene import BOX, LIGHTS, RoomScene

__all__ = ["atlas"]

_TILE = 256  # texels a side
_TILE_METRES = 2.4
_AMBIENT, _DIFFUSE = 0.50, 0.75
_PLANES = ((2, 1), (0, 2), (0, 1))  # the axes along u and v of the walls across x, y and z
_CEILING = np.array([0.80, 0.79, 0.76], dtype=np.float32)

Image = Float[np.ndarray, "v u 3"]


def atlas(scene: RoomScene, texels: int) -> Float[Tensor, "3 wall_v u"]:
    """The six walls (-x, +x, ceiling, floor, -z, +z), lit, one below another, `texels` a side.

    Texel centres 0 and texels - 1 lie on the edges of a wall.
    """
    tint = np.array([scene.tint[0], 1.0, scene.tint[1]], dtype=np.float32)
    walls, floor = _tile(scene.walls, scene.variant, texels), _tile(scene.floor, scene.variant, texels)
    places = _tile_places(texels, len(walls))
    light = _light(scene.light, texels)
    lit = np.empty((6, texels, texels, 3), dtype=np.float32)
    for face in range(6):
        if face == 2:
            albedo: np.ndarray = _CEILING
        else:
            albedo = (floor if face == 3 else walls * tint).reshape(-1, 3).take(places[face], axis=0)
        np.multiply(albedo, light[face, :, :, None], out=lit[face])
    np.clip(lit, 0.0, 1.0, out=lit)
    return torch.from_numpy(rearrange(lit, "wall v u c -> c (wall v) u")).contiguous()


@lru_cache(maxsize=8)
def _wall_points(texels: int) -> Float[np.ndarray, "6 v u 3"]:
    """Where each texel of the atlas is, in metres."""
    points = np.empty((6, texels, texels, 3), dtype=np.float32)
    for axis, (u_axis, v_axis) in enumerate(_PLANES):
        u = np.linspace(*BOX[u_axis], texels, dtype=np.float32)
        v = np.linspace(*BOX[v_axis], texels, dtype=np.float32)
        for side in range(2):
            points[2 * axis + side, :, :, axis] = BOX[axis][side]
            points[2 * axis + side, :, :, u_axis] = u[None, :]
            points[2 * axis + side, :, :, v_axis] = v[:, None]
    return points


@lru_cache(maxsize=8)
def _tile_places(texels: int, tile: int) -> np.ndarray:
    """Index into a flat tile image for each texel (6 v u); each wall starts elsewhere in the image."""
    points = _wall_points(texels)
    places = np.empty((6, texels, texels), dtype=np.int32)
    for face in range(6):
        u_axis, v_axis = _PLANES[face // 2]
        u = np.floor((points[face, :, :, u_axis] / _TILE_METRES + 0.37 * face) * tile).astype(np.int64) % tile
        v = np.floor((points[face, :, :, v_axis] / _TILE_METRES) * tile).astype(np.int64) % tile
        places[face] = v * tile + u
    return places


@lru_cache(maxsize=24)
def _light(word: str, texels: int) -> Float[np.ndarray, "6 v u"]:
    """Ambient and Lambert light on the walls, darker towards their edges."""
    points = _wall_points(texels)
    to_light = np.array(LIGHTS[word], dtype=np.float32) - points
    distance = np.linalg.norm(to_light, axis=-1)
    light = np.empty(points.shape[:-1], dtype=np.float32)
    for face in range(6):
        axis = face // 2
        cosine = np.abs(to_light[face, :, :, axis]) / distance[face]
        light[face] = _AMBIENT + _DIFFUSE * cosine / (1 + (distance[face] / 4.5) ** 2)
        for other in _PLANES[axis]:
            for edge in BOX[other]:
                light[face] *= 1 - 0.35 * np.exp(-np.abs(points[face, :, :, other] - edge) / 0.28)
    return light


@lru_cache(maxsize=128)
def _tile(texture: str, variant: int, texels: int) -> Image:
    """A periodic image of `_TILE_METRES`, halved until its texels are about as large as those of a wall."""
    image = _PAINTERS[texture](np.random.default_rng([variant, *texture.encode()]))
    wall_texel = (BOX[2][1] - BOX[2][0]) / texels
    while len(image) > 32 and _TILE_METRES / len(image) < 0.7 * wall_texel:
        image = (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4
    return np.ascontiguousarray(image, dtype=np.float32)


def _noise(rng: np.random.Generator, slope: float, stretch: float = 1.0) -> Float[np.ndarray, "v u"]:
    """Periodic noise of all octaves, amplitude falling as frequency to the power of -slope; unit variance."""
    v = np.fft.fftfreq(_TILE)[:, None] * _TILE
    u = np.fft.rfftfreq(_TILE)[None, :] * _TILE
    frequency = np.hypot(v, u * stretch)
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((_TILE, _TILE))) * frequency**-slope)
    return field / field.std()


def _grid(rows: int, columns: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells of a wall: index of each texel's cell, and its place within the cell in [0, 1) down and right."""
    y, x = np.meshgrid(np.arange(_TILE) / _TILE, np.arange(_TILE) / _TILE, indexing="ij")
    row = np.floor(y * rows)
    across = x * columns + shift * (row % 2)
    cell = row * columns + np.floor(across) % columns
    return cell.astype(int), y * rows - row, across - np.floor(across)


def _shaded(colour: tuple[float, float, float], shade: Float[np.ndarray, "v u"]) -> Image:
    return np.clip(np.array(colour) * shade[..., None], 0.05, 0.97)


def _joined(image: Image, joint: np.ndarray, colour: tuple[float, float, float]) -> Image:
    return np.where(joint[..., None], np.array(colour), image)


def _brick(rng: np.random.Generator) -> Image:
    cell, down, right = _grid(8, 4, shift=0.5)
    shade = rng.uniform(0.70, 1.25, size=32)[cell] + 0.09 * _noise(rng, 1.0)
    joint = (down < 0.14) | (right < 0.07)
    return _joined(_shaded((0.60, 0.49, 0.45), shade), joint, (0.78, 0.77, 0.74))


def _wooden(rng: np.random.Generator) -> Image:
    cell, _, right = _grid(1, 8)
    shade = rng.uniform(0.70, 1.20, size=8)[cell] + 0.13 * _noise(rng, 1.1, stretch=0.15)
    return _shaded((0.66, 0.57, 0.49), np.where(right < 0.07, 0.40, shade + 0.06 * _noise(rng, 0.8)))


def _tiled(rng: np.random.Generator) -> Image:
    cell, down, right = _grid(6, 6)
    shade = rng.uniform(0.72, 1.15, size=36)[cell] + 0.06 * _noise(rng, 1.1)
    return _joined(_shaded((0.66, 0.72, 0.74), shade), (down < 0.09) | (right < 0.09), (0.36, 0.38, 0.40))


def _marble(rng: np.random.Generator) -> Image:
    veins = np.abs(_noise(rng, 1.6)) ** 0.6
    return _shaded((0.80, 0.80, 0.78), 0.45 + 0.50 * np.clip(veins, 0, 1.2) + 0.07 * _noise(rng, 1.0))


def _checkered(rng: np.random.Generator) -> Image:
    y, x = np.divmod(_grid(6, 6)[0], 6)
    shade = np.where((x + y) % 2, 0.48, 1.0) + 0.10 * _noise(rng, 1.1)
    return _shaded((0.78, 0.76, 0.72), shade)


def _striped(rng: np.random.Generator) -> Image:
    cell, _, _ = _grid(1, 8)
    shade = np.where(cell % 2, 0.62, 1.05) + 0.12 * _noise(rng, 1.1)
    return _shaded((0.70, 0.74, 0.66), shade)


def _stone(rng: np.random.Generator) -> Image:
    seeds = rng.uniform(size=(26, 2))
    y, x = np.meshgrid(np.arange(_TILE) / _TILE, np.arange(_TILE) / _TILE, indexing="ij")
    gap = np.abs(np.stack([y, x], -1)[:, :, None] - seeds)
    distance = np.hypot(*np.moveaxis(np.minimum(gap, 1 - gap), -1, 0))
    nearest = np.sort(distance, axis=-1)
    shade = rng.uniform(0.60, 1.20, size=26)[distance.argmin(-1)] + 0.09 * _noise(rng, 1.0)
    return _joined(
        _shaded((0.64, 0.63, 0.62), shade), nearest[..., 1] - nearest[..., 0] < 0.022, (0.30, 0.30, 0.30)
    )


_PAINTERS = {
    "brick": _brick,
    "wooden": _wooden,
    "tiled": _tiled,
    "marble": _marble,
    "checkered": _checkered,
    "striped": _striped,
    "stone": _stone,
}
