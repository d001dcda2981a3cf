"""A second video beside the clip: what is known of it, and a mask of what is not."""

import hashlib
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.conditions.condition import GivenFrames, Rows
from vdit.conditions.frames import AT, Places
from vdit.types import ClipBatch, DenoiserInput, Given, InputError, Slot, onto

__all__ = ["SecondVideo"]


class SecondVideo(Rows, GivenFrames[Tensor]):
    """Given frames and kept parts of the picture as a video of its own, which is grey elsewhere.

    Its channels are the latents of what is known, those of what is to change, of which nothing is shown, and
    a mask: of every pixel that shares a latent, 1 where it is to change. Any frames may be given, or none.
    Its null is a video of which nothing is known.
    Source: Jiang et al. 2025 (VACE), sec. 3.3.1.

    Args:
        places: which frames training takes from the clips themselves.
        drop: probability of training a clip without them.
        stride_s: pixel rows (and columns) of a latent.
    """

    name = "second_video"
    slots = frozenset({Slot.CONTEXT})
    reads = frozenset({"given", "repaint"})

    def __init__(self, places: Places = "first", drop: float = 0.0, stride_s: int = 8) -> None:
        super().__init__(drop)
        self.places: Places = places
        self.stride_s = stride_s

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{type(self).__name__} {self.places}".encode()).hexdigest()

    def given(self, pixels: Float[Tensor, "b 3 t h w"]) -> Given:
        return Given.of(pixels, AT[self.places])

    def check(self, batch: ClipBatch) -> None:
        """Any frames may be given, any part of the picture be kept, and nothing at all."""

    def feature(self, batch: ClipBatch, codec: TiledCodec) -> Float[Tensor, "b c_context t h w"]:
        if codec.codec.stride_s != self.stride_s:
            raise InputError(
                f"a second video counts {self.stride_s} rows a latent, and the codec {codec.codec.stride_s}: "
                f"give the condition stride_s {codec.codec.stride_s}"
            )
        pixels, change = self.known_pixels(batch, codec)
        shown = torch.where(change, 0.0, pixels)
        known, nothing = codec.encode(shown), codec.encode(torch.zeros_like(shown[:1]))
        mask = change_mask(change[:, 0], known.shape[2], self.stride_s).to(known.dtype)
        return torch.cat([known, nothing.expand_as(known), mask], dim=1)

    def feature_size(self, codec: VideoCodec, t: int, h: int, w: int) -> tuple[int, ...]:
        return 2 * codec.latent_channels + self.stride_s**2, *codec.latent_size(t, h, w)

    def known_pixels(
        self, batch: ClipBatch, codec: TiledCodec
    ) -> tuple[Float[Tensor, "b 3 t h w"], Bool[Tensor, "b 1 t h w"]]:
        """A video, and where it is to change."""
        given, repaint = batch.given, batch.repaint
        if batch.pixels is not None:  # in training
            given = self.given(batch.pixels)
        if given is None and repaint is None:
            assert batch.latents is not None  # noise: it has the size
            b, _, t, h, w = batch.latents.shape
            size = (1 + codec.codec.stride_t * (t - 1), *(codec.codec.stride_s * side for side in (h, w)))
            return batch.latents.new_zeros(b, 3, *size), batch.latents.new_ones(b, 1, *size).bool()
        if repaint is None:
            assert given is not None
            pixels, change = given.pixels, torch.ones_like(given.pixels[:, :1]).bool()
        else:
            pixels = repaint.pixels
            change = rearrange(repaint.mask, "b h w -> b 1 1 h w").expand(-1, -1, pixels.shape[2], -1, -1)
        if given is None:
            return pixels, change
        there = rearrange(given.mask, "b t -> b 1 t 1 1")
        return torch.where(there, given.pixels, pixels), change & ~there

    def signal(self, batch: ClipBatch) -> Float[Tensor, "b c_context t h w"]:
        return onto(batch.features[self.name], batch.fps.device)

    def null(self, signal: Tensor) -> Tensor:
        planes = self.stride_s**2
        nothing = signal[:, :-planes].chunk(2, dim=1)[1]
        return torch.cat([nothing, nothing, torch.ones_like(signal[:, -planes:])], dim=1)

    def fill(self, inputs: DenoiserInput, signal: Tensor) -> DenoiserInput:
        return replace(inputs, context=signal)


def change_mask(change: Bool[Tensor, "b t h w"], t: int, stride_s: int) -> Float[Tensor, "b c t_latent h w"]:
    """Where pixels are to change, a channel for each that shares a latent, at `t` of the frames."""
    planes = rearrange(change.float(), "b t (h p) (w q) -> b (p q) t h w", p=stride_s, q=stride_s)
    return F.interpolate(planes, size=(t, *planes.shape[-2:]), mode="nearest-exact")
