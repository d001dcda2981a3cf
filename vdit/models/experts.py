"""Two backbones that share the work by how much noise there is.

What to draw and where is decided in noise that hides all detail, by a model that may be coarse; how it
looks in detail is decided after, by a model that need not understand the caption again. Balaji et al. 2022
(eDiff-I) train such experts for images; Wan 2.2 (A14B) has two for video.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.models.backbone import VideoBackbone
from vdit.types import DenoiserInput, InputError

__all__ = ["ROLES", "SigmaExperts"]

ROLES = ("high", "low")
"""What the two are called, in a model's folder too: for much noise, for little."""


class SigmaExperts(VideoBackbone):
    """One backbone for clips with a sigma of `boundary` or more anywhere, one for the others.

    Each clip passes through one of them only, so a step costs what its clips cost. In training both are
    always called, if need be on a clip whose result is not used: every weight then has a gradient on every
    rank, which data parallelism asks for.

    Args:
        high: for much noise.
        low: for little noise.
        boundary: the sigma from which `high` takes over; in (0, 1).

    Raises:
        InputError: backbones of different latents or text, or a boundary out of range.
    """

    def __init__(self, high: VideoBackbone, low: VideoBackbone, boundary: float) -> None:
        super().__init__()
        if not 0 < boundary < 1:
            raise InputError(f"boundary {boundary} must lie between 0 and 1")
        for name in ("latent_channels", "text_width"):
            if getattr(high, name) != getattr(low, name):
                raise InputError(
                    f"the experts differ in {name}, {getattr(high, name)} and {getattr(low, name)}: "
                    "make them equal"
                )
        self.high, self.low, self.boundary = high, low, boundary
        self.slots = high.slots & low.slots
        self.read = high.read and low.read
        self.latent_channels, self.text_width = high.latent_channels, high.text_width
        t, h, w = map(math.lcm, high.patch, low.patch)
        self.patch = (t, h, w)

    def check_shape(self, t: int, h: int, w: int) -> None:
        self.high.check_shape(t, h, w)
        self.low.check_shape(t, h, w)

    def lower(self, dtype: torch.dtype) -> None:
        self.arithmetic = dtype
        self.high.lower(dtype)
        self.low.lower(dtype)

    def forward(self, inputs: DenoiserInput) -> Float[Tensor, "b c t h w"]:
        noisy = inputs.sigma.amax(dim=(1, 2, 3)) >= self.boundary  # b
        velocity = torch.zeros_like(inputs.latents)  # b c t h w
        for expert, mine in ((self.high, noisy), (self.low, ~noisy)):
            rows = mine.nonzero().squeeze(1)  # n
            if len(rows):
                velocity = velocity.index_copy(0, rows, expert(inputs.clips(rows)))
            elif self.training:
                velocity = velocity + 0 * expert(inputs.clips(rows.new_zeros(1)))
        return velocity
