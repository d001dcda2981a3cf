"""What one training step computes: a pure function of (module, batch, generator).

The loop knows nothing else of a step, so that a codec, a flow model and whatever comes later plug in
at the same place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from jaxtyping import Float
from torch import Generator, Tensor, nn

from vdit.codecs.codec import VideoCodec
from vdit.denoiser import Denoiser
from vdit.flow.objective import FlowMatching
from vdit.types import ClipBatch, InputError

__all__ = ["CodecStep", "FlowStep", "Step", "StepOutput"]


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


class CodecStep:
    """Reconstruction error plus a small KL divergence (a VAE; Kingma & Welling 2014, eq. 7).

    Args:
        codec: the codec itself; the module that is trained may be a wrapper of it.
        kl: weight of the KL divergence, in nats a latent value.
    """

    def __init__(self, codec: VideoCodec, kl: float) -> None:
        self.codec = codec
        self.kl = kl

    def __call__(self, module: nn.Module, batch: ClipBatch, generator: Generator) -> StepOutput:
        if batch.pixels is None:
            raise InputError("a codec step needs pixels")
        reconstruction, posterior = module(batch.pixels, generator)
        squared = (reconstruction.float() - batch.pixels).square().flatten(1).mean(1)
        kl = posterior.kl()
        metrics = {"squared_error": squared.mean().detach(), "kl": kl.mean().detach()}
        return StepOutput(squared + self.kl * kl, metrics)
