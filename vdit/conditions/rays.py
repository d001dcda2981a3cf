"""The rays of a camera's pixels, which is how cameras are told to a transformer."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from vdit.types import Cameras

__all__ = ["from_first", "grouped", "plucker"]


def plucker(cameras: Cameras, height: int, width: int) -> Float[Tensor, "*b t 6 h w"]:
    """The ray of every pixel's centre, as moment and direction, seen from the camera of frame 0.

    With d the direction of length 1 and o the place of the camera, the moment is o x d: the same for every
    point of the ray (Sitzmann et al. 2021, sec. 3.1; for cameras of videos He et al. 2024, eq. 2, with the
    moment first). The unit is that of the poses.
    """
    fx, fy, cx, cy = (x[..., None, None] for x in cameras.intrinsics.double().unbind(-1))  # *b t 1 1
    device = cameras.c2w.device
    u = (torch.arange(width, dtype=torch.float64, device=device) + 0.5) / width
    v = (torch.arange(height, dtype=torch.float64, device=device)[:, None] + 0.5) / height
    x, y = torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy)  # *b t h w
    seen = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    seen = seen / seen.norm(dim=-1, keepdim=True)

    c2w = from_first(cameras.c2w.double())
    turn, place = c2w[..., :3, :3], c2w[..., :3, 3]
    direction = torch.einsum("...ij,...hwj->...hwi", turn, seen)
    moment = torch.linalg.cross(place[..., None, None, :].expand_as(direction), direction)
    return rearrange(torch.cat([moment, direction], dim=-1), "... h w c -> ... c h w").float()


def from_first(c2w: Float[Tensor, "*b t 4 4"]) -> Float[Tensor, "*b t 4 4"]:
    """Poses seen from the camera of frame 0."""
    return torch.linalg.inv(c2w[..., :1, :, :]) @ c2w


def grouped(values: Float[Tensor, "b t c h w"], stride_t: int) -> Float[Tensor, "b c_group t_latent h w"]:
    """What is said of every frame, as channels of the latent frame that it falls into.

    The first latent frame stands for the first frame alone, which fills its group; the others each for
    `stride_t` frames.
    """
    first = repeat(values[:, :1], "b 1 c h w -> b s c h w", s=stride_t)
    return rearrange(torch.cat([first, values[:, 1:]], dim=1), "b (t s) c h w -> b (c s) t h w", s=stride_t)
