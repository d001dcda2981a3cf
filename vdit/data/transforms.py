"""From decoded frames to the pixels a model sees: frame rate, size, range. All are pure functions."""

import math
import random
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vdit.data.rate import NTSC
from vdit.types import InputError

__all__ = ["ResampleFps", "ResizeCrop", "ToUnitRange"]


@dataclass(frozen=True)
class ResampleFps:
    """Choose the frames that show a video at `fps` frames per second, each the nearest in time.

    A rate of television counts as the whole number it stands for: all frames of 23.976 a second are those of
    a video of 24, and every second one of 59.94 is one of 30.
    """

    fps: float

    def __post_init__(self):
        if not self.fps > 0:
            raise InputError(f"fps must be above 0, got {self.fps}")

    def __call__(self, times: Float[np.ndarray, "t"], duration: float) -> Int[np.ndarray, "t_out"]:
        """Frame numbers for the ticks 0, 1/fps, 2/fps ... below `duration`.

        Args:
            times: seconds at which each frame begins to show, ascending.
            duration: seconds from `times[0]` to the end of the last frame.
        """
        rate = _steady_rate(times)
        fps = self.fps if rate is None else rate * _ratio(self.fps / rate)
        # A tolerance of a thousandth of a tick adds no frame where rounding puts the end just behind a tick.
        ticks = times[0] + np.arange(math.ceil(duration * fps - 1e-3)) / fps
        if rate is not None and fps <= rate and (times[0] + duration - times[-1]) * rate < 1.5:
            # The last tick may stand nearer to the frame that would come next: the one before has the last.
            ticks = ticks[ticks < times[-1] + 0.5 / rate + 1e-6]
        after = np.searchsorted(times, ticks).clip(1, max(len(times) - 1, 1))
        before = after - 1
        after = after.clip(max=len(times) - 1)
        nearer_before = ticks - times[before] <= times[after] - ticks
        return np.where(nearer_before, before, after)


def _steady_rate(times: Float[np.ndarray, "t"]) -> float | None:
    """Frames per second, where they come evenly."""
    steps = np.diff(times)
    if len(steps) < 2 or np.ptp(steps) > 1e-6:
        return None
    return float(len(steps) / (times[-1] - times[0]))


def _ratio(exact: float) -> float:
    """Frames taken of each: the ratio of two rates, or of the whole numbers that they stand for.

    Files round rates: 23.976 is 23.98 in some, and 1175/49 in others, which are 2 parts in 10,000 away.
    """
    for scale in (1.0, float(NTSC), float(1 / NTSC)):
        simple = float(Fraction(exact * scale).limit_denominator(32))
        if abs(exact * scale - simple) < 2e-4 * simple:
            return simple
    return exact


@dataclass(frozen=True)
class ResizeCrop:
    """Cut the largest window of the asked shape out of a video and resize it, antialiased.

    The same as resizing the shortest side and cropping, with less to resize.

    Attributes:
        height: pixels of the result.
        width: pixels of the result.
        random: place the window by the seed, instead of at the centre.
        zoom: with `random`, the window is 1 to `zoom` times smaller than the largest, by the seed.
    """

    height: int
    width: int
    random: bool = False
    zoom: float = 1.0

    def __post_init__(self):
        if self.height < 1 or self.width < 1:
            raise InputError(f"height and width must be at least 1 pixel, got {self.height} x {self.width}")
        if self.zoom < 1 or (self.zoom > 1 and not self.random):
            raise InputError(f"zoom must be 1, or above 1 together with random crops; got {self.zoom}")

    def __call__(self, pixels: UInt8[Tensor, "c t h w"], seed: int = 0) -> UInt8[Tensor, "c t height width"]:
        """The cropped and resized frames; all frames share one window."""
        h, w = pixels.shape[-2:]
        scale = min(h / self.height, w / self.width)
        top, left = 0.5, 0.5
        if self.random:
            draw = random.Random(seed)
            scale /= 1 + (self.zoom - 1) * draw.random()
            top, left = draw.random(), draw.random()
        rows = min(h, max(1, round(self.height * scale)))
        columns = min(w, max(1, round(self.width * scale)))
        y, x = round(top * (h - rows)), round(left * (w - columns))
        window = pixels[:, :, y : y + rows, x : x + columns]
        if (rows, columns) == (self.height, self.width):
            return window.clone()
        resized = torch.nn.functional.interpolate(
            rearrange(window, "c t h w -> t c h w").float(),
            size=(self.height, self.width),
            mode="bicubic",
            antialias=True,
        )
        return rearrange(resized.round().clamp(0, 255).to(torch.uint8), "t c h w -> c t h w").contiguous()


@dataclass(frozen=True)
class ToUnitRange:
    """Bytes 0..255 to floats -1..1."""

    def __call__(self, pixels: UInt8[Tensor, "c t h w"]) -> Float[Tensor, "c t h w"]:
        """`pixels / 127.5 - 1`."""
        return pixels.float() / 127.5 - 1
