"""Convolutions that compute what torch's do, in less time."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Conv3d", "EnlargingConv2d"]

# Batch x channels x frames x rows up to which torch (2.7 to 2.13) gives a CPU's 3-D convolution of one clip a
# kernel that is 10 to 20 times slower than its 2-D ones.
_LEAST = 20480


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` without padding in time; small ones on a CPU become one 2-D convolution a tap in time.

    Shapes: `b c_in t h w` -> `b c_out t' h' w'`.
    """

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Tensor:
        b, c, t, h, _ = input.shape
        if input.device.type != "cpu" or b > 1 or c * t * h > _LEAST:
            return super().forward(input)
        return self.by_taps(input)

    def by_taps(self, x: Float[Tensor, "b c t h w"]) -> Tensor:
        """The same numbers up to rounding."""
        taps, stride_t = self.kernel_size[0], self.stride[0]
        t = (x.shape[2] - taps) // stride_t + 1
        y: Tensor | None = None
        for tap in range(taps):
            frames = rearrange(
                x[:, :, tap : tap + stride_t * (t - 1) + 1 : stride_t], "b c t h w -> (b t) c h w"
            )
            bias, padding = (self.bias if tap == 0 else None), [int(side) for side in self.padding[1:]]
            part = F.conv2d(frames, self.weight[:, :, tap], bias, self.stride[1:], padding)
            y = part if y is None else y.add_(part)
        assert y is not None
        return rearrange(y, "(b t) c h w -> b c t h w", t=t)


class EnlargingConv2d(nn.Conv2d):
    """A 3x3 convolution of frames of twice the rows and columns, each position repeated, without making them.

    Of the nine positions that an output sees, four at most differ: where it stands on its block of 2x2 says
    which. So every output is a sum over 2x2 positions of the small frame, with weights that are sums of the
    nine; the four kinds of output are computed at once, as channels. 4/9 of the arithmetic.

    Shapes: `b c_in h w` -> `b c_out 2h 2w`.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d 2*h 2*w"]:
        b, _, h, w = input.shape
        parts = F.conv2d(input, self.kinds(), None, padding=1)  # b (row column d) h+1 w+1
        parts = rearrange(parts, "b (row column d) h w -> row column b h w d", row=2, column=2)
        out = parts.new_empty(b, h, 2, w, 2, self.out_channels)
        for row in (0, 1):
            for column in (0, 1):
                out[:, :, row, :, column] = parts[row, column, :, row : row + h, column : column + w]
        if self.bias is not None:
            out = out + self.bias if self.bias.requires_grad else out.add_(self.bias)
        return rearrange(out, "b h row w column d -> b d (h row) (w column)")

    def kinds(self) -> Float[Tensor, "4*d c 2 2"]:
        """The weights of the four kinds of output, by row and column on their block of 2x2."""
        # The first of a pair sees one position before its own block, then two of it; the second the reverse.
        pairs = self.weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        split = torch.einsum("rpy,sqx,dcyx->rsdcpq", pairs, pairs, self.weight)
        return rearrange(split, "r s d c p q -> (r s d) c p q")
