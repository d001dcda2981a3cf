"""The parts of the Wan autoencoders. Each sees the present and the past, never a later frame."""

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.causal import CausalConv3d, Entry
from vdit.codecs.streaming import Memory
from vdit.nn.conv import Conv3d, EnlargingConv2d

__all__ = [
    "ActiveNorm",
    "AverageDown",
    "Downsample",
    "FrameAttention",
    "RepeatUp",
    "ResidualBlock",
    "UnitNorm",
    "Upsample",
]


class UnitNorm(nn.Module):
    """Every position scaled to length sqrt(c) over its channels, then by a weight a channel.

    Shapes: `b c t h w` -> `b c t h w`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        return x / length(x) * self.scale()

    def scale(self) -> Float[Tensor, "c 1 1 1"]:
        """What every channel of a position of length 1 is multiplied by."""
        return rearrange(self.weight * self.weight.numel() ** 0.5, "c -> c 1 1 1")


class ActiveNorm(UnitNorm, Entry):
    """silu of `UnitNorm`, the way into a convolution."""

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        return F.silu(super().forward(x))

    def write(self, x: Float[Tensor, "b c t h w"], out: Float[Tensor, "b c t h w"]) -> None:
        torch.div(x, length(x), out=out)
        F.silu(out.mul_(self.scale()), inplace=True)


def length(x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 1 t h w"]:
    """Of every position. To divide by: multiplied by its inverse, rounding grows along forty layers."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-12)


class ResidualBlock(nn.Module):
    """shortcut(x) + conv(silu(norm(conv(silu(norm(x)))))); the shortcut is a convolution where widths differ.

    Shapes: `b c_in t h w` -> `b c_out t h w`.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm1 = ActiveNorm(c_in)
        self.conv1 = CausalConv3d(c_in, c_out)
        self.norm2 = ActiveNorm(c_out)
        self.conv2 = CausalConv3d(c_out, c_out)
        self.shortcut = nn.Identity() if c_in == c_out else Conv3d(c_in, c_out, 1)

    def forward(self, x: Float[Tensor, "b c t h w"], memory: Memory | None = None) -> Tensor:
        y = self.conv2(self.conv1(x, memory, self.norm1), memory, self.norm2)
        return y.add_(self.shortcut(x))


class FrameAttention(nn.Module):
    """x + one head of attention among the positions of each frame.

    Shapes: `b c t h w` -> `b c t h w`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = UnitNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b c t h w"], memory: Memory | None = None) -> Tensor:
        t, h = x.shape[2:4]
        tokens = rearrange(self.norm(x), "b c t h w -> (b t) 1 (h w) c")
        q, k, v = self.to_qkv(tokens).chunk(3, dim=-1)
        y = self.to_out(F.scaled_dot_product_attention(q, k, v))
        return x + rearrange(y, "(b t) 1 (h w) c -> b c t h w", t=t, h=h)


class Downsample(nn.Module):
    """Half the rows and columns and, with a stride of 2 in time, 1 + 2n frames to 1 + n.

    The first frame of a stream keeps to itself: the convolution over time reads it for the frames that
    follow and leaves it alone.

    Shapes: `b c t h w` -> `b c t/stride_t h/2 w/2`.
    """

    def __init__(self, channels: int, stride_t: int) -> None:
        super().__init__()
        self.space = nn.Conv2d(channels, channels, 3, stride=2)
        self.time = Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1)) if stride_t == 2 else None

    def forward(self, x: Float[Tensor, "b c t h w"], memory: Memory | None = None) -> Tensor:
        t = x.shape[2]
        frames = F.pad(rearrange(x, "b c t h w -> (b t) c h w"), (0, 1, 0, 1))
        x = rearrange(self.space(frames), "(b t) c h w -> b c t h w", t=t)
        if self.time is None:
            return x
        before = None if memory is None else memory.recall(self)
        if memory is not None:
            memory.store(self, x[:, :, -1:].clone())
        if before is not None:
            return self.time(torch.cat([before, x], dim=2))
        return torch.cat([x[:, :, :1], self.time(x)], dim=2) if t > 1 else x


class Upsample(nn.Module):
    """Twice the rows and columns and, with a stride of 2 in time, 1 + n frames to 1 + 2n.

    The first frame of a stream stays one frame, and the convolution over time begins after it, from zeros.

    Shapes: `b c_in t h w` -> `b c_out t*stride_t h*2 w*2`.
    """

    def __init__(self, c_in: int, c_out: int, stride_t: int) -> None:
        super().__init__()
        self.time = CausalConv3d(c_in, 2 * c_in, (3, 1, 1)) if stride_t == 2 else None
        self.space = EnlargingConv2d(c_in, c_out)

    def forward(self, x: Float[Tensor, "b c t h w"], memory: Memory | None = None) -> Tensor:
        if self.time is not None:
            alone = memory is None or memory.begins(self)
            first, rest = (x[:, :, :1], x[:, :, 1:]) if alone else (x[:, :, :0], x)
            if rest.shape[2]:
                twice = rearrange(self.time(rest, memory), "b (two c) t h w -> b (t two) h w c", two=2)
                x = torch.cat([first, rearrange(twice, "b t h w c -> b c t h w")], dim=2)
        t = x.shape[2]
        frames = self.space(rearrange(x, "b c t h w -> (b t) c h w"))
        return rearrange(frames, "(b t) c h w -> b c t h w", t=t)


class AverageDown(nn.Module):
    """A shortcut without weights around a stage that shrinks: blocks of positions as channels, then means.

    Shapes: `b c_in t h w` -> `b c_out t/stride_t h/stride_s w/stride_s`.
    """

    def __init__(self, c_out: int, stride_t: int, stride_s: int) -> None:
        super().__init__()
        self.c_out, self.stride_t, self.stride_s = c_out, stride_t, stride_s

    def forward(self, x: Float[Tensor, "b c t h w"], memory: Memory | None = None) -> Tensor:
        if memory is None or memory.begins(self):
            x = F.pad(x, (0, 0, 0, 0, self.stride_t - 1, 0))
        blocks = rearrange(
            x,
            "b c (t st) (h sh) (w sw) -> b (c st sh sw) t h w",
            st=self.stride_t,
            sh=self.stride_s,
            sw=self.stride_s,
        )
        return reduce(blocks, "b (c mean) t h w -> b c t h w", "mean", c=self.c_out)


class RepeatUp(nn.Module):
    """A shortcut without weights around a stage that grows: channels repeated, then as blocks of positions.

    Shapes: `b c_in t h w` -> `b c_out t*stride_t h*stride_s w*stride_s`.
    """

    def __init__(self, c_in: int, c_out: int, stride_t: int, stride_s: int) -> None:
        super().__init__()
        self.stride_t, self.stride_s = stride_t, stride_s
        self.times = c_out * stride_t * stride_s**2 // c_in

    def forward(self, x: Float[Tensor, "b c t h w"], memory: Memory | None = None) -> Tensor:
        first = memory is None or memory.begins(self)
        repeated = repeat(x, "b c t h w -> b (c times) t h w", times=self.times)
        y = rearrange(
            repeated,
            "b (c st sh sw) t h w -> b c (t st) (h sh) (w sw)",
            st=self.stride_t,
            sh=self.stride_s,
            sw=self.stride_s,
        )
        return y[:, :, self.stride_t - 1 :] if first else y
