import math

import pytest
import torch
from torch import Tensor

from vdit.draws import Draws
from vdit.flow.noise import LogitNormal, NoiseLevels, Uniform
from vdit.types import InputError

LEVELS = [Uniform(), Uniform(shift=3.0), LogitNormal(), LogitNormal(-0.5, 1.6, shift=2.5)]


def normal_cdf(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def probability(levels: NoiseLevels, sigma: Tensor) -> Tensor:
    """The share of the distribution below each sigma, from the definitions alone."""
    unshifted = sigma.double() / (levels.shift - (levels.shift - 1) * sigma.double())
    if isinstance(levels, LogitNormal):
        return torch.special.ndtr((torch.logit(unshifted) - levels.mean) / levels.std)
    return unshifted


def distance_from_uniform(u: Tensor) -> float:
    """The statistic of Kolmogorov and Smirnov."""
    ordered, n = u.sort().values, len(u)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    return max((steps[1:] - ordered).max().item(), (ordered - steps[:-1]).max().item())


def test_quantiles_of_the_logit_normal():
    levels = LogitNormal(mean=0.4, std=1.3)
    for z in (-2.0, -1.0, 0.0, 0.7, 2.0):
        got = levels.quantile(torch.tensor([normal_cdf(z)], dtype=torch.float64)).item()
        assert got == pytest.approx(1 / (1 + math.exp(-(0.4 + 1.3 * z))), rel=1e-6)


def test_shifting_a_logit_normal_moves_its_mean():
    seeds = [Draws(0) for _ in range(2)]
    shifted = LogitNormal(0.0, 1.0, shift=3.0).sample(64, seeds[0])
    torch.testing.assert_close(shifted, LogitNormal(math.log(3.0), 1.0).sample(64, seeds[1]))


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_a_batch_has_one_sigma_from_each_slice(levels: NoiseLevels, count: int):
    draws = Draws(0)
    for _ in range(20):
        sigma = levels.sample(count, draws)
        assert ((sigma > 0) & (sigma < 1)).all()
        slices = (probability(levels, sigma) * count + 1e-4).floor().sort().values
        off = slices - torch.arange(count)
        assert (off == 0).sum() >= count - 1  # one may stand on an edge, within rounding
        assert off.abs().max() <= 1


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("count", [1, 4])
def test_slicing_leaves_the_distribution_of_every_place_as_it_is(levels: NoiseLevels, count: int):
    draws, times = Draws(1), 4000
    u = probability(levels, torch.stack([levels.sample(count, draws) for _ in range(times)]))
    for place in range(count):
        assert distance_from_uniform(u[:, place]) < 1.63 / math.sqrt(times)  # the 1 % point
    if count > 1:
        assert torch.corrcoef(u.mT)[0, 1] < -0.2  # places avoid each other: the slices are shuffled
        assert u.mean(1).std() < 0.6 * math.sqrt(1 / 12 / count)  # and the batch varies less


def test_the_test_of_distributions_can_fail():
    u = torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert distance_from_uniform(u) < 1.63 / math.sqrt(4000) < distance_from_uniform(u**1.1)


def test_sigmas_are_a_function_of_the_draws():
    first, again, other = (LogitNormal().sample(8, Draws(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_shifts_that_are_not_positive_are_refused(shift: float):
    with pytest.raises(InputError, match=f"shift {shift} must be above 0"):
        Uniform(shift)


def test_a_spread_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match=r"std 0\.0 must be above 0"):
        LogitNormal(std=0.0)
