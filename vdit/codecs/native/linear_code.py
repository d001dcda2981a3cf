"""The best linear code of pixel blocks, found in closed form."""

import math
from collections.abc import Iterable

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.streaming import Memory

__all__ = ["LinearCode"]


class LinearCode(nn.Module):
    """Blocks of stride_t x stride_s x stride_s pixels to `channels` numbers, and back.

    The first frame of a stream makes a block of its own, repeated stride_t times; after it every block
    holds stride_t frames. Nothing overlaps, so streaming is exact and the code is causal.

    Args:
        channels: numbers a block.
        stride_t: frames of a block.
        stride_s: rows and columns of a block.
    """

    def __init__(self, channels: int, stride_t: int, stride_s: int) -> None:
        super().__init__()
        self.stride_t, self.stride_s = stride_t, stride_s
        values = 3 * stride_t * stride_s**2
        self.to_code = nn.Linear(values, channels)
        self.to_block = nn.Linear(channels, values)
        nn.init.orthogonal_(self.to_code.weight)
        with torch.no_grad():
            self.to_block.weight.copy_(self.to_code.weight.mT)
        nn.init.zeros_(self.to_code.bias)
        nn.init.zeros_(self.to_block.bias)

    def blocks(self, pixels: Float[Tensor, "b 3 t h w"], first: bool) -> Float[Tensor, "b t h w values"]:
        """Cut a clip, or a later chunk of a stream, into blocks."""
        if first:
            before = repeat(pixels[:, :, :1], "b c 1 h w -> b c st h w", st=self.stride_t - 1)
            pixels = torch.cat([before, pixels], dim=2)
        return rearrange(
            pixels,
            "b c (t st) (h sh) (w sw) -> b t h w (c st sh sw)",
            st=self.stride_t,
            sh=self.stride_s,
            sw=self.stride_s,
        )

    def encode(self, pixels: Float[Tensor, "b 3 t h w"], memory: Memory | None) -> Float[Tensor, "b c t h w"]:
        """The code of every block."""
        first = memory is None or memory.begins(self.to_code)
        return rearrange(self.to_code(self.blocks(pixels, first)), "b t h w c -> b c t h w")

    def decode(self, code: Float[Tensor, "b c t h w"], memory: Memory | None) -> Float[Tensor, "b 3 t h w"]:
        """Pixels of every block; of the first, its last frame."""
        first = memory is None or memory.begins(self.to_block)
        pixels = rearrange(
            self.to_block(rearrange(code, "b c t h w -> b t h w c")),
            "b t h w (c st sh sw) -> b c (t st) (h sh) (w sw)",
            st=self.stride_t,
            sh=self.stride_s,
            sw=self.stride_s,
        )
        return pixels[:, :, self.stride_t - 1 :] if first else pixels

    @torch.no_grad()
    def fit(self, clips: Iterable[Float[Tensor, "b 3 t h w"]], whitening: float) -> None:
        """Set the weights to the principal components of the blocks of `clips`.

        No linear code of as many numbers has a smaller squared error (Eckart & Young 1936). Component i,
        of standard deviation s_i, is scaled to s_i^(1 - whitening); then all are turned so that every
        channel has the same variance, 1.

        Args:
            clips: what to learn from, in batches that are read once and not kept.
            whitening: 1 makes every component equally loud, so that a model of the latents must decide
                fine detail as early as layout; 0 keeps distances as they are among pixels.
        """
        mean, covariance = _moments(self.blocks(pixels, first=True).flatten(0, 3) for pixels in clips)
        variance, axes = torch.linalg.eigh(covariance)
        channels = self.to_code.out_features
        std = variance[-channels:].flip(0).clamp_min(1e-8).sqrt()
        axes = axes[:, -channels:].flip(1)
        loudness = std ** (1 - whitening)
        gain = loudness / loudness.square().mean().sqrt() / std
        turn = levelling(loudness.square())
        to_code = (axes * gain) @ turn.mT
        self.to_code.weight.copy_(to_code.mT)
        self.to_code.bias.copy_(-(mean @ to_code))
        self.to_block.weight.copy_((axes / gain) @ turn.mT)
        self.to_block.bias.copy_(mean)


def _moments(
    batches: Iterable[Float[Tensor, "n values"]],
) -> tuple[Float[Tensor, "values"], Float[Tensor, "values values"]]:
    """Mean and covariance of all rows, in float64, one batch in memory at a time.

    Source: Chan et al. 1983, eq. 1.5, for covariances.
    """
    count, mean, scatter = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        rows = batch.double()
        own = rows.mean(0)
        away, n = own - mean, len(rows)
        centred = rows - own
        scatter = scatter + centred.mT @ centred + torch.outer(away, away) * (count * n / (count + n))
        mean = mean + away * (n / (count + n))
        count += n
    return mean, scatter / count


def levelling(variance: Float[Tensor, "c"]) -> Float[Tensor, "c c"]:
    """A rotation after which uncorrelated variables of these variances all have their mean variance.

    One plane rotation for each variable but the last: a variable above the mean and one below share
    what they have until one of them is at the mean (Horn 1954).
    """
    covariance, turn = torch.diag(variance.double()), torch.eye(len(variance), dtype=torch.float64)
    mean, open_ = variance.double().mean(), set(range(len(variance)))
    while len(open_) > 1:
        high = max(open_, key=lambda i: float(covariance[i, i]))
        low = min(open_, key=lambda i: float(covariance[i, i]))
        # sin(angle)^2 moves `low` to the mean; the covariance between the two is part of the balance.
        a, b, c = (float(covariance[i, j]) for i, j in ((low, low), (high, high), (low, high)))
        spread = math.hypot((a - b) / 2, c)
        open_.remove(low)
        if high == low or spread < 1e-12 * float(mean):  # as it should be already
            continue
        excess = (float(mean) - (a + b) / 2) / spread
        angle = (math.atan2(c, (a - b) / 2) - math.acos(max(-1.0, min(1.0, excess)))) / 2
        plane = torch.eye(len(variance), dtype=torch.float64)
        plane[low, low] = plane[high, high] = math.cos(angle)
        plane[low, high], plane[high, low] = math.sin(angle), -math.sin(angle)
        covariance, turn = plane @ covariance @ plane.mT, plane @ turn
    return turn
