"""What crosses a boundary between packages: clips, batches, tokens and the input of a denoiser.

Axes, everywhere in this project:

    b batch    c channels    t frames    h height    w width    n tokens    d width of a token

`t` is always the frame axis. Diffusion time is `sigma`: 0 is data, 1 is noise. Pixels lie in [-1, 1];
latents have zero mean and unit variance per channel. Video tensors are `b c t h w`.
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "Clip",
    "ClipBatch",
    "ClipSource",
    "DenoiserInput",
    "InputError",
    "Slot",
    "Tokens",
]


class InputError(ValueError):
    """What a user gave cannot be used; the message names the value, the limit and the remedy.

    Command lines print the message alone and leave with status 2; a traceback would only hide it.
    """


@dataclass(frozen=True)
class Clip:
    """One video with what is said about it.

    Attributes:
        id: stable name of the clip, unique within its source.
        pixels: RGB frames in [-1, 1].
        fps: frames per second.
        caption: the text that describes it; may be empty.
    """

    id: str
    pixels: Float[Tensor, "c t h w"]
    fps: float
    caption: str


@runtime_checkable
class ClipSource(Protocol):
    """A finite, indexed set of clips: a folder, a list, shards, or a seed.

    `self[i]` is a pure function of `i`. `fingerprint` changes whenever any pixel or caption could:
    caches are addressed by it.
    """

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip: ...

    def caption(self, index: int) -> str:
        """The caption of clip `index`, without decoding or drawing its pixels."""
        ...


@dataclass(frozen=True)
class ClipBatch:
    """Clips of one shape, stacked. One of `pixels` and `latents` is present, or both.

    Attributes:
        ids: one name a clip, for messages that must say which clip was at fault.
        captions: one text a clip.
        fps: frames per second of each clip.
        pixels: RGB in [-1, 1].
        latents: normalised codec latents.
    """

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    fps: Float[Tensor, "b"]
    pixels: Float[Tensor, "b c t h w"] | None = None
    latents: Float[Tensor, "b c_latent t_latent h_latent w_latent"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> "ClipBatch":
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            fps=self.fps.to(device),
            pixels=None if self.pixels is None else self.pixels.to(device),
            latents=None if self.latents is None else self.latents.to(device),
        )


class Tokens(NamedTuple):
    """A padded batch of token sequences.

    A named tuple and not a dataclass, as everything that goes through the forward of a wrapped module
    must be: Fabric walks through arguments and results and refuses frozen dataclasses.

    Attributes:
        values: the tokens; what stands where `mask` is False is undefined.
        mask: True where a token is real.
    """

    values: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]


class Slot(StrEnum):
    """The places of a `DenoiserInput` that a condition may fill and a backbone may accept."""

    TEXT = "text"
    KNOWN = "known"
    CHANNELS = "channels"
    IMAGE_TOKENS = "image_tokens"


@dataclass(frozen=True)
class DenoiserInput:
    """Everything a backbone sees in one evaluation.

    Attributes:
        latents: x_sigma, the noisy latents; where `sigma` is 0 they are clean.
        sigma: diffusion time in [0, 1] of every latent position. The last three axes may each be 1:
            `b 1 1 1` is one sigma a clip, `b t 1 1` one a latent frame.
        text: slot `text`: tokens of the prompt, to be attended to.
        channels: slot `channels`: what is joined to the latents before they are cut into patches.
        image_tokens: slot `image_tokens`: tokens of given images; they have keys and values of their own.
    """

    latents: Float[Tensor, "b c t h w"]
    sigma: Float[Tensor, "b #t #h #w"]
    text: Tokens | None = None
    channels: Float[Tensor, "b c_extra t h w"] | None = None
    image_tokens: Float[Tensor, "b k d_image"] | None = None

    def clips(self, rows: Int[Tensor, "n"]) -> "DenoiserInput":
        """The inputs of some clips of the batch, every field of them."""

        def take(value: Any) -> Any:
            if isinstance(value, Tokens):
                return Tokens(value.values[rows], value.mask[rows])
            return None if value is None else value[rows]

        return DenoiserInput(**{field.name: take(getattr(self, field.name)) for field in fields(self)})
