"""The HunyuanVideo video autoencoder (Kong et al. 2024, sec. 4.1).

    pixels ── conv ── [residual x blocks ── down] x stages ── middle ── conv ── moments
    latents ── conv ── middle ── [residual x blocks+1 ── up] x stages ── conv ── pixels

The middle is attention of each frame to itself and those before, between two residual blocks. The group
norms take their statistics over all frames of a clip, so that an early latent depends on later frames, and a
clip in chunks is not the clip in one piece. Here a stream is therefore gathered before it is encoded; for
videos too long for that, encode clips of a fixed length.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.codec import Posterior, VideoCodec
from vdit.codecs.hunyuan.blocks import CausalAttention, Head, ReplicatedConv3d, ResidualBlock, Upsample
from vdit.codecs.streaming import Memory
from vdit.nn.conv import Conv3d
from vdit.types import InputError

__all__ = ["HunyuanCodec"]

LOGVAR_RANGE = (-30.0, 20.0)


class HunyuanCodec(VideoCodec):
    """The HunyuanVideo VAE, 4x8x8 to 16 channels at its published size.

    Args:
        latent_channels: channels of a latent.
        widths: channels of each stage, from pixels to latents.
        blocks: residual blocks a stage of the encoder; the decoder has one more.
        groups: groups of every norm; must divide all widths.
        strides: (time, space) stride between one stage and the next, each 1 or 2.
        scale: what latents are multiplied by to have a deviation of about 1.

    Raises:
        InputError: lists whose lengths do not fit together, or sizes out of range.
    """

    streams = False

    def __init__(
        self,
        latent_channels: int = 16,
        widths: Sequence[int] = (128, 256, 512, 512),
        blocks: int = 2,
        groups: int = 32,
        strides: Sequence[tuple[int, int]] = ((1, 2), (2, 2), (2, 2)),
        scale: float = 0.476986,
    ) -> None:
        super().__init__()
        if len(strides) + 1 != len(widths) or any(step not in (1, 2) for pair in strides for step in pair):
            raise InputError(
                f"{len(widths)} widths need {len(widths) - 1} strides of 1 or 2, not {list(strides)}"
            )
        if min(latent_channels, blocks, groups, *widths) < 1 or any(width % groups for width in widths):
            raise InputError(f"widths {list(widths)} must be multiples of {groups} groups, and sizes above 0")
        if scale <= 0:
            raise InputError(f"scale is {scale}, but must be above 0")
        self.settings = {
            "latent_channels": latent_channels,
            "widths": list(widths),
            "blocks": blocks,
            "groups": groups,
            "strides": [list(stride) for stride in strides],
            "scale": scale,
        }
        self.latent_channels = latent_channels
        self.stride_t = self.stride_s = 1
        for stride_t, stride_s in strides:
            self.stride_t, self.stride_s = self.stride_t * stride_t, self.stride_s * stride_s
        self.encoder = Encoder(latent_channels, widths, blocks, groups, strides)
        self.to_moments = Conv3d(2 * latent_channels, 2 * latent_channels, 1)
        self.from_latent = Conv3d(latent_channels, latent_channels, 1)
        self.decoder = Decoder(latent_channels, widths[::-1], blocks + 1, groups, strides)
        self.register_statistics(None, [1 / scale] * latent_channels)

    def posterior(self, pixels: Float[Tensor, "b 3 t h w"], memory: Memory | None = None) -> Posterior:
        assert memory is None  # streams are gathered
        mean, logvar = self.to_moments(self.encoder(pixels)).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(*LOGVAR_RANGE))

    def reconstruct(
        self, raw: Float[Tensor, "b c t h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b 3 t h w"]:
        assert memory is None  # streams are gathered
        return self.decoder(self.from_latent(raw))

    def working_values(self, t: int, h: int, w: int) -> int:
        return 12 * self.settings["widths"][0] * t * h * w


class Stage(nn.Module):
    """Residual blocks at one size, then a change of size.

    Shapes: `b c_in t h w` -> `b c_out t' h' w'`.
    """

    def __init__(self, c_in: int, c_out: int, blocks: int, groups: int, resample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(ResidualBlock(c_in if i == 0 else c_out, c_out, groups) for i in range(blocks))
        )
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        return x if self.resample is None else self.resample(x)


class Encoder(nn.Module):
    """From pixels to mean and log-variance.

    Shapes: `b 3 t h w` -> `b 2*latent_channels t' h' w'`.
    """

    def __init__(
        self,
        latent_channels: int,
        widths: Sequence[int],
        blocks: int,
        groups: int,
        strides: Sequence[tuple[int, int]],
    ) -> None:
        super().__init__()
        self.conv_in = ReplicatedConv3d(3, widths[0])
        self.stages = nn.Sequential()
        for c_in, width, stride in zip((widths[0], *widths[:-1]), widths, (*strides, None), strict=True):
            steps = None if stride is None else (stride[0], stride[1], stride[1])
            down = None if steps is None else ReplicatedConv3d(width, width, stride=steps)
            self.stages.append(Stage(c_in, width, blocks, groups, down))
        self.middle = middle(widths[-1], groups)
        self.head = Head(widths[-1], 2 * latent_channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.stages(self.conv_in(x))))


class Decoder(nn.Module):
    """From latents to pixels.

    Shapes: `b latent_channels t h w` -> `b 3 t' h' w'`.
    """

    def __init__(
        self,
        latent_channels: int,
        widths: Sequence[int],
        blocks: int,
        groups: int,
        strides: Sequence[tuple[int, int]],
    ) -> None:
        super().__init__()
        self.conv_in = ReplicatedConv3d(latent_channels, widths[0])
        self.middle = middle(widths[0], groups)
        self.stages = nn.Sequential()
        for c_in, width, stride in zip((widths[0], *widths[:-1]), widths, (*strides, None), strict=True):
            up = None if stride is None else Upsample(width, stride)
            self.stages.append(Stage(c_in, width, blocks, groups, up))
        self.head = Head(widths[-1], 3, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.middle(self.conv_in(x))))


def middle(width: int, groups: int) -> nn.Sequential:
    """What both networks do where frames are smallest."""
    return nn.Sequential(
        ResidualBlock(width, width, groups),
        CausalAttention(width, groups),
        ResidualBlock(width, width, groups),
    )
