"""What every video codec has in common: sizes, statistics, and encoding whole or in a stream."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.streaming import Memory
from vdit.draws import Draws
from vdit.types import InputError

__all__ = ["Posterior", "VideoCodec"]


class Posterior(NamedTuple):
    """The Gaussian that an encoder gives for a clip, before normalisation."""

    mean: Float[Tensor, "b c t h w"]
    logvar: Float[Tensor, "b c t h w"]

    def sample(self, draws: Draws) -> Float[Tensor, "b c t h w"]:
        """mean + std * noise."""
        noise = draws.normal(self.mean.shape, self.mean)
        return torch.addcmul(self.mean, torch.exp(0.5 * self.logvar), noise)

    def kl(self) -> Float[Tensor, "b"]:
        """KL divergence to the unit Gaussian in nats, the mean over latent values.

        Source: Kingma & Welling 2014, app. B.
        """
        kl = 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar)
        return kl.flatten(1).mean(1)


class VideoCodec(nn.Module, ABC):
    """A causal autoencoder for videos of 1 + stride_t * n frames; an image is a video of one frame.

    A family writes `prime`, `posterior` and `reconstruct` (raw latents, whole clips or one chunk of a
    stream) and sets the sizes. Latents handed out by `encode` are normalised to zero mean and unit variance
    per channel by statistics that are buffers, stored with the weights.

    Attributes:
        latent_channels: channels of a latent.
        stride_t: pixel frames per latent frame, after the first.
        stride_s: pixel rows (and columns) per latent row (and column).
        settings: the constructor's arguments, JSON-serialisable: what a folder stores to build it again.
        streams: whether a clip in chunks gives what it gives in one piece. Where a family's norms look at all
            frames it does not, and a stream is gathered before it is coded.
    """

    latent_channels: int
    stride_t: int
    stride_s: int
    settings: dict[str, Any]
    streams: bool = True
    latent_mean: Tensor
    latent_std: Tensor

    def register_statistics(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        """Create the statistics as buffers; to be called by a family's constructor.

        Raises:
            InputError: not one number a channel, or a deviation that is not above 0.
        """
        c = self.latent_channels
        for name, values in (("latent_mean", mean), ("latent_std", std)):
            if values is not None and len(values) != c:
                raise InputError(f"{name} has {len(values)} numbers for {c} latent channels")
        if std is not None and min(std) <= 0:
            raise InputError(f"latent_std has {min(std)}, but every deviation is above 0")
        self.register_buffer("latent_mean", torch.zeros(c) if mean is None else torch.tensor(mean))
        self.register_buffer("latent_std", torch.ones(c) if std is None else torch.tensor(std))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and so of what it computes with; of the statistics where there are no weights."""
        return next((weight.dtype for weight in self.parameters()), self.latent_mean.dtype)

    @abstractmethod
    def posterior(self, pixels: Float[Tensor, "b 3 t h w"], memory: Memory | None = None) -> Posterior:
        """The posterior of a clip, or of the next chunk of a stream when given its memory."""

    def prime(self, clips: Iterable[Float[Tensor, "b 3 t h w"]]) -> None:
        """Set what can be known from batches of clips in closed form, before the first step of training."""

    @abstractmethod
    def reconstruct(
        self, raw: Float[Tensor, "b c t h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b 3 t h w"]:
        """Pixels, not clamped, from latents that are not normalised."""

    @abstractmethod
    def working_values(self, t: int, h: int, w: int) -> int:
        """About how many numbers are in memory at once while t x h x w pixels are coded."""

    def forward(
        self, pixels: Float[Tensor, "b 3 t h w"], draws: Draws
    ) -> tuple[Float[Tensor, "b 3 t h w"], Posterior]:
        """The training pass: a reconstruction from `disturbed` latents, and the posterior."""
        self.check_pixels(*pixels.shape[2:])
        posterior = self.posterior(pixels)
        return self.reconstruct(self.disturbed(posterior, draws)), posterior

    def disturbed(self, posterior: Posterior, draws: Draws) -> Float[Tensor, "b c t h w"]:
        """The raw latents that training decodes: a sample of the posterior."""
        return posterior.sample(draws)

    def normalise(self, raw: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Raw latents to zero mean and unit variance per channel."""
        mean, std = (rearrange(x, "c -> c 1 1 1") for x in (self.latent_mean, self.latent_std))
        return (raw - mean) / std

    def denormalise(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Undo `normalise`."""
        mean, std = (rearrange(x, "c -> c 1 1 1") for x in (self.latent_mean, self.latent_std))
        return latents * std + mean

    def check_pixels(self, t: int, h: int, w: int, *, patch: tuple[int, int, int] = (1, 1, 1)) -> None:
        """Refuse clips whose size the strides do not divide, or whose latents the patches do not.

        Args:
            t: frames.
            h: rows.
            w: columns.
            patch: latent frames, rows and columns of what a transformer takes for one token.

        Raises:
            InputError: naming the two nearest counts of frames, or the two nearest sizes, that fit both.
        """
        frames = _nearest(t + self.stride_t - 1, self.stride_t * patch[0])
        frames = [count - self.stride_t + 1 for count in frames]
        if t < 1 or (t - 1) % self.stride_t:
            raise InputError(
                f"{t} frames do not fit this codec, which takes 1 + {self.stride_t}n: "
                f"use {frames[0]} or {frames[1]}"
            )
        units = (self.stride_s * patch[1], self.stride_s * patch[2])
        sides = [
            [side] if side % unit == 0 < side else _nearest(side, unit)
            for side, unit in zip((h, w), units, strict=True)
        ]
        sizes = sorted(product(*sides), key=lambda size: abs(size[0] - h) + abs(size[1] - w))
        nearest = " and ".join(f"{height}x{width}" for height, width in sizes[:2])
        if min(h, w) < 1 or h % self.stride_s or w % self.stride_s:
            multiples = f"{units[0]}" if units[0] == units[1] else f"{units[0]} rows and {units[1]} columns"
            what = "this codec" if units == (self.stride_s,) * 2 else "this codec and the patches"
            raise InputError(
                f"{h}x{w} pixels do not fit {what}: use multiples of {multiples}; "
                f"the nearest sizes that work are {nearest}"
            )
        size = (1 + (t - 1) // self.stride_t, h // self.stride_s, w // self.stride_s)
        told = f"latents of {size[0]}x{size[1]}x{size[2]} do not divide into patches of {patch}"
        if size[0] % patch[0]:
            raise InputError(f"{told}: use {frames[0]} or {frames[1]} frames")
        if size[1] % patch[1] or size[2] % patch[2]:
            raise InputError(f"{told}: the nearest sizes that work are {nearest}")

    def latent_size(
        self, t: int, h: int, w: int, *, patch: tuple[int, int, int] = (1, 1, 1)
    ) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip of t x h x w pixels. Raises as `check_pixels`."""
        self.check_pixels(t, h, w, patch=patch)
        return 1 + (t - 1) // self.stride_t, h // self.stride_s, w // self.stride_s

    def encode(self, pixels: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h w"]:
        """Normalised latents (the posterior's mean) of clips with pixels in [-1, 1].

        Raises:
            InputError: a frame count that is not 1 + stride_t * n, or a size the stride does not divide.
        """
        self.check_pixels(*pixels.shape[2:])
        return self.normalise(self.posterior(pixels.to(self.dtype)).mean)

    def decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 t h w"]:
        """Pixels in [-1, 1] from normalised latents."""
        return self.reconstruct(self.denormalise(latents).to(self.dtype)).clamp(-1, 1)

    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Float[Tensor, "b c t h w"]]:
        """`encode` chunk by chunk in memory that does not grow; any chunking gives the same latents.

        The first chunk has 1 + stride_t * n frames, every other stride_t * n.
        """
        if not self.streams:
            chunks = [torch.cat(list(chunks), dim=2)]
        memory = Memory() if self.streams else None
        for i, pixels in enumerate(chunks):
            t, h, w = pixels.shape[2:]
            self.check_pixels(t if i == 0 else t + 1, h, w)
            yield self.normalise(self.posterior(pixels.to(self.dtype), memory).mean)

    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Float[Tensor, "b 3 t h w"]]:
        """`decode` chunk by chunk; chunks of any number of latent frames give the same pixels."""
        if not self.streams:
            chunks = [torch.cat(list(chunks), dim=2)]
        memory = Memory() if self.streams else None
        for latents in chunks:
            yield self.reconstruct(self.denormalise(latents).to(self.dtype), memory).clamp(-1, 1)


def _nearest(length: int, unit: int) -> tuple[int, int]:
    """The two multiples of a unit around a length; above 0."""
    below = max(1, length // unit) * unit
    return below, below + unit
