"""How the look of clips changes with time: what long ones lose, or gather, from part to part."""

from dataclasses import astuple, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Drift", "Look", "look_drift"]


@dataclass(frozen=True)
class Look:
    """Change a second, of pixels in [-1, 1]; the mean over clips of its size.

    Attributes:
        brightness: of the mean.
        contrast: of the standard deviation.
        colour: of the distance between the strongest and the weakest of red, green and blue.
        detail: of the difference between pixels side by side.
    """

    brightness: float
    contrast: float
    colour: float
    detail: float


@dataclass(frozen=True)
class Drift:
    """Of sampled clips, and of the true ones, which change too: cameras and things move.

    Attributes:
        model: sampled.
        truth: true.
        codec: what the codec makes of the true ones.
    """

    model: Look
    truth: Look
    codec: Look

    def rows(self) -> list[tuple[str, float, float, float]]:
        """A row for each part of the look."""
        names = ("brightness", "contrast", "colour", "detail")
        columns = (astuple(self.model), astuple(self.truth), astuple(self.codec))
        return [(name, *values) for name, *values in zip(names, *columns, strict=True)]


def look_drift(clips: Float[Tensor, "n 3 t h w"], fps: float) -> Look:
    """The slope of each part of the look over time, by least squares. A clip of one frame has none."""
    time = torch.arange(clips.shape[2], dtype=torch.float32) / fps
    time = time - time.mean()
    look = _look(clips.float())  # n t 4
    slope = torch.einsum("ntk,t->nk", look, time) / time.square().sum().clamp(min=1e-9)
    return Look(*slope.abs().mean(0).tolist())


def _look(clips: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n t four"]:
    brightness = clips.mean((1, 3, 4))
    contrast = clips.std((1, 3, 4))
    colour = (clips.amax(1) - clips.amin(1)).mean((2, 3))
    across, down = clips.diff(dim=4).abs().mean((1, 3, 4)), clips.diff(dim=3).abs().mean((1, 3, 4))
    return torch.stack([brightness, contrast, colour, (across + down) / 2], dim=-1)
