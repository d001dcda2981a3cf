"""The native causal 3D VAE: the best linear code, and a network that corrects it on both sides.

    pixels ─┬─ blocks of 4x8x8 ── Linear ─────────────────────────────────┬─ mean
            └─ squares ── conv ── [residual ── down] x stages ────────────┴─ (and log-variance)

    latents ┬─ Linear ── blocks of 4x8x8 ─────────────────────────────────┬─ pixels
            └─ conv ── [residual ── up] x stages ── squares ──────────────┘

The linear code is found in closed form before the first step (principal components), and the networks
start at zero: training begins at the best linear codec and can only improve on it. The network of the
encoder may be left out.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.causal import CausalConv3d, Chain
from vdit.codecs.codec import Posterior, VideoCodec
from vdit.codecs.native.blocks import Downsample, ResidualBlock, Upsample
from vdit.codecs.native.linear_code import LinearCode
from vdit.codecs.native.squares import Squares
from vdit.codecs.streaming import Memory
from vdit.draws import Draws
from vdit.nn.norm import ChannelRMSNorm
from vdit.types import InputError

__all__ = ["NativeCodec"]

LOGVAR_RANGE = (-20.0, 10.0)


class NativeCodec(VideoCodec):
    """A causal video VAE; with the default strides it compresses 4x8x8 (frames, rows, columns).

    Args:
        latent_channels: channels of a latent.
        patch: pixels of one side of the square that enters and leaves as channels.
        widths: channels at each stage, from pixels to latents.
        encoder_blocks: residual blocks at each stage of the encoder; None leaves the encoder linear. Linear
            latents reconstruct a little worse and are much easier to model than those of a network.
        decoder_blocks: residual blocks at each stage of the decoder.
        strides: (time, space) stride between one stage and the next; each 1 or 2.
        kernel: frames, rows and columns of the residual blocks' convolutions.
        basis: how the pixels of a square enter and leave: `pixels`, or `haar` wavelets.
        whitening: how alike in size the principal components become, from 0 (as among pixels) to 1.
        noise: standard deviation of the posterior, where training starts and, with a linear encoder, stays.
            The decoder learns to undo that much noise, and so to forgive a transformer errors of that size;
            with a linear encoder every clip meets a share of it from none to all, drawn anew, so that latents
            without noise come out sharp too.

    Raises:
        InputError: lists whose lengths do not fit together, a stride that is neither 1 nor 2, sizes below 1,
            an even kernel, or no noise.
    """

    def __init__(
        self,
        latent_channels: int = 16,
        patch: int = 4,
        widths: Sequence[int] = (64, 128, 128),
        encoder_blocks: Sequence[int] | None = None,
        decoder_blocks: Sequence[int] = (1, 2, 2),
        strides: Sequence[tuple[int, int]] = ((2, 2), (2, 1)),
        kernel: tuple[int, int, int] = (3, 3, 3),
        whitening: float = 0.5,
        noise: float = 0.05,
        basis: Literal["pixels", "haar"] = "pixels",
    ) -> None:
        super().__init__()
        stages = len(widths)
        sides = [blocks for blocks in (encoder_blocks, decoder_blocks) if blocks is not None]
        if len(strides) + 1 != stages or any(len(blocks) != stages for blocks in sides):
            raise InputError(
                f"{stages} widths need {stages} block counts on each side and {stages - 1} strides"
            )
        if any(step not in (1, 2) for stride in strides for step in stride):
            raise InputError(f"strides {list(strides)}: each must be 1 or 2; add a stage for more")
        if patch < 1 or latent_channels < 1 or any(side < 1 or side % 2 == 0 for side in kernel):
            raise InputError(
                f"latent_channels {latent_channels} and patch {patch} must be at least 1, and the sides of "
                f"kernel {list(kernel)} odd"
            )
        if noise <= 0:
            raise InputError(f"noise is {noise}, but a posterior has some: choose a number above 0")
        self.settings = {
            "latent_channels": latent_channels,
            "patch": patch,
            "widths": list(widths),
            "encoder_blocks": None if encoder_blocks is None else list(encoder_blocks),
            "decoder_blocks": list(decoder_blocks),
            "strides": [list(stride) for stride in strides],
            "kernel": list(kernel),
            "whitening": whitening,
            "noise": noise,
            "basis": basis,
        }
        self.logvar_start = 2 * math.log(noise)
        self.latent_channels = latent_channels
        self.squares = Squares(patch, basis)
        self.stride_t, self.stride_s = 1, patch
        for stride_t, stride_s in strides:
            self.stride_t, self.stride_s = self.stride_t * stride_t, self.stride_s * stride_s
        self.linear = LinearCode(latent_channels, self.stride_t, self.stride_s)
        self.encoder = None
        if encoder_blocks is None:
            self.linear.to_code.requires_grad_(False)  # its closed form cannot be improved
        else:
            self.encoder = build_encoder(
                latent_channels, self.squares, widths, encoder_blocks, strides, kernel, self.logvar_start
            )
        self.decoder = build_decoder(latent_channels, self.squares, widths, decoder_blocks, strides, kernel)
        self.register_statistics()

    def posterior(self, pixels: Float[Tensor, "b 3 t h w"], memory: Memory | None = None) -> Posterior:
        code = self.linear.encode(pixels, memory)
        if self.encoder is None:
            return Posterior(code, torch.full_like(code, self.logvar_start))
        mean, logvar = self.encoder(self.squares.to_channels(pixels), memory).chunk(2, dim=1)
        return Posterior(code + mean, logvar.clamp(*LOGVAR_RANGE))

    def reconstruct(
        self, raw: Float[Tensor, "b c t h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b 3 t h w"]:
        return self.linear.decode(raw, memory) + self.squares.to_pixels(self.decoder(raw, memory))

    def working_values(self, t: int, h: int, w: int) -> int:
        width = max(self.settings["widths"][0], self.squares.channels)
        return (10 * t + 36) * width * h * w // self.squares.side**2

    def disturbed(self, posterior: Posterior, draws: Draws) -> Float[Tensor, "b c t h w"]:
        sample = super().disturbed(posterior, draws)
        if self.encoder is not None:
            return sample
        share = draws.uniform(len(sample), 1, 1, 1, 1).to(sample)
        return torch.lerp(posterior.mean, sample, share)

    def prime(self, clips: Iterable[Float[Tensor, "b 3 t h w"]]) -> None:
        self.linear.fit(clips, self.settings["whitening"])


def build_encoder(
    latent_channels: int,
    squares: Squares,
    widths: Sequence[int],
    blocks: Sequence[int],
    strides: Sequence[tuple[int, int]],
    kernel: tuple[int, int, int],
    logvar_start: float,
) -> Chain:
    """From squares of pixels as channels to the mean and log-variance of latents, both at their start."""
    layers: list[nn.Module] = [CausalConv3d(squares.channels, widths[0])]
    for i, width in enumerate(widths):
        if i > 0:
            layers.append(Downsample(widths[i - 1], width, strides[i - 1]))
        layers += [ResidualBlock(width, kernel) for _ in range(blocks[i])]
    # A variance of 1 would drown the code in noise before the network has learnt to protect it.
    start = [0.0] * latent_channels + [logvar_start] * latent_channels
    return Chain([*layers, Silence(widths[-1], 2 * latent_channels, start)])


def build_decoder(
    latent_channels: int,
    squares: Squares,
    widths: Sequence[int],
    blocks: Sequence[int],
    strides: Sequence[tuple[int, int]],
    kernel: tuple[int, int, int],
) -> Chain:
    """From latents to squares of pixels as channels, the encoder's stages in reverse."""
    layers: list[nn.Module] = [CausalConv3d(latent_channels, widths[-1])]
    for i, count in enumerate(blocks):
        stage = len(widths) - 1 - i
        layers += [ResidualBlock(widths[stage], kernel) for _ in range(count)]
        if stage > 0:
            layers.append(Upsample(widths[stage], widths[stage - 1], strides[stage - 1]))
    return Chain([*layers, Silence(widths[0], squares.channels)])


class Silence(nn.Module):
    """Norm, silu and a convolution that starts at `bias`: what a network adds to the linear code at first.

    Shapes: `b c_in t h w` -> `b c_out t h w`.
    """

    def __init__(self, c_in: int, c_out: int, bias: Sequence[float] | None = None) -> None:
        super().__init__()
        self.norm = ChannelRMSNorm(c_in)
        self.conv = CausalConv3d(c_in, c_out)
        nn.init.zeros_(self.conv.conv.weight)
        with torch.no_grad():
            self.conv.conv.bias.copy_(torch.tensor(bias or [0.0] * c_out))  # pyright: ignore

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        return self.conv(nn.functional.silu(self.norm(x)), memory)
