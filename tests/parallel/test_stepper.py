"""One optimiser step of one process, on a CPU."""

import pytest
import torch
from torch import nn

from vdit.parallel.engine import Engine, Parallel
from vdit.parallel.stepper import Stepper
from vdit.train.optim import MuonFor, Optim, build_optimizer

LIMIT = 1.0


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))


@pytest.fixture(params=[None, MuonFor(("0.weight",))], ids=["adamw", "muon"])
def optim(request: pytest.FixtureRequest) -> Optim:
    return Optim(lr=0.1, muon=request.param, clip_norm=LIMIT)


@pytest.fixture(params=[False, True], ids=["numbers are here", "numbers come later"], autouse=True)
def runs_ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU, and as on a device that the host runs ahead of."""
    monkeypatch.setattr(Engine, "runs_ahead", request.param)


def stepper_of(module: nn.Module, optim: Optim) -> Stepper:
    return Engine(Parallel("cpu")).setup(module, build_optimizer(module, optim), LIMIT)


def put_gradients(module: nn.Module, norm: float, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    drawn = [torch.randn(p.shape, generator=generator) for p in module.parameters()]
    whole = torch.cat([g.flatten() for g in drawn]).norm()
    for p, g in zip(module.parameters(), drawn, strict=True):
        p.grad = g * (norm / whole)


@pytest.mark.parametrize("norms", [(0.5, 0.9), (4.0, 0.5, 3.0)], ids=["below", "above"])
def test_gradients_above_the_limit_are_scaled_down_and_others_are_not(optim: Optim, norms: tuple[float, ...]):
    module, bare = network(), network()
    stepper, optimizer = stepper_of(module, optim), build_optimizer(bare, optim)
    for step, norm in enumerate(norms):
        put_gradients(module, norm, step)
        found = stepper.gradient_norm()
        assert found.item() == pytest.approx(norm, rel=1e-5)
        stepper.update(found, torch.tensor(False))
        put_gradients(bare, min(norm, LIMIT), step)
        optimizer.step()
    for p, q in zip(module.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
        assert p.grad is None


def test_where_kernels_may_not_heed_the_limit_gradients_are_scaled_before(monkeypatch: pytest.MonkeyPatch):
    """As torch's fused optimisers on Apple's GPUs did not before 2.13."""
    monkeypatch.setattr(Engine, "runs_ahead", False)
    module, bare = network(), network()
    optimizer, same = (torch.optim.SGD(each.parameters(), lr=0.1) for each in (module, bare))
    stepper = Engine(Parallel("cpu")).setup(module, optimizer, LIMIT)
    monkeypatch.setattr(stepper, "_device", torch.device("mps"))
    put_gradients(module, 4.0, 0)
    put_gradients(bare, LIMIT, 0)
    stepper.update(stepper.gradient_norm(), torch.tensor(False))
    same.step()
    for ours, theirs in zip(module.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_step_that_must_stay_changes_nothing_and_is_forgotten(optim: Optim):
    module, straight = network(), network()
    stepper, other = stepper_of(module, optim), stepper_of(straight, optim)

    def step(number: int) -> None:
        for trained, each in ((module, stepper), (straight, other)):
            put_gradients(trained, 2.0, number)
            each.update(each.gradient_norm(), torch.tensor(False))

    step(0)
    put_gradients(module, torch.nan, 1)
    stepper.update(stepper.gradient_norm(), torch.tensor(True))
    assert all(p.grad is None for p in module.parameters())
    step(2)
    for p, q in zip(module.parameters(), straight.parameters(), strict=True):
        assert torch.equal(p, q)
