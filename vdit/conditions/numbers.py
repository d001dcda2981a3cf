"""Numbers said of a whole clip, its frame rate and how much moves in it, in the slot `vectors`."""

import math
from abc import abstractmethod
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.conditions.condition import Featured, Rows
from vdit.data.motion import motion_score
from vdit.types import ClipBatch, DenoiserInput, Slot, onto

__all__ = ["WAVES", "FrameRate", "MotionScore", "waves"]

WAVES = 16
"""Numbers that one number is said by."""

_OCTAVES = 16.0  # the longest wave, in doublings of the number
_STILL = 2.0**-6  # what is far below this is said as if it were 0


def waves(number: Float[Tensor, "b"]) -> Float[Tensor, "b 1 d"]:
    """Cosines and sines of a number's logarithm, in waves of 16 doublings and fewer; never zeros."""
    octave = torch.log2(number.float() + _STILL)
    lengths = _OCTAVES * 2.0 ** -torch.arange(WAVES // 2, device=number.device)
    angle = 2 * math.pi * octave[:, None, None] / lengths
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class Number(Rows):
    """A number of every clip. It is said with the text: guidance leaves it as it is. Its null is zeros."""

    slots = frozenset({Slot.VECTORS})
    asks = "text"

    def __init__(self, drop: float = 0.1) -> None:
        super().__init__(drop)

    def signal(self, batch: ClipBatch) -> Float[Tensor, "b 1 d"]:
        number = self.number(batch)
        there = (number >= 0)[:, None, None]
        return waves(number.clamp(min=0)) * there

    @abstractmethod
    def number(self, batch: ClipBatch) -> Float[Tensor, "b"]:
        """The number of each clip; below 0 where nothing is said."""

    def fill(self, inputs: DenoiserInput, signal: Tensor) -> DenoiserInput:
        return replace(inputs, vectors={**inputs.vectors, self.name: signal})


class FrameRate(Number):
    """Frames per second, for models of clips that differ in them. `WAVES` numbers by the name `fps`.

    Args:
        drop: probability of training a clip without it.
    """

    name = "fps"

    def number(self, batch: ClipBatch) -> Float[Tensor, "b"]:
        return batch.fps


class MotionScore(Number, Featured[Tensor]):
    """How much moves, as `vdit.data.motion.motion_score` measures it. `WAVES` numbers by the name `motion`.

    Args:
        drop: probability of training a clip without it; above 0, it can be left out in sampling too.
    """

    name = "motion"
    reads = frozenset({"motion"})

    @property
    def fingerprint(self) -> str:
        return "motion by optical flow"

    def check(self, batch: ClipBatch) -> None:
        """Any clip has a motion, and what is sampled can go without."""

    def feature(self, batch: ClipBatch, codec: TiledCodec) -> Float[Tensor, "b one"]:
        if batch.pixels is not None:
            return motion_score(batch.pixels, batch.fps)[:, None]
        nothing = torch.full((len(batch),), -1.0)
        return (nothing if batch.motion is None else batch.motion)[:, None]

    def feature_size(self, codec: VideoCodec, t: int, h: int, w: int) -> tuple[int, ...]:
        return (1,)

    def number(self, batch: ClipBatch) -> Float[Tensor, "b"]:
        return onto(batch.features[self.name][:, 0], batch.fps.device)
