"""Frames that are given, the first or the first and the last, as channels and as tokens of an encoder."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.conditions.condition import GivenFrames, Rows
from vdit.text.encoder import ImageEncoder
from vdit.types import ClipBatch, DenoiserInput, Given, InputError, Slot, onto

__all__ = ["FrameCondition", "ImageChannels", "ImageTokens", "Places"]

Places = Literal["first", "first_and_last"]

AT: Mapping[str, tuple[int, ...]] = MappingProxyType({"first": (0,), "first_and_last": (0, -1)})


class FrameCondition(Rows, GivenFrames[Tensor]):
    """A condition on given frames. What frozen networks make of them, the feature, can be kept.

    Args:
        places: which frames are given; training takes them from the clips themselves.
        drop: probability of training a clip without them.
    """

    def __init__(self, places: Places = "first", drop: float = 0.0) -> None:
        super().__init__(drop)
        self.places: Places = places

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{type(self).__name__} {self.places} {self.settings()}".encode()).hexdigest()

    def settings(self) -> str:
        """What else a feature depends on."""
        return ""

    def given(self, pixels: Float[Tensor, "b 3 t h w"]) -> Given:
        """The frames of whole clips that this condition is about."""
        return Given.of(pixels, AT[self.places])

    def check(self, batch: ClipBatch) -> None:
        given = batch.given
        wanted = None if given is None else self.given(torch.zeros_like(given.pixels)).mask
        if given is None or wanted is None or not torch.equal(wanted, given.mask):
            at = [] if given is None else sorted(set(given.mask.nonzero()[:, 1].tolist()))
            what = (
                "a first frame (--first)"
                if self.places == "first"
                else "a first and a last frame (--first, --last)"
            )
            raise InputError(f"this model is to be given {what}, and got {f'frames {at}' if at else 'none'}")

    def feature(self, batch: ClipBatch, codec: TiledCodec) -> Tensor:
        if batch.given is not None:
            return self.seen(batch.given, codec)
        assert batch.pixels is not None  # whole clips, where nothing is given
        return self.seen(self.given(batch.pixels), codec)

    @abstractmethod
    def seen(self, given: Given, codec: TiledCodec) -> Tensor:
        """What the model is to see of given frames, one row a clip; by frozen networks, without gradient."""

    def signal(self, batch: ClipBatch) -> Tensor:
        return onto(batch.features[self.name], batch.fps.device)


class ImageChannels(FrameCondition):
    """Given frames as channels: a mask, and the latents of a clip that is grey in all other frames.

    The mask has one channel for each pixel frame of a latent frame, the first of which fills its group.
    Source: Wan Team 2025, sec. 5.1.1.

    Args:
        places: see `FrameCondition`.
        drop: likewise.
        mask: without it, the latents are those of the given frame alone, and zeros follow (VideoX-Fun 2.1).
    """

    name = "image_channels"
    slots = frozenset({Slot.CHANNELS})

    def __init__(self, places: Places = "first", drop: float = 0.0, mask: bool = True) -> None:
        super().__init__(places, drop)
        self.mask = mask

    def settings(self) -> str:
        return "" if self.mask else "alone"

    def seen(self, given: Given, codec: TiledCodec) -> Float[Tensor, "b c_extra t h w"]:
        if not self.mask:
            return alone(given, codec)
        latents = codec.encode(given.pixels)
        mask = frame_mask(given.mask, codec.codec.stride_t)
        h, w = latents.shape[-2:]
        return torch.cat([repeat(mask.to(latents.dtype), "b s t -> b s t h w", h=h, w=w), latents], dim=1)

    def feature_size(self, codec: VideoCodec, t: int, h: int, w: int) -> tuple[int, ...]:
        masks = codec.stride_t if self.mask else 0
        return masks + codec.latent_channels, *codec.latent_size(t, h, w)

    def fill(self, inputs: DenoiserInput, signal: Tensor) -> DenoiserInput:
        return replace(inputs, channels=signal)


class ImageTokens(FrameCondition):
    """Given frames as tokens of an image encoder, one image after the other.

    Args:
        encoder: frozen, and no part of the weights that are trained.
        places: see `FrameCondition`.
        drop: likewise.
    """

    name = "image_tokens"
    slots = frozenset({Slot.IMAGE_TOKENS})

    def __init__(self, encoder: ImageEncoder, places: Places = "first", drop: float = 0.0) -> None:
        super().__init__(places, drop)
        self.encoder = encoder

    def settings(self) -> str:
        return self.encoder.fingerprint

    def seen(self, given: Given, codec: TiledCodec) -> Float[Tensor, "b k d"]:
        tokens = [self.encoder.encode(given.pixels[:, :, place]) for place in AT[self.places]]
        return torch.cat(tokens, dim=1).to(given.pixels.device)

    def feature_size(self, codec: VideoCodec, t: int, h: int, w: int) -> tuple[int, ...]:
        tokens, width = self.encoder.size
        return len(AT[self.places]) * tokens, width

    def fill(self, inputs: DenoiserInput, signal: Tensor) -> DenoiserInput:
        return replace(inputs, image_tokens=signal)


def frame_mask(given: Bool[Tensor, "b t"], stride_t: int) -> Bool[Tensor, "b s t_latent"]:
    """Which pixel frames of each latent frame are given; the first frame fills a group of its own."""
    whole = torch.cat([repeat(given[:, :1], "b 1 -> b s", s=stride_t), given[:, 1:]], dim=1)
    return rearrange(whole, "b (t s) -> b s t", s=stride_t)


def alone(given: Given, codec: TiledCodec) -> Float[Tensor, "b c t h w"]:
    """The latents of the first frame as an image, and zeros after it."""
    image = codec.encode(given.pixels[:, :, :1])
    t = codec.codec.latent_size(*given.pixels.shape[2:])[0]
    latents = image.new_zeros(*image.shape[:2], t, *image.shape[3:])
    latents[:, :, :1] = image * given.mask[:, 0].to(image.dtype).view(-1, 1, 1, 1, 1)
    return latents
