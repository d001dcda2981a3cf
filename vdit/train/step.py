"""What one training step computes: a pure function of (module, batch, generator).

The loop knows nothing else of a step, so that a codec, a flow model and whatever comes later plug in
at the same place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vdit.codecs.codec import VideoCodec
from vdit.denoiser import Denoiser
from vdit.eval.perceptual import PerceptualDistance
from vdit.flow.objective import FlowMatching
from vdit.types import ClipBatch, InputError

__all__ = ["CodecLoss", "CodecStep", "FlowStep", "Step", "StepOutput"]


@dataclass(frozen=True)
class StepOutput:
    """What a step found.

    Attributes:
        loss: what each clip contributes; the loop minimises the mean.
        metrics: scalars worth logging, without gradient.
    """

    loss: Float[Tensor, "b"]
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Step(Protocol):
    """A training step. All its randomness comes from the generator."""

    def __call__(self, module: nn.Module, batch: ClipBatch, generator: Generator) -> StepOutput: ...


class FlowStep:
    """Velocity of noised latents against noise - x0 (flow matching).

    Args:
        denoiser: makes the signals of a batch; the module that is trained may be a wrapper of it.
        objective: draws noise and sigma and measures the error.
    """

    def __init__(self, denoiser: Denoiser, objective: FlowMatching) -> None:
        self.denoiser = denoiser
        self.objective = objective

    def __call__(self, module: nn.Module, batch: ClipBatch, generator: Generator) -> StepOutput:
        if batch.latents is None:
            raise InputError("a flow step needs latents: encode the clips with a codec first")
        signals = self.denoiser.hide(self.denoiser.signals(batch), len(batch), generator)
        at = self.objective.draw(batch.latents, generator)
        velocity = module(at.x, at.sigma, signals)
        loss = self.objective.loss(velocity, at)
        return StepOutput(self.objective.weighted(loss, at.sigma))


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

    def looks(
        self, a: Float[Tensor, "b 3 t h w"], b: Float[Tensor, "b 3 t h w"], generator: Generator
    ) -> Float[Tensor, "b"]:
        """The perceptual distance of a few frames; 0 without a judge."""
        if self.perceptual is None:
            return a.new_zeros(len(a))
        count = min(self.perceptual_frames, a.shape[2])
        seen = torch.randperm(a.shape[2], generator=generator, device=generator.device)[:count].to(a.device)
        return self.perceptual(a[:, :, seen], b[:, :, seen])


class CodecStep:
    """The reconstruction of each clip, and its `CodecLoss`.

    Args:
        codec: the codec itself; the module that is trained may be a wrapper of it.
        loss: what is made small.
    """

    def __init__(self, codec: VideoCodec, loss: CodecLoss) -> None:
        self.codec = codec
        self.loss = loss

    def __call__(self, module: nn.Module, batch: ClipBatch, generator: Generator) -> StepOutput:
        if batch.pixels is None:
            raise InputError("a codec step needs pixels")
        reconstruction, posterior = module(batch.pixels, generator)
        error = reconstruction.float() - batch.pixels
        squared = error.square().flatten(1).mean(1)
        of_pixels = squared if self.loss.pixels == "squared" else error.abs().flatten(1).mean(1)
        looks = self.loss.looks(reconstruction, batch.pixels, generator)
        kl = posterior.kl()
        found = {"squared_error": squared, "kl": kl}
        if self.loss.perceptual is not None:
            found["perceptual"] = looks
        loss = of_pixels + self.loss.kl * kl + self.loss.perceptual_weight * looks
        return StepOutput(loss, {name: value.mean().detach() for name, value in found.items()})
