"""References: images of who or what shall be in a clip, as tokens beside it that are no frames of it."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.conditions.condition import Featured, Rows
from vdit.types import Appended, ClipBatch, DenoiserInput, InputError, Slot, onto

__all__ = ["ReferenceImages"]


class ReferenceImages(Rows, Featured[Tensor]):
    """Shows images, each coded alone, as tokens at places before the clip begins: the first at latent frame
    -1, the next at -2 (as Phantom has them, Liu et al. 2025). Its null is no images.

    Args:
        most: images a clip may have.
        drop: probability of training a clip without its references.
    """

    name = "references"
    slots = frozenset({Slot.TOKENS})
    asks = "references"
    reads = frozenset({"references"})

    def __init__(self, most: int = 1, drop: float = 0.1) -> None:
        super().__init__(drop)
        if most < 1:
            raise InputError(f"references may be most {most}, but must be at least 1")
        self.most = most

    @property
    def fingerprint(self) -> str:
        return f"references {self.most}"

    def check(self, batch: ClipBatch) -> None:
        if batch.references is None:
            if batch.pixels is not None:
                raise InputError(
                    "this model learns references, and these clips have none: give clips that have some "
                    "(a world with references: true), or leave out ReferenceImages"
                )
            return
        if (count := int(batch.references.mask.sum(1).max())) > self.most:
            raise InputError(f"this model takes {self.most} references a clip, and got {count}")

    def feature(self, batch: ClipBatch, codec: TiledCodec) -> Float[Tensor, "b k c_mask h w"]:
        """Latents of every image; before the channels, whether there is one."""
        size = batch.latents if batch.latents is not None else batch.pixels
        assert size is not None
        given = batch.references
        if given is None or not given.mask.any():
            h, w = size.shape[-2:]
            if batch.latents is None:
                _, h, w = codec.codec.latent_size(1, h, w)
            return torch.zeros(len(batch), self.most, 1 + codec.codec.latent_channels, h, w).to(size.device)
        b, k = given.mask.shape
        coded = codec.encode(rearrange(given.pixels, "b k c h w -> (b k) c 1 h w"))
        latents = rearrange(coded, "(b k) c 1 h w -> b k c h w", b=b)
        there = rearrange(given.mask, "b k -> b k 1 1 1").to(latents.dtype)
        rows = torch.cat([there.expand(-1, -1, 1, *latents.shape[3:]), latents * there], dim=2)
        full = rows.new_zeros(b, self.most, *rows.shape[2:])
        full[:, : min(k, self.most)] = rows[:, : self.most]
        return full

    def feature_size(self, codec: VideoCodec, t: int, h: int, w: int) -> tuple[int, ...]:
        _, *size = codec.latent_size(t, h, w)
        return self.most, 1 + codec.latent_channels, *size

    def signal(self, batch: ClipBatch) -> Float[Tensor, "b k c_mask h w"]:
        return onto(batch.features[self.name], batch.fps.device)

    def fill(self, inputs: DenoiserInput, signal: Tensor) -> DenoiserInput:
        mask: Bool[Tensor, "b k"] = signal[:, :, 0, 0, 0] > 0.5
        place = -1.0 - torch.arange(signal.shape[1], device=signal.device)
        return inputs.with_images(Appended(signal[:, :, 1:], place.expand(len(signal), -1), mask))
