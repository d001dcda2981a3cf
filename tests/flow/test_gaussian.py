"""Data from one Gaussian N(m, s^2): velocity, loss and the paths of the flow are known in closed form."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from vdit.flow.multistep import DPMSolverPP, UniPC
from vdit.flow.noise import Uniform
from vdit.flow.objective import FlowMatching, noised
from vdit.flow.solver import Euler, Heun, Solver, schedule

MEAN, STD = 1.5, 0.4
SIGMAS = [0.02, 0.3, 0.5, 0.8, 1.0]


def variance(sigma: float) -> float:
    """Of x_sigma = (1 - sigma) x0 + sigma noise."""
    return (1 - sigma) ** 2 * STD**2 + sigma**2


def slope(sigma: float) -> float:
    """cov(noise - x0, x_sigma) / var(x_sigma)."""
    return (sigma - (1 - sigma) * STD**2) / variance(sigma)


def velocity(x: Tensor, sigma: float) -> Tensor:
    """E[noise - x0 | x_sigma = x], the regression of one Gaussian on another."""
    return -MEAN + slope(sigma) * (x - (1 - sigma) * MEAN)


def drawn(sigma: float, count: int = 40_000):
    generator = torch.Generator().manual_seed(0)
    shape = (count, 1, 1, 1, 1)
    x0 = MEAN + STD * torch.randn(shape, generator=generator)
    return noised(x0, torch.full((count,), sigma), torch.randn(shape, generator=generator))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_conditional_mean_has_the_least_loss(sigma: float):
    objective, at = FlowMatching(Uniform()), drawn(sigma)
    best = objective.loss(velocity(at.x, sigma), at).mean().item()
    least = 1 + STD**2 - slope(sigma) ** 2 * variance(sigma)
    assert best == pytest.approx(least, rel=0.03, abs=1e-4)
    # A quadratic: its rise is the mean square of what is added, exactly so in expectation.
    centred = at.x - (1 - sigma) * MEAN
    for offset, tilt in [(0.1, 0.0), (-0.1, 0.0), (0.0, 0.3), (0.0, -0.3), (0.1, 0.3)]:
        worse = objective.loss(velocity(at.x, sigma) + offset + tilt * centred, at).mean().item()
        rise = offset**2 + tilt**2 * variance(sigma)
        assert worse - best == pytest.approx(rise, abs=0.01)
        assert worse > best


def test_a_line_fitted_by_the_loss_is_the_conditional_mean():
    objective, at = FlowMatching(Uniform()), drawn(0.3)
    weights = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=50)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective.loss(weights[0] + weights[1] * at.x, at).mean()
        loss.backward()
        return loss

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    expected = [-MEAN - slope(0.3) * 0.7 * MEAN, slope(0.3)]
    assert weights.tolist() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("solver", "steps"), [(Euler(), 200), (Heun(), 60), (DPMSolverPP(), 60), (UniPC(), 60)]
)
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_solvers_carry_noise_to_the_data(solver: Solver, steps: int, shift: float):
    noise = torch.randn(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    data = solver.solve(velocity, noise, schedule(steps, shift))
    assert data.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert data.std().item() == pytest.approx(STD, rel=0.05)
    torch.testing.assert_close(data, MEAN + STD * noise, atol=0.06, rtol=0)  # each along its own path


@pytest.mark.parametrize(
    ("solver", "order", "steps"),
    [(Euler(), 1, 40), (Heun(), 2, 40), (UniPC(), 2, 40), (DPMSolverPP(), 2, 640)],
)
def test_errors_fall_with_the_order_of_the_solver(solver: Solver, order: int, steps: int):
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)
    errors = [
        (solver.solve(velocity, noise, schedule(steps)) - (MEAN + STD * noise)).abs().max().item()
        for steps in (steps, 2 * steps, 4 * steps, 8 * steps)
    ]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders[-1] == pytest.approx(order, abs=0.15), orders


def test_the_paths_in_between_are_those_of_the_flow():
    noise, sigmas, seen = torch.tensor([-1.0, 0.5], dtype=torch.float64), schedule(100), []

    def watched(x: Tensor, sigma: float) -> Tensor:
        seen.append((sigma, x))
        return velocity(x, sigma)

    Heun().solve(watched, noise, sigmas)
    for sigma, x in seen:
        expected = (1 - sigma) * MEAN + math.sqrt(variance(sigma)) * noise
        torch.testing.assert_close(x, expected, atol=2e-3, rtol=0)
