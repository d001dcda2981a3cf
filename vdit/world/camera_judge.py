"""Which camera move a clip shows, from its pixels alone.

The room's walls are the same in every scene, so each move predicts where every pixel of the empty room
goes. The judge carries frames along these predictions and takes the move whose predictions meet the later
frames best: dense direct alignment (Irani and Anandan 1999) with the parameters on a grid. Things
in the room contradict every prediction alike, and a saturating distance keeps their weight small.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from vdit.camera.moves import MOVES, CameraMove, MoveKind, trajectory
from vdit.types import Cameras, InputError
from vdit.world.raycast import project, room_depth, view_rays

__all__ = ["blur", "misfits", "name_move"]

_SIDE = 64  # pixels of the shorter side of the frames that are compared
_AMPLITUDES = (0.6, 0.75, 0.9, 1.05, 1.2, 1.35)  # of the middle of what scenes ask for
_DETAIL, _LIGHT = 0.8, 6.0  # blur in pixels that removes noise; that keeps only brightness, to be subtracted
_OUTLIER = 0.5  # difference, in standard deviations of the clip, that counts half


@dataclass(frozen=True)
class Predictions:
    """Where every move and amplitude carries the room.

    Attributes:
        words: the move of each prediction.
        grids: sampling grid, for each prediction and pair of frames, of the later frame in [-1, 1].
        earlier: first frame of each pair.
        later: second frame of each pair.
    """

    words: tuple[str, ...]
    grids: Float[Tensor, "prediction pair h w 2"]
    earlier: Int64[Tensor, "pair"]
    later: Int64[Tensor, "pair"]


def name_move(pixels: Float[Tensor, "3 t h w"]) -> str:
    """The word of `MOVES` that explains a clip best.

    Raises:
        InputError: if the clip has fewer than two frames.
    """
    costs = misfits(pixels)
    return min(costs, key=lambda word: costs[word])


def misfits(pixels: Float[Tensor, "3 t h w"]) -> dict[str, float]:
    """How badly each move explains a clip, at its best amplitude: 0 is perfect, 1 nothing in common.

    Raises:
        InputError: if the clip has fewer than two frames.
    """
    frames = rearrange(pixels.float(), "c t h w -> t c h w")
    if len(frames) < 2:
        raise InputError("a clip of 1 frame shows no camera move; judge clips of at least 2 frames.")
    scale = _SIDE / min(frames.shape[2:])
    if scale < 1:
        size = [round(scale * side) for side in frames.shape[2:]]
        frames = functional.interpolate(frames, size=size, mode="area")
    predictions = _predictions(len(frames), *frames.shape[2:])
    detail = blur(frames, _DETAIL)
    detail = detail - blur(detail, _LIGHT)
    detail = detail / detail.std().clamp(min=1e-3)
    before, after = detail[predictions.earlier], detail[predictions.later]
    costs: dict[str, float] = {}
    for word, grid in zip(predictions.words, predictions.grids, strict=True):
        carried = functional.grid_sample(after, grid, align_corners=False)
        difference = (carried - before).abs().mean(1)
        in_view = (grid.abs() <= 1).all(-1)
        cost = ((difference / (difference + _OUTLIER)) * in_view).sum() / in_view.sum()
        costs[word] = min(costs.get(word, 1.0), float(cost))
    return costs


def blur(images: Float[Tensor, "t c h w"], sigma: float) -> Float[Tensor, "t c h w"]:
    """Gaussian blur; `sigma` in pixels."""
    channels, radius = images.shape[1], max(1, round(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).expand(channels, 1, 1, -1)
    across = functional.pad(images, (radius, radius, 0, 0), mode="replicate")
    images = functional.conv2d(across, weights, groups=channels)
    down = functional.pad(images, (0, 0, radius, radius), mode="replicate")
    return functional.conv2d(down, weights.transpose(2, 3), groups=channels)


@lru_cache(maxsize=8)
def _predictions(frames: int, height: int, width: int) -> Predictions:
    earlier, later = torch.tensor(_pairs(frames)).T
    words, grids = [], []
    size = torch.tensor([width, height])[:, None, None]
    for word, kind in MOVES.items():
        for amplitude in _amplitudes(kind):
            cameras = trajectory(CameraMove(word, amplitude), frames, height, width)
            rays = view_rays(cameras, height, width)
            points = (rays.origin + room_depth(rays) * rays.direction)[:, earlier]
            seen = project(points, Cameras(cameras.intrinsics[later], cameras.c2w[later]), height, width)
            words.append(word)
            grids.append(rearrange(seen / size * 2 - 1, "pair c h w -> pair h w c"))
    return Predictions(tuple(words), torch.stack(grids), earlier, later)


def _pairs(frames: int) -> list[tuple[int, int]]:
    """Frames a quarter and half of the clip apart: far enough to see the motion, near enough to overlap."""
    gaps = sorted({max(1, (frames - 1) // 4), max(1, (frames - 1) // 2)})
    return [(start, start + gap) for gap in gaps for start in range(0, frames - gap, max(1, gap // 2))]


def _amplitudes(kind: MoveKind) -> list[float]:
    if kind.most == 0:
        return [0.0]
    if kind.unit == "times":
        return [(kind.least * kind.most) ** (0.5 * factor) for factor in _AMPLITUDES]
    return [(kind.least + kind.most) / 2 * factor for factor in _AMPLITUDES]
