import pytest
import torch

from vdit.flow.multistep import DPMSolverPP, UniPC
from vdit.flow.noise import shift_sigma
from vdit.flow.solver import Euler, Heun, Solver, schedule
from vdit.types import InputError


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0, 12.0])
def test_schedules_fall_from_one_to_zero(steps: int, shift: float):
    sigmas = schedule(steps, shift)
    assert len(sigmas) == steps + 1
    assert sigmas[0].item() == 1
    assert sigmas[-1].item() == 0
    assert (sigmas.diff() < 0).all()
    for i, sigma in enumerate(sigmas.tolist()):
        even = 1 - i / steps
        assert sigma == pytest.approx(shift * even / (1 + (shift - 1) * even), abs=1e-12)


def test_a_schedule_may_begin_below_one_and_end_above_zero():
    even = [0.999 - i * 0.999 / 4 for i in range(4)]
    assert schedule(4, first=0.999).tolist() == pytest.approx([*even, 0.0])
    assert schedule(2, shift=3.0, last=0.5).tolist() == pytest.approx([1.0, 3 * 0.75 / 2.5, 0.0])
    for first, last in ((1.1, 0.0), (0.5, 0.5), (1.0, -0.1)):
        with pytest.raises(InputError, match="falls within 1 to 0"):
            schedule(4, first=first, last=last)


def test_a_schedule_without_steps_is_refused():
    with pytest.raises(InputError, match="steps 0 must be at least 1"):
        schedule(0)


def test_shift_one_changes_nothing_and_shifts_multiply():
    sigma = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(shift_sigma(sigma, 1.0), sigma)
    torch.testing.assert_close(shift_sigma(shift_sigma(sigma, 2.0), 3.5), shift_sigma(sigma, 7.0))
    torch.testing.assert_close(shift_sigma(shift_sigma(sigma, 4.0), 0.25), sigma)
    inside = sigma[1:-1]
    logit = torch.logit(shift_sigma(inside, 5.0)) - torch.logit(inside)
    torch.testing.assert_close(logit, torch.full_like(logit, 5.0).log())


@pytest.mark.parametrize(
    ("solver", "evaluations"), [(Euler(), 5), (Heun(), 9), (DPMSolverPP(), 5), (UniPC(), 5)]
)
def test_solvers_count_their_evaluations_and_steps(solver: Solver, evaluations: int):
    asked, told = [], []

    def velocity(x: torch.Tensor, sigma: float) -> torch.Tensor:
        asked.append(sigma)
        return torch.ones_like(x)

    out = solver.solve(velocity, torch.zeros(2), schedule(5), lambda done, total: told.append((done, total)))
    assert len(asked) == evaluations
    assert min(asked) > 0  # the data end, where networks are worst, is never asked for
    assert told == [(i, 5) for i in range(1, 6)]
    torch.testing.assert_close(out, -torch.ones(2))  # straight paths are solved exactly


def test_a_straight_path_needs_one_step():
    x0, noise = torch.randn(2, 3)
    for solver in (Euler(), Heun(), DPMSolverPP(), UniPC()):
        torch.testing.assert_close(solver.solve(lambda x, s: noise - x0, noise, schedule(1)), x0)
