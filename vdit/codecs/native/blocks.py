"""Causal building blocks: each sees the present and the past, never a later frame."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.causal import CausalConv3d
from vdit.codecs.streaming import Memory
from vdit.nn.norm import ChannelRMSNorm

__all__ = ["Downsample", "ResidualBlock", "Upsample"]


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), the last convolution starting at zero.

    Shapes: `b c t h w` -> `b c t h w`.
    """

    def __init__(self, channels: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.norm1 = ChannelRMSNorm(channels)
        self.conv1 = CausalConv3d(channels, channels, kernel)
        self.norm2 = ChannelRMSNorm(channels)
        self.conv2 = CausalConv3d(channels, channels, kernel)
        nn.init.zeros_(self.conv2.conv.weight)
        nn.init.zeros_(self.conv2.conv.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Float[Tensor, "b c t h w"], memory: Memory | None = None) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)), memory)
        return x + self.conv2(F.silu(self.norm2(y)), memory)


class Downsample(nn.Module):
    """Fewer frames, rows and columns by a strided causal convolution.

    With a stride of 2 in time, 1 + 2n frames become 1 + n.

    Shapes: `b c_in t h w` -> `b c_out t/stride_t h/stride_s w/stride_s`.
    """

    def __init__(self, c_in: int, c_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        kernel_t = 3 if stride[0] == 2 else 1
        self.conv = CausalConv3d(c_in, c_out, (kernel_t, 3, 3), stride)

    def forward(self, x: Float[Tensor, "b c t h w"], memory: Memory | None = None) -> Tensor:
        return self.conv(x, memory)


class Upsample(nn.Module):
    """More frames, rows and columns: a causal convolution whose extra channels are unfolded.

    Every frame becomes `stride_t` frames, of which the first frame of a stream keeps only the last:
    1 + n frames become 1 + 2n with a stride of 2.

    Shapes: `b c_in t h w` -> `b c_out t*stride_t h*stride_s w*stride_s`.
    """

    def __init__(self, c_in: int, c_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride_t, self.stride_s = stride
        kernel_t = 3 if self.stride_t == 2 else 1
        self.conv = CausalConv3d(c_in, c_out * self.stride_t * self.stride_s**2, (kernel_t, 3, 3))

    def forward(self, x: Float[Tensor, "b c t h w"], memory: Memory | None = None) -> Tensor:
        first = memory is None or memory.begins(self)
        y = rearrange(
            self.conv(x, memory),
            "b (c st sh sw) t h w -> b c (t st) (h sh) (w sw)",
            st=self.stride_t,
            sh=self.stride_s,
            sw=self.stride_s,
        )
        return y[:, :, self.stride_t - 1 :] if first else y
