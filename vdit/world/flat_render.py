"""Draws a flat scene: anti-aliased pixels, and the masks and optical flow behind them."""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vdit.world.flat_scene import BACKGROUNDS, Background, FlatScene, path
from vdit.world.flat_shape import signed_distance
from vdit.world.level import Rendering
from vdit.world.words import COLOURS

__all__ = ["render_background", "render_scene"]


def render_background(background: Background, height: int, width: int) -> Float[Tensor, "3 h w"]:
    """The background in [0, 1]."""
    near = torch.tensor(BACKGROUNDS[background.colour])[:, None, None]
    if background.other is None:
        return near.expand(3, height, width)
    far = torch.tensor(BACKGROUNDS[background.other])[:, None, None]
    across = background.side in ("left", "right")
    length = width if across else height
    distance = (torch.arange(length) + 0.5) / length
    if background.side in ("right", "bottom"):
        distance = 1 - distance
    distance = distance[None, :] if across else distance[:, None]
    return torch.lerp(near, far, distance).expand(3, height, width)


def render_scene(scene: FlatScene, frames: int, height: int, width: int) -> Rendering:
    """A scene as pixels, masks and flow; its motion spans the clip."""
    progress = np.linspace(0, 1, frames)
    y = rearrange(torch.arange(height) + 0.5, "h -> 1 h 1")
    x = rearrange(torch.arange(width) + 0.5, "w -> 1 1 w")
    pixels = render_background(scene.background, height, width)[:, None].repeat(1, frames, 1, 1)
    masks = torch.zeros(frames, height, width, dtype=torch.long)
    flow = torch.zeros(frames - 1, 2, height, width)
    for index, thing in enumerate(scene.objects):
        track = torch.from_numpy(path(thing, progress)).float()
        cx, cy = track[0, :, None, None] * width, track[1, :, None, None] * height
        radius = track[2, :, None, None] * min(height, width) / 2
        coverage = (0.5 - radius * signed_distance(thing.shape, (x - cx) / radius, (y - cy) / radius)).clamp(
            0, 1
        )
        colour = torch.tensor(COLOURS[thing.colour])[:, None, None, None]
        pixels = torch.lerp(pixels, colour, coverage)
        inside = coverage > 0.5
        masks[inside] = index + 1
        # A point keeps its place relative to the centre, in radii.
        scale = radius[1:] / radius[:-1]
        step_x = cx[1:] + (x - cx[:-1]) * scale - x
        step_y = cy[1:] + (y - cy[:-1]) * scale - y
        step = torch.stack(torch.broadcast_tensors(step_x, step_y), dim=1)
        flow = torch.where(inside[:-1, None], step, flow)
    return Rendering(pixels=pixels * 2 - 1, masks=masks, flow=flow)
