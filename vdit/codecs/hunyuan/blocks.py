"""The parts of the HunyuanVideo autoencoder. Convolutions and attention are causal; the norms are not."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.nn.conv import Conv3d

__all__ = ["CausalAttention", "Head", "ReplicatedConv3d", "ResidualBlock", "Upsample"]

EPS = 1e-6


class ReplicatedConv3d(nn.Module):
    """A 3D convolution padded by repeating the edge: on all sides in space, in front only in time.

    Shapes: `b c_in t h w` -> `b c_out t' h' w'`; a stride of 2 in time makes 1 + n of 1 + 2n frames.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 3, stride: tuple[int, int, int] = (1, 1, 1)
    ) -> None:
        super().__init__()
        side = kernel // 2
        self.padding = (side, side, side, side, kernel - 1, 0)
        self.conv = Conv3d(c_in, c_out, kernel, stride=stride)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Tensor:
        return self.conv(F.pad(x, self.padding, mode="replicate"))


class ResidualBlock(nn.Module):
    """shortcut(x) + conv(silu(norm(conv(silu(norm(x)))))); the shortcut is a convolution where widths differ.

    Shapes: `b c_in t h w` -> `b c_out t h w`.
    """

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in, eps=EPS)
        self.conv1 = ReplicatedConv3d(c_in, c_out)
        self.norm2 = nn.GroupNorm(groups, c_out, eps=EPS)
        self.conv2 = ReplicatedConv3d(c_out, c_out)
        self.shortcut = nn.Identity() if c_in == c_out else ReplicatedConv3d(c_in, c_out, kernel=1)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class CausalAttention(nn.Module):
    """x + one head of attention; a position sees its own frame and those before.

    Frame by frame, so that the mask, which has as many entries as the clip has pairs of positions, is
    never built.

    Shapes: `b c t h w` -> `b c t h w`.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        t, h, w = x.shape[2:]
        tokens = rearrange(self.norm(x), "b c t h w -> b 1 (t h w) c")
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        frames = []
        for i in range(t):
            past = slice(0, (i + 1) * h * w)
            own = q[:, :, i * h * w : (i + 1) * h * w]
            frames.append(F.scaled_dot_product_attention(own, k[:, :, past], v[:, :, past]))
        y = self.to_out(torch.cat(frames, dim=2))
        return x + rearrange(y, "b 1 (t h w) c -> b c t h w", t=t, h=h)


class Upsample(nn.Module):
    """Positions repeated, then a convolution; the first frame is repeated in space only.

    With a stride of 2 in time, 1 + n frames become 1 + 2n.

    Shapes: `b c t h w` -> `b c t*stride_t h*stride_s w*stride_s`.
    """

    def __init__(self, channels: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride_t, self.stride_s = stride
        self.conv = ReplicatedConv3d(channels, channels)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Tensor:
        st, ss = self.stride_t, self.stride_s
        x = x.repeat_interleave(ss, dim=3).repeat_interleave(ss, dim=4)
        if st > 1:
            x = torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(st, dim=2)], dim=2)
        return self.conv(x)


class Head(nn.Module):
    """Norm, silu and a convolution: the way out of a network.

    Shapes: `b c_in t h w` -> `b c_out t h w`.
    """

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, c_in, eps=EPS)
        self.conv = ReplicatedConv3d(c_in, c_out)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Tensor:
        return self.conv(F.silu(self.norm(x)))
