"""What clips that are scored are given of the true ones, besides their prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.eval.heard import Heard, score_heard
from vdit.eval.region_score import middle
from vdit.sample.sampler import NOTHING, Wish, wish_of
from vdit.types import Clip, Repaint
from vdit.world.source import WorldSource

__all__ = ["Asked"]


@dataclass(frozen=True)
class Asked:
    """What is given, and the true clips that it is from.

    Attributes:
        clips: the true ones; none where nothing looks at them.
        frames: which of their frames are given.
        names: what is given besides: camera, references, motion, region.
        long: whether clips are longer than what is sampled at once.
        pace: whether the frame rate is asked for.
    """

    clips: Sequence[Clip]
    frames: Sequence[range]
    names: Sequence[str]
    long: bool
    pace: bool

    @classmethod
    def of(cls, source: WorldSource, names: Sequence[str], length: int, once: int, stride_t: int) -> "Asked":
        """What is called by these names.

        Args:
            source: of the true clips.
            names: first, prefix (the first half), keyframe (the middle one), last; and what is given besides.
            length: of a clip, in frames.
            once: frames that are sampled at once.
            stride_t: pixel frames of a latent frame, of which a prefix is a whole number.
        """
        half, last = (length - 1) // stride_t // 2 * stride_t, length - 1
        places = {
            "first": range(1),
            "prefix": range(half + 1),
            "keyframe": range(half, half + 1),
            "last": range(last, length),
        }
        pace, long = bool(source.rates), length > once
        clips = [source[i] for i in range(len(source))] if names or long or pace else []
        frames = [at for name, at in places.items() if name in names]
        return cls(clips, frames, [name for name in names if name not in places], long, pace)

    def wish(self, numbers: Sequence[int]) -> Wish:
        """What the clips of these numbers are given."""
        if not (self.frames or self.names):
            return NOTHING
        clips = [self.clips[number] for number in numbers]
        wish = wish_of(clips, [at for frames in self.frames for at in frames], self.names)
        if "region" not in self.names:
            return wish
        pixels = torch.stack([clip.pixels for clip in clips])
        mask = middle(*pixels.shape[-2:]).expand(len(pixels), -1, -1)
        return replace(wish, repaint=Repaint(pixels, mask))

    def heard(self, sampled: Sequence[Tensor], copies: Float[Tensor, "n 3 t h w"]) -> Heard:
        """The scores of sampled clips; `copies` are what the codec makes of the true ones."""
        if not self.clips:
            return Heard()
        ends = [frames[-1] for frames in self.frames]
        names = [*self.names, *(["pace"] if self.pace else [])]
        return score_heard(torch.stack(list(sampled)), self.clips, copies, ends, names, self.long)
