"""What one step of training a codec computes: errors of pixels, of looks, and the length of the code."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.codec import Posterior
from vdit.draws import Draws
from vdit.eval.perceptual import PerceptualDistance
from vdit.train.step import StepOutput
from vdit.types import ClipBatch, InputError, onto

__all__ = ["CodecLoss", "CodecStep", "Lengths", "Reconstruction"]


class Reconstruction(NamedTuple):
    """How far a reconstruction is from its clip: what each clip contributes, and scalars worth logging."""

    loss: Float[Tensor, "b"]
    metrics: Mapping[str, Tensor]


@dataclass(frozen=True)
class CodecLoss:
    """What a codec is trained to make small: errors of pixels, of looks, and the length of its code.

    Args:
        pixels: `squared` error, whose best answer to doubt is the mean, or `absolute`, whose is the median.
        kl: weight of the KL divergence, in nats a latent value (Kingma & Welling 2014, eq. 7).
        perceptual: how different frames look; None trains on pixels alone.
        perceptual_weight: of that distance beside the error of pixels.
        perceptual_frames: frames of each clip that are looked at, drawn anew at each step; looking costs more
            than a small codec does.

    Raises:
        InputError: a negative weight, or no frame.
    """

    pixels: Literal["squared", "absolute"] = "squared"
    kl: float = 1e-5
    perceptual: PerceptualDistance | None = None
    perceptual_weight: float = 0.1
    perceptual_frames: int = 1

    def __post_init__(self) -> None:
        for name in ("kl", "perceptual_weight"):
            if not getattr(self, name) >= 0:
                raise InputError(f"the loss's {name} is {getattr(self, name)}, but must be 0 or more")
        if self.perceptual_frames < 1:
            raise InputError(f"perceptual_frames is {self.perceptual_frames}, but must be at least 1")

    def reconstruction(
        self, again: Float[Tensor, "b 3 t h w"], pixels: Float[Tensor, "b 3 t h w"], draws: Draws
    ) -> Reconstruction:
        """The errors of pixels and of looks, weighed."""
        error = again.float() - pixels
        squared = error.square().flatten(1).mean(1)
        loss = squared if self.pixels == "squared" else error.abs().flatten(1).mean(1)
        metrics = {"squared_error": squared.mean().detach()}
        if self.perceptual is not None:
            looks = self._looks(self.perceptual, again, pixels, draws)
            loss = loss + self.perceptual_weight * looks
            metrics["perceptual"] = looks.mean().detach()
        return Reconstruction(loss, metrics)

    def code(self, posterior: Posterior) -> Reconstruction:
        """The length of the code, weighed."""
        kl = posterior.kl()
        return Reconstruction(self.kl * kl, {"kl": kl.mean().detach()})

    def _looks(self, judge: PerceptualDistance, a: Tensor, b: Tensor, draws: Draws) -> Tensor:
        """The perceptual distance of a few frames."""
        count = min(self.perceptual_frames, a.shape[2])
        seen = onto(draws.order(a.shape[2])[:count], a.device)
        return judge(a[:, :, seen], b[:, :, seen])


@dataclass(frozen=True)
class Lengths:
    """How many frames the clips of a step have, drawn anew at each step: one frame is an image.

    Args:
        shares: frames, and how often of all steps; shares need not sum to 1. Shorter clips stay whole; so do
            all where there are none.

    Raises:
        InputError: a length below 1, or a share that is not above 0.
    """

    shares: Mapping[int, float]

    def __post_init__(self) -> None:
        for frames, share in self.shares.items():
            if frames < 1 or not share > 0:
                raise InputError(f"lengths has {frames}: {share}, but frames and shares must be above 0")

    def cut(self, pixels: Float[Tensor, "b 3 t h w"], draws: Draws) -> Float[Tensor, "b_k 3 n h w"]:
        """Clips of n frames: k of them, one after the other, out of each clip, from the same random place.

        As many as fit, so that a step learns from about as many pixels at every length.
        """
        if not self.shares:
            return pixels
        dice = draws.same(2).tolist()
        lengths, ends = list(self.shares), list(accumulate(self.shares.values()))
        which = bisect_left(ends, dice[0] * ends[-1])
        n = min(lengths[min(which, len(lengths) - 1)], pixels.shape[2])
        k = pixels.shape[2] // n
        start = int(dice[1] * (pixels.shape[2] - k * n + 1))
        return rearrange(pixels[:, :, start : start + k * n], "b c (k n) h w -> (b k) c n h w", n=n)


class CodecStep:
    """The reconstruction of each clip, and its `CodecLoss`.

    Args:
        loss: what is made small.
        lengths: frames of the clips of a step.
    """

    def __init__(self, loss: CodecLoss, lengths: Lengths) -> None:
        self.loss, self.lengths = loss, lengths

    def __call__(self, module: nn.Module, batch: ClipBatch, draws: Draws, done: int = 0) -> StepOutput:
        pixels = self.pixels(batch, draws)
        again, posterior = module(pixels, draws)
        looks, code = self.loss.reconstruction(again, pixels, draws), self.loss.code(posterior)
        return self.output(batch, looks.loss + code.loss, {**looks.metrics, **code.metrics})

    def pixels(self, batch: ClipBatch, draws: Draws) -> Float[Tensor, "b_k 3 n h w"]:
        """What of the batch this step sees. Raises InputError where there are no pixels."""
        if batch.pixels is None:
            raise InputError("a codec step needs pixels")
        return self.lengths.cut(batch.pixels, draws)

    @staticmethod
    def output(batch: ClipBatch, loss: Float[Tensor, "b_k"], metrics: Mapping[str, Tensor]) -> StepOutput:
        """What each clip contributes: the mean of what was cut out of it."""
        return StepOutput(reduce(loss, "(b k) -> b", "mean", b=len(batch)), metrics)
