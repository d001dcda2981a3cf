"""Two ways to show a backbone clean images that stand at some time of a clip."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from vdit.types import Appended, DenoiserInput, Slot

__all__ = ["WAYS", "Way", "latent_place"]


class Way(NamedTuple):
    """A slot, and how images fill it."""

    slot: Slot
    fill: Callable[[DenoiserInput, Appended, int], DenoiserInput]


def latent_place(frame: Float[Tensor, "*k"], stride_t: int) -> Float[Tensor, "*k"]:
    """Where a pixel frame stands on the axis of latent frames: frame 0 alone at 0, then in groups."""
    return torch.where(frame == 0, 0.0, (frame + (stride_t - 1) / 2) / stride_t)


def as_tokens(inputs: DenoiserInput, images: Appended, stride_t: int) -> DenoiserInput:
    """Tokens of their own, that the clip attends to."""
    return inputs.with_images(images)


def as_channels(inputs: DenoiserInput, images: Appended, stride_t: int) -> DenoiserInput:
    """Channels of the latents that share their time: one for each pixel frame of a latent frame, which is 1
    where an image stands, and the image's latents; zeros where there is none. Of two images in one latent
    frame the last stays."""
    b, _, t, h, w = inputs.latents.shape
    frame = (images.frame * stride_t - (stride_t - 1) / 2).round().long().clamp(min=0)  # b k, of pixels
    mask = F.one_hot((frame - 1) % stride_t, stride_t).to(images.latents.dtype)  # b k s
    shown = torch.cat([repeat(mask, "b k s -> b k s h w", h=h, w=w), images.latents], dim=2)
    group = torch.where(images.mask, (frame + stride_t - 1) // stride_t, t)  # those that are none: beyond
    channels = shown.new_zeros(b, t + 1, *shown.shape[2:])
    rows = torch.arange(b, device=group.device)
    for k in range(group.shape[1]):
        channels[rows, group[:, k]] = shown[:, k]
    return replace(inputs, channels=rearrange(channels[:, :t], "b t c h w -> b c t h w"))


WAYS: Mapping[str, Way] = MappingProxyType(
    {"tokens": Way(Slot.TOKENS, as_tokens), "channels": Way(Slot.CHANNELS, as_channels)}
)
"""The ways, by the name that settings have for them."""
