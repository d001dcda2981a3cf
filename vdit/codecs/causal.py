"""What causal codecs are made of: convolutions that never see a later frame, and chains of layers."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.streaming import Memory

__all__ = ["CausalConv3d", "Chain"]


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
        self.conv = nn.Conv3d(
            c_in, c_out, kernel, stride=(stride_t, stride_s, stride_s), padding=(0, kh // 2, kw // 2)
        )

    def forward(self, x: Float[Tensor, "b c t h w"], memory: Memory | None = None) -> Tensor:
        if self.past == 0:
            return self.conv(x)
        before = None if memory is None else memory.recall(self)
        x = F.pad(x, (0, 0, 0, 0, self.past, 0)) if before is None else torch.cat([before, x], dim=2)
        if memory is not None:
            memory.store(self, x[:, :, x.shape[2] - self.keep :])
        return self.conv(x)


class Chain(nn.ModuleList):
    """Causal layers one after the other, sharing the memory of one stream."""

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        for layer in self:
            x = layer(x, memory)
        return x
