"""What causal codecs are made of: convolutions that never see a later frame, and chains of layers."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.streaming import Memory
from vdit.nn.conv import Conv3d

__all__ = ["CausalConv3d", "Chain", "Entry"]


class CausalConv3d(nn.Module):
    """A 3D convolution padded in time on the left only.

    With kernel k and stride s in time it remembers k - s frames. A stream begins with zeros before its
    first frame, as a whole clip does.

    Shapes: `b c_in t h w` -> `b c_out t' h' w'`.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: tuple[int, int, int] = (3, 3, 3),
        stride: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        kt, kh, kw = kernel
        stride_t, stride_s = stride
        self.past = kt - 1
        self.keep = kt - stride_t
        self.conv = Conv3d(
            c_in, c_out, kernel, stride=(stride_t, stride_s, stride_s), padding=(0, kh // 2, kw // 2)
        )

    def forward(
        self,
        x: Float[Tensor, "b c t h w"],
        memory: Memory | None = None,
        entry: "Entry | None" = None,
    ) -> Tensor:
        """Convolve.

        Args:
            x: a clip, or the next chunk of a stream.
            memory: of the stream.
            entry: what `x` passes on its way in; without gradients it is computed in the memory that the
                padded input needs anyway.
        """
        past = None if memory is None else memory.recall(self)
        if past is None:
            past = x.new_zeros(()).expand(*x.shape[:2], self.past, *x.shape[3:])
        x = _after(past, x, entry)
        if memory is not None and self.keep:
            memory.store(self, x[:, :, x.shape[2] - self.keep :].clone())
        return self.conv(x)


class Entry(ABC, nn.Module):
    """A layer that looks at every position alone, and can write its result where it is told."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]: ...

    @abstractmethod
    def write(self, x: Float[Tensor, "b c t h w"], out: Float[Tensor, "b c t h w"]) -> None:
        """The same into `out`, without gradients."""


def _after(past: Tensor, x: Tensor, entry: Entry | None) -> Tensor:
    """`x`, once through its entry, with frames before it."""
    if entry is None:
        return x if past.shape[2] == 0 else torch.cat([past, x], dim=2)
    if torch.is_grad_enabled():
        return torch.cat([past, entry(x)], dim=2)
    b, c, t, h, w = x.shape
    size = (b, c, past.shape[2] + t, h, w)
    joined = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)
    joined[:, :, : past.shape[2]] = past
    entry.write(x, joined[:, :, past.shape[2] :])
    return joined


class Chain(nn.ModuleList):
    """Causal layers one after the other, sharing the memory of one stream."""

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        for layer in self:
            x = layer(x, memory)
        return x
