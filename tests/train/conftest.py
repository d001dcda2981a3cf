"""A run small enough to count by hand: a linear map of latents, trained on clips known by name."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Generator, Tensor, nn

from vdit.data.loader import BatchLoader
from vdit.data.order import ClipOrder
from vdit.data.stack import LatentClip
from vdit.parallel.engine import Engine, Parallel
from vdit.train.ema import EMA
from vdit.train.state import TrainState
from vdit.train.step import StepOutput
from vdit.types import ClipBatch


class Latents:
    """Clips of four numbers each; `wrong` are not finite."""

    def __init__(self, count: int = 16, wrong: Sequence[int] = ()) -> None:
        self.values = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
        self.values[list(wrong)] = float("nan")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> LatentClip:
        return LatentClip(f"clip-{index}", self.values[index].reshape(4, 1, 1, 1), "", 8.0)


def regression(module: nn.Module, batch: ClipBatch, generator: Generator, done: int = 0) -> StepOutput:
    """Learn the sum and the difference of the first two numbers; draws nothing."""
    assert batch.latents is not None
    x = batch.latents.flatten(1)
    target = torch.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]], dim=1)
    loss = (module(x) - target).square().mean(1)
    return StepOutput(loss, {"largest": loss.max().detach()})


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(Parallel(accelerator="cpu"))


@pytest.fixture
def loader() -> Callable[..., BatchLoader]:
    """`loader(batch, **Latents' arguments)`"""

    def build(batch: int, **latents) -> BatchLoader:
        source = Latents(**latents)
        return BatchLoader(source, ClipOrder(len(source), seed=0, batch=batch), workers=1)

    return build


@pytest.fixture
def step() -> Callable[..., StepOutput]:
    return regression


@pytest.fixture
def new_state(engine: Engine) -> Callable[..., TrainState]:
    """`new_state(lr=0.05, optimizer="AdamW", limit=1.0)`: always the same weights."""

    def fresh(lr: float = 0.05, optimizer: str = "AdamW", limit: float = 1.0) -> TrainState:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        kind = getattr(torch.optim, optimizer)
        stepper = engine.setup(module, kind(module.parameters(), lr=lr, fused=True), limit)
        return TrainState(module, stepper, EMA(stepper.weights, 0.9), {"epoch": 0})

    return fresh


@pytest.fixture
def snapshot() -> Callable[[TrainState], dict[str, Tensor]]:
    """Every tensor that a step may change, copied."""

    def copy(state: TrainState) -> dict[str, Tensor]:
        tensors = {f"model {k}": v.clone() for k, v in state.module.state_dict().items()}
        tensors |= {f"average {k}": v.clone() for k, v in state.ema.average.items()}
        saved = state.stepper.optimizer.state_dict()
        for name, part in {"": saved, **saved}.items():  # of one optimiser, or of several by name
            for number, moments in part.get("state", {}).items() if isinstance(part, dict) else ():
                tensors |= {f"optimizer {name} {number} {k}": v.clone() for k, v in moments.items()}
        return tensors

    return copy
