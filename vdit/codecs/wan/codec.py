"""The Wan 2.1 and 2.2 video autoencoders (Wan et al. 2025, sec. 4.1).

    pixels ── conv ── [residual x blocks ── down] x stages ── middle ── conv ── moments
    latents ── conv ── middle ── [residual x blocks+1 ── up] x stages ── conv ── pixels

The middle is attention among the positions of a frame, between two residual blocks. Version 2.2 enters and
leaves by squares of pixels, and goes around its stages by shortcuts without weights.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.causal import CausalConv3d, Chain
from vdit.codecs.codec import Posterior, VideoCodec
from vdit.codecs.streaming import Memory
from vdit.codecs.wan.blocks import (
    ActiveNorm,
    AverageDown,
    Downsample,
    FrameAttention,
    RepeatUp,
    ResidualBlock,
    Upsample,
)
from vdit.nn.conv import Conv3d
from vdit.types import InputError

__all__ = ["WanCodec"]

LOGVAR_RANGE = (-30.0, 20.0)


class Stage(nn.Module):
    """Residual blocks at one size, then a change of size; with a shortcut around both in version 2.2.

    Shapes: `b c_in t h w` -> `b c_out t' h' w'`.
    """

    def __init__(self, blocks: Chain, resample: nn.Module | None, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.resample, self.shortcut = blocks, resample, shortcut

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        y = self.blocks(x, memory)
        if self.resample is not None:
            y = self.resample(y, memory)
        return y if self.shortcut is None else y + self.shortcut(x, memory)


class Head(nn.Module):
    """Norm, silu and a convolution: the way out of a network.

    Shapes: `b c_in t h w` -> `b c_out t h w`.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm = ActiveNorm(c_in)
        self.conv = CausalConv3d(c_in, c_out)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        return self.conv(x, memory, self.norm)


