"""A part of the picture that is known through the whole clip, while the rest is painted anew."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.conditions.condition import Featured, Known
from vdit.draws import Draws
from vdit.types import ClipBatch, DenoiserInput, InputError, Slot, onto

__all__ = ["KnownRegion", "Region"]

LEAST, MOST = 0.25, 0.75
"""Sides of what training hides, over those of the picture."""


class Region(NamedTuple):
    """Latents of clips, and where they are known; one plane for all frames, or one number for all of it."""

    latents: Float[Tensor, "b c t h w"]
    known: Bool[Tensor, "b 1 1 #h #w"]


class KnownRegion(Featured[Region]):
    """Keeps what is outside of a mask: those latents are clean, with sigma 0, and carry no loss.

    Training hides a rectangle of latents of some clips and knows the others. Latents beside the rectangle
    have seen a little of what is in it; so they have in sampling, where the video is coded whole.

    Args:
        drop: probability of training a clip without any.
    """

    name = "known_region"
    slots = frozenset({Slot.KNOWN})
    asks = "frames"
    reads = frozenset({"repaint"})

    def __init__(self, drop: float = 0.9) -> None:
        super().__init__(drop)

    @property
    def fingerprint(self) -> str:
        return "nothing is kept of a clip but its latents"

    def check(self, batch: ClipBatch) -> None:
        if batch.repaint is not None and not batch.repaint.mask.any():
            raise InputError("the mask is black everywhere: paint white what shall change")

    def feature(self, batch: ClipBatch, codec: TiledCodec) -> Tensor:
        """Latents of the video that is repainted and, before their channels, where they are known.

        In training, where latents are at hand, nothing.
        """
        if batch.repaint is None:
            return torch.zeros(len(batch), 1)
        latents = codec.encode(batch.repaint.pixels)
        h, w = latents.shape[-2:]
        hidden = F.adaptive_max_pool2d(batch.repaint.mask[:, None].float(), (h, w))  # whatever it touches
        plane = rearrange(1 - hidden, "b 1 h w -> b 1 1 h w").expand(-1, -1, latents.shape[2], -1, -1)
        return torch.cat([plane.to(latents.dtype), latents], dim=1)

    def feature_size(self, codec: VideoCodec, t: int, h: int, w: int) -> tuple[int, ...]:
        return (1,)

    def signal(self, batch: ClipBatch) -> Region:
        assert batch.latents is not None
        if batch.repaint is None:
            return self.null(Region(batch.latents, batch.latents.new_zeros(len(batch), 1, 1, 1, 1).bool()))
        kept = onto(batch.features[self.name], batch.fps.device)
        return Region(kept[:, 1:], kept[:, :1, :1] > 0.5)

    def drawn(self, batch: ClipBatch, draws: Draws) -> Region:
        assert batch.latents is not None
        numbers = draws.uniform(len(batch), 5).tolist()
        if all(row[0] < self.drop for row in numbers):
            return self.signal(batch)
        h, w = batch.latents.shape[-2:]
        known = torch.zeros(len(batch), 1, 1, h, w, dtype=torch.bool)
        for plane, (dropped, *box) in zip(known, numbers, strict=True):
            if dropped >= self.drop:
                plane[:] = True
                top, bottom = _side(h, box[0], box[1])
                left, right = _side(w, box[2], box[3])
                plane[..., top:bottom, left:right] = False
        return Region(batch.latents, onto(known, batch.latents.device))

    def null(self, signal: Region) -> Region:
        return signal._replace(known=torch.zeros_like(signal.known))

    def mix(self, signal: Region, null: Region, hidden: Bool[Tensor, "b"]) -> Region:
        return signal._replace(known=signal.known & ~rearrange(hidden, "b -> b 1 1 1 1"))

    def stack(self, signals: Sequence[Region]) -> Region:
        return Region(*(torch.cat(parts) for parts in zip(*signals, strict=True)))

    def known(self, signal: Region) -> Known:
        mask = signal.known.to(signal.latents.dtype)
        return Known(signal.latents, mask.expand(-1, -1, *signal.latents.shape[2:]))

    def fill(self, inputs: DenoiserInput, signal: Region) -> DenoiserInput:
        mask = signal.known.to(inputs.latents.dtype)
        latents = torch.lerp(inputs.latents, signal.latents, mask)
        return replace(inputs, latents=latents, sigma=inputs.sigma * (1 - mask[:, 0]))


def _side(size: int, long: float, place: float) -> tuple[int, int]:
    """Where the hidden part of a side begins and ends, by numbers in [0, 1)."""
    length = max(1, round(size * (LEAST + (MOST - LEAST) * long)))
    start = int(place * (size - length + 1))
    return start, start + length
