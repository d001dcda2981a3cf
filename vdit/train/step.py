"""What one training step computes: a pure function of (module, batch, draws, steps done).

The loop knows nothing else of a step, so that a codec, a flow model and whatever comes later plug in
at the same place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from jaxtyping import Float
from torch import Tensor, nn

from vdit.denoiser import Denoiser, Signals
from vdit.draws import Draws
from vdit.flow.objective import FlowMatching
from vdit.types import ClipBatch, InputError

__all__ = ["FlowStep", "Step", "StepOutput"]


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
    """A training step. All its randomness is in the draws; `done` steps came before it."""

    def __call__(self, module: nn.Module, batch: ClipBatch, draws: Draws, done: int) -> StepOutput: ...


class FlowStep:
    """Velocity of noised latents against noise - x0 (flow matching).

    Args:
        denoiser: makes the signals of a batch; the module that is trained may be a wrapper of it.
        objective: draws noise and sigma and measures the error.
    """

    def __init__(self, denoiser: Denoiser, objective: FlowMatching) -> None:
        self.denoiser = denoiser
        self.objective = objective

    def __call__(self, module: nn.Module, batch: ClipBatch, draws: Draws, done: int = 0) -> StepOutput:
        if batch.latents is None:
            raise InputError("a flow step needs latents: encode the clips with a codec first")
        return self.heard(module, batch.latents, self.denoiser.drawn(batch, draws), draws)

    def heard(self, module: nn.Module, latents: Tensor, signals: Signals, draws: Draws) -> StepOutput:
        """The step of latents whose conditions have said what they ask."""
        at = self.objective.draw(latents, draws)
        velocity = module(at.x, at.sigma, signals)
        known = self.denoiser.known(signals)
        loss = self.objective.loss(velocity, at, None if known is None else known.mask)
        return StepOutput(self.objective.weighted(loss, at.sigma))
