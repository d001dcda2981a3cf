"""What changes while training runs, and what one step left behind."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vdit.draws import Draws
from vdit.parallel.mesh import Mesh
from vdit.parallel.stepper import Stepper
from vdit.train.ema import EMA
from vdit.train.stopwatch import Stopwatch

__all__ = ["Own", "StepRecord", "TrainState", "step_draws"]


@dataclass
class TrainState:
    """All that a checkpoint must hold to go on exactly.

    Randomness is no part of it: every step has `Draws` made from (seed, step), and the learning rate
    is a function of the step.

    Attributes:
        module: what is trained, not wrapped.
        stepper: the same and its optimiser, as the run's strategy has them.
        ema: the average of its weights.
        position: where the data order stands, as the loader tells it.
        step: steps done.
        seconds: time spent training, over all sessions of the run.
        borrowed: names of weights that training does not change and that stand elsewhere.
    """

    module: nn.Module
    stepper: Stepper
    ema: EMA
    position: Mapping[str, int]
    step: int = 0
    seconds: float = 0.0
    borrowed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Own:
    """What one process saw of a step.

    Attributes:
        ids: its clips.
        losses: theirs.
        forward: how long the forward pass took.
        waited: seconds for clips to be read.
    """

    ids: tuple[str, ...]
    losses: Tensor
    forward: Stopwatch
    waited: float


@dataclass(frozen=True)
class StepRecord:
    """One step in numbers. Tensors stay on the device: reading one waits for it.

    Attributes:
        step: steps done, this one included.
        loss: mean over the batch.
        gradient_norm: before clipping.
        rate: learning rate.
        seconds: wall-clock time of the step.
        clips: clips it saw, over all ranks.
        metrics: what else the step measured.
        own: what this process alone saw of it.
    """

    step: int
    loss: Tensor
    gradient_norm: Tensor
    rate: float
    seconds: float
    clips: int
    metrics: Mapping[str, Tensor]
    own: Own


def step_draws(seed: int, step: int, mesh: Mesh, device: torch.device) -> Draws:
    """The source of a step's randomness; also seeds torch's own for layers that draw by themselves."""
    mixed = ((seed * 1_000_003 + step) * 65_537) % 2**62
    # torch.manual_seed would note, with a stack trace, what to do should an accelerator wake up later.
    seed_all = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
    seed_all(mixed + mesh.data_rank)
    return Draws(mixed, mesh.data_rank, mesh.data_world)
