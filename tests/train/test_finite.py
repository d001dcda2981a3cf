"""A step that is no number leaves everything as it is, also where this process hears of it late."""

from pathlib import Path

import pytest
import torch

from vdit.parallel.engine import Engine
from vdit.train.checkpoint import Checkpoints
from vdit.train.ema import EMA
from vdit.train.finite import NonFinite
from vdit.train.loop import Loop, fit
from vdit.train.optim import MuonFor, Optim, build_optimizer
from vdit.train.state import TrainState

OPTIM = Optim(lr=0.05, warmup_steps=2)
MUON = Optim(lr=0.05, warmup_steps=2, muon=MuonFor(("0.weight",)))


def third_batch(loader) -> list[int]:
    """One clip of the third batch."""
    with loader(4) as batches:
        ids = [next(batches).ids for _ in range(3)][2]
    return [int(ids[1].removeprefix("clip-"))]


@pytest.mark.parametrize("optim", [OPTIM, MUON], ids=["AdamW", "Muon"])
@pytest.mark.parametrize("late", [False, True])
def test_neither_that_step_nor_the_next_moves_anything(
    engine: Engine, loader, step, snapshot, monkeypatch, tmp_path: Path, optim: Optim, late: bool
):
    monkeypatch.setattr(Engine, "runs_ahead", late)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    stepper = engine.setup(module, build_optimizer(module, optim), 1.0)
    state = TrainState(module, stepper, EMA(stepper.weights, 0.0), {})
    before: list[dict] = []

    def watched(module, batch, draws, done):
        before.append(snapshot(state))
        return step(module, batch, draws, done)

    with loader(4, wrong=third_batch(loader)) as batches, pytest.raises(NonFinite) as stopped:
        fit(state, watched, batches, engine, Checkpoints(tmp_path, 1), [], Loop(steps=8), optim, 0)
    bad = int(str(stopped.value).partition("at step ")[2].partition(" ")[0])
    assert bad == 3
    assert len(before) == bad + late
    assert f"The weights are those of step {bad - 1};" in str(stopped.value)
    after = snapshot(state)
    moved = [name for name in after if not torch.equal(before[1][name], after[name])]
    assert len(moved) > len(after) / 2
    assert all(torch.equal(before[2][name], after[name]) for name in after)


def test_what_is_heard_late_is_heard_before_a_checkpoint(
    engine, loader, step, new_state, monkeypatch, tmp_path: Path
):
    monkeypatch.setattr(Engine, "runs_ahead", True)
    checkpoints = Checkpoints(tmp_path, keep=9)
    with loader(4, wrong=third_batch(loader)) as batches, pytest.raises(NonFinite):
        fit(new_state(), step, batches, engine, checkpoints, [], Loop(steps=8, save_every=1), OPTIM, 0)
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [1, 2]