class WanCodec(VideoCodec):
    """A Wan video VAE: 4x8x8 to 16 channels (2.1) or 4x16x16 to 48 (2.2), at their published sizes.

    Args:
        latent_channels: channels of a latent.
        encoder_width: channels of the encoder's first stage.
        decoder_width: channels of the decoder's last stage.
        multipliers: width of each stage over the first, from pixels to latents.
        blocks: residual blocks a stage of the encoder; the decoder has one more.
        strides_t: stride in time between one stage and the next, each 1 or 2; in space it is always 2.
        patch: pixels of one side of the square that enters and leaves as channels.
        shortcuts: whether stages have shortcuts without weights (2.2).
        latent_mean: mean of each latent channel, as published; zeros where it is None.
        latent_std: standard deviation of each latent channel; ones where it is None.

    Raises:
        InputError: lists whose lengths do not fit together, or sizes out of range.
    """

    def __init__(
        self,
        latent_channels: int = 16,
        encoder_width: int = 96,
        decoder_width: int = 96,
        multipliers: Sequence[int] = (1, 2, 4, 4),
        blocks: int = 2,
        strides_t: Sequence[int] = (1, 2, 2),
        patch: int = 1,
        shortcuts: bool = False,
        latent_mean: Sequence[float] | None = None,
        latent_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if len(strides_t) + 1 != len(multipliers) or any(stride not in (1, 2) for stride in strides_t):
            raise InputError(
                f"{len(multipliers)} multipliers need {len(multipliers) - 1} strides_t of 1 or 2, "
                f"not {list(strides_t)}"
            )
        sizes = (latent_channels, encoder_width, decoder_width, blocks, patch, *multipliers)
        if min(sizes) < 1:
            raise InputError(f"widths, multipliers, blocks and patch must be at least 1, not {sizes}")
        self.settings = {
            "latent_channels": latent_channels,
            "encoder_width": encoder_width,
            "decoder_width": decoder_width,
            "multipliers": list(multipliers),
            "blocks": blocks,
            "strides_t": list(strides_t),
            "patch": patch,
            "shortcuts": shortcuts,
            "latent_mean": None if latent_mean is None else list(latent_mean),
            "latent_std": None if latent_std is None else list(latent_std),
        }
        self.latent_channels, self.patch = latent_channels, patch
        self.stride_t = 2 ** sum(stride == 2 for stride in strides_t)
        self.stride_s = patch * 2 ** len(strides_t)
        encoder_widths = [encoder_width * m for m in multipliers]
        decoder_widths = [decoder_width * m for m in reversed(multipliers)]
        self.encoder = Encoder(latent_channels, encoder_widths, blocks, strides_t, patch, shortcuts)
        self.to_moments = Conv3d(2 * latent_channels, 2 * latent_channels, 1)
        self.from_latent = Conv3d(latent_channels, latent_channels, 1)
        self.decoder = Decoder(
            latent_channels, decoder_widths, blocks + 1, tuple(reversed(strides_t)), patch, shortcuts
        )
        self.register_statistics(latent_mean, latent_std)

    def posterior(self, pixels: Float[Tensor, "b 3 t h w"], memory: Memory | None = None) -> Posterior:
        x = rearrange(pixels, "b c t (h q) (w r) -> b (c r q) t h w", q=self.patch, r=self.patch)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        mean, logvar = self.to_moments(self.encoder(x, memory)).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(*LOGVAR_RANGE))

    def reconstruct(
        self, raw: Float[Tensor, "b c t h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b 3 t h w"]:
        raw = raw.contiguous(memory_format=torch.channels_last_3d)
        x = self.decoder(self.from_latent(raw), memory)
        return rearrange(x, "b (c r q) t h w -> b c t (h q) (w r)", q=self.patch, r=self.patch)

    def working_values(self, t: int, h: int, w: int) -> int:
        # Two frames of the past for every convolution of the last stage come on top.
        width = max(self.settings["encoder_width"], self.settings["decoder_width"])
        return (10 * t + 36) * width * h * w // self.patch**2


class Encoder(nn.Module):
    """From squares of pixels as channels to mean and log-variance.

    Shapes: `b 3*patch^2 t h w` -> `b 2*latent_channels t' h' w'`.
    """

    def __init__(
        self,
        latent_channels: int,
        widths: Sequence[int],
        blocks: int,
        strides_t: Sequence[int],
        patch: int,
        shortcuts: bool,
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(3 * patch**2, widths[0])
        self.stages = Chain()
        for c_in, width, stride_t in zip((widths[0], *widths[:-1]), widths, (*strides_t, None), strict=True):
            residual = Chain(ResidualBlock(c_in if j == 0 else width, width) for j in range(blocks))
            resample = None if stride_t is None else Downsample(width, stride_t)
            shrink = (1, 1) if stride_t is None else (stride_t, 2)
            shortcut = AverageDown(width, *shrink) if shortcuts else None
            self.stages.append(Stage(residual, resample, shortcut))
        self.middle = middle(widths[-1])
        self.head = Head(widths[-1], 2 * latent_channels)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        x = self.stages(self.conv_in(x, memory), memory)
        return self.head(self.middle(x, memory), memory)


class Decoder(nn.Module):
    """From latents to squares of pixels as channels. Without shortcuts, growing halves the channels.

    Shapes: `b latent_channels t h w` -> `b 3*patch^2 t' h' w'`.
    """

    def __init__(
        self,
        latent_channels: int,
        widths: Sequence[int],
        blocks: int,
        strides_t: Sequence[int],
        patch: int,
        shortcuts: bool,
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(latent_channels, widths[0])
        self.middle = middle(widths[0])
        self.stages = Chain()
        c_in = widths[0]
        for width, stride_t in zip(widths, (*strides_t, None), strict=True):
            residual = Chain(ResidualBlock(c_in if j == 0 else width, width) for j in range(blocks))
            if stride_t is None:
                self.stages.append(Stage(residual, None, None))
                break
            c_out = width if shortcuts else width // 2
            shortcut = RepeatUp(c_in, c_out, stride_t, 2) if shortcuts else None
            self.stages.append(Stage(residual, Upsample(width, c_out, stride_t), shortcut))
            c_in = c_out
        self.head = Head(widths[-1], 3 * patch**2)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        x = self.middle(self.conv_in(x, memory), memory)
        return self.head(self.stages(x, memory), memory)


def middle(width: int) -> Chain:
    """What both networks do where frames are smallest."""
    return Chain([ResidualBlock(width, width), FrameAttention(width), ResidualBlock(width, width)])
