"""How fast clips move, where their frame rate was asked for."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.data.motion import motion_score

__all__ = ["Pace", "measure_pace"]


@dataclass(frozen=True)
class Pace:
    """Mean speed of clips, in shorter sides of the frame a second.

    Attributes:
        fps: the frame rate that was asked for.
        model: of sampled clips.
        truth: of the true ones.
        codec: of what the codec makes of them.
    """

    fps: float
    model: float
    truth: float
    codec: float


def measure_pace(
    clips: Float[Tensor, "n 3 t h w"],
    truth: Float[Tensor, "n 3 t h w"],
    copies: Float[Tensor, "n 3 t h w"],
    fps: float,
) -> Pace:
    """The speed of clips of one frame rate beside that of the true ones.

    Raises:
        InputError: OpenCV is not installed.
    """
    rate = torch.full((len(clips),), fps)
    return Pace(fps, *(motion_score(each, rate).mean().item() for each in (clips, truth, copies)))
