"""What ranks that share weights write into one checkpoint in tests, and what memory that takes."""

import gc
import json
import math
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from zero_work import CLIPS, LIMIT, OPTIM, error, model

from vdit.parallel.agreement import Agreement
from vdit.parallel.engine import Parallel, start_of
from vdit.parallel.optimizer_state import parted
from vdit.parallel.weights import WholeWeights
from vdit.parallel.zero import ZeroStepper
from vdit.train import saving
from vdit.train.checkpoint import Checkpoint, Checkpoints
from vdit.train.ema import EMA
from vdit.train.optim import build_optimizer
from vdit.train.saving import Writers
from vdit.train.state import TrainState
from vdit.types import DenoiserInput
from vdit.weights.files import read_tensors

STEPS = 3


class Scaled(nn.Module):
    """A transformer, a weight that no two ranks can share evenly, and values that are not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = model()
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, 7))
        self.register_buffer("seen", torch.arange(3))

    def forward(self, inputs: DenoiserInput) -> Tensor:
        return self.backbone(inputs) * self.gain.square().mean()


def begun(stage: int, start: Checkpoint | None = None) -> TrainState:
    """A state of all ranks, new or from a checkpoint."""
    with start_of(Parallel("cpu", dist.get_world_size(), strategy=f"zero{stage}")):  # pyright: ignore
        module = Scaled()
    if start is not None:
        start.load(module)
    stepper = ZeroStepper(module, build_optimizer(module, OPTIM), stage, LIMIT, offload=False, half=False)
    state = TrainState(module, stepper, EMA(stepper.weights, 0.9), {"epoch": 0})
    if start is not None:
        start.restore(state)
    return state


def trained(stage: int) -> TrainState:
    state = begun(stage)
    own = CLIPS // dist.get_world_size()
    rows = range(dist.get_rank() * own, (dist.get_rank() + 1) * own)
    for step in range(STEPS):
        state.stepper.backward(error(state.stepper.module, step, rows))
        state.stepper.update(state.stepper.gradient_norm(), torch.tensor(False))
        state.ema.update(step)
        state.step += 1
    return state


def writers() -> Writers:
    world = dist.get_world_size()
    return Writers(dist.get_rank(), world, "test", Agreement(world), patience=60)


def saved(state: TrainState, folder: Path, background: bool) -> Checkpoint:
    checkpoints = Checkpoints(folder, keep=1, writers=writers(), background=background)
    checkpoints.save(state)
    checkpoints.wait()
    latest = checkpoints.latest()
    assert latest is not None
    latest.verify()
    return latest


def contents(checkpoint: Checkpoint) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in checkpoint.path.iterdir()}


def alone() -> tuple[nn.Module, EMA, torch.optim.Optimizer]:
    """The same training by one process."""
    module = Scaled()
    optimizer, ema = build_optimizer(module, OPTIM), EMA(WholeWeights(module), 0.9)
    for step in range(STEPS):
        error(module, step, range(CLIPS)).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), LIMIT)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(step)
    return module, ema, optimizer


def compare(found: dict[str, Tensor], expected: dict[str, Tensor], said: str) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        other = found[name]
        assert (other.shape, other.dtype) == (value.shape, value.dtype), f"{said}, {name}"
        torch.testing.assert_close(
            other, value, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{said}, {n}: {m}"
        )


def files(rank: int, world: int, folder: Path) -> None:
    """Every stage writes what one process has, and what a stage reads it writes again, to the byte."""
    module, ema, optimizer = alone()
    tensors, settings = parted(optimizer.state_dict())
    before = begun(1)
    assert contents(saved(before, folder / "before", background=False)).keys() >= {"optimizer.safetensors"}
    for stage, other in ((1, 3), (2, 1), (3, 2)):
        state = trained(stage)
        there = saved(state, folder / f"{stage}", background=stage != 2)
        compare(read_tensors(there.weights), module.state_dict(), f"zero{stage}")
        compare(read_tensors(there.average), ema.average, f"zero{stage}, average")
        compare(read_tensors(there.path / "optimizer.safetensors"), tensors, f"zero{stage}, optimizer")
        assert json.loads((there.path / "optimizer.json").read_text()) == json.loads(json.dumps(settings))
        again = saved(begun(other, there), folder / f"{stage} then {other}", background=False)
        assert contents(again) == contents(there), f"zero{stage} then zero{other}"
    assert sorted(path.name for path in (folder / "1").iterdir()) == [f"step_{STEPS:08d}"]


def live_bytes() -> int:
    """Of all tensors that there are, each memory counted once."""
    found = [o.untyped_storage() for o in gc.get_objects() if issubclass(type(o), Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in found}.values())


def bounded(rank: int, world: int, folder: Path) -> None:
    """While a checkpoint is written there is never more than one weight beside what training has."""
    state, write, most = trained(3), os.pwrite, 0

    def watched(handle: int, data: memoryview, place: int) -> int:
        nonlocal most
        if len(data) > 2**14:
            most = max(most, live_bytes())
        return write(handle, data, place)

    os.pwrite = watched
    largest = max(4 * math.prod(entry.shape) for entry in state.stepper.weights.entries().values())
    for background in (False, True):
        before, most = live_bytes(), 0
        saved(state, folder / f"{background}", background)
        assert (most - before <= largest) is not background  # a copy of everything is what the thread writes


def gone(rank: int, world: int, folder: Path) -> None:
    """Rank 1 dies in a save; rank 0, which waits for its end and for nothing else, hears of it and leaves."""
    state = begun(1)
    saving.HURRIED = 0.5
    if rank == 1:
        saving.Layout.write = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # pyright: ignore
    checkpoints = Checkpoints(folder / "checkpoints", keep=1, writers=writers(), background=True)
    since = time.monotonic()
    try:
        with checkpoints:
            checkpoints.save(state)
    except RuntimeError:
        assert checkpoints.all() == []
        (folder / "told").write_text(f"{time.monotonic() - since}")
