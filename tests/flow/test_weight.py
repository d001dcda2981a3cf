import pytest
import torch

from vdit.draws import Draws
from vdit.flow.noise import LogitNormal, NoiseLevels, Uniform
from vdit.flow.objective import FlowMatching, Noised
from vdit.flow.weight import Even, InverseVariance, SigmaWeight, mean_weight
from vdit.types import InputError

WEIGHTS = [Even(), InverseVariance(), InverseVariance(1.5)]
LEVELS = [Uniform(), Uniform(shift=3.0), LogitNormal(), LogitNormal(1.0, 1.4)]
EVERYWHERE = torch.linspace(0, 1, 101, dtype=torch.float64)


def test_weights_are_positive_at_every_sigma_and_greatest_in_the_middle():
    for power in (0.5, 1.0, 3.0):
        weight = InverseVariance(power)(EVERYWHERE)
        assert (weight > 0).all()
        assert weight.argmax() == 50
        torch.testing.assert_close(weight, weight.flip(0))
        assert weight[50] / weight[0] == pytest.approx(2**power)


def test_a_power_of_0_is_no_weight():
    assert torch.equal(InverseVariance(0.0)(EVERYWHERE), Even()(EVERYWHERE))


def test_a_power_of_1_moves_weight_as_cosmap_moves_draws():
    u = EVERYWHERE[1:-1]
    cosmap = 1 - 1 / (torch.tan(torch.pi / 2 * u) + 1)
    drawn_below = torch.trapezoid(InverseVariance()(EVERYWHERE), EVERYWHERE)
    for share, sigma in zip(u[9::10], cosmap[9::10], strict=True):
        below = torch.linspace(0, sigma.item(), 1001, dtype=torch.float64)
        part = torch.trapezoid(InverseVariance()(below), below) / drawn_below
        assert part.item() == pytest.approx(share.item(), abs=1e-4)


def test_a_negative_power_is_refused():
    with pytest.raises(InputError, match="power -1"):
        InverseVariance(-1)


@pytest.mark.parametrize("weight", WEIGHTS, ids=lambda weight: type(weight).__name__)
@pytest.mark.parametrize("levels", LEVELS, ids=lambda levels: type(levels).__name__)
def test_what_training_draws_weighs_1_on_average(weight: SigmaWeight, levels: NoiseLevels):
    sigma = levels.sample(200_000, Draws(0))
    weighted = FlowMatching(levels, weight).weighted(torch.ones(len(sigma)), sigma)
    assert weighted.mean().item() == pytest.approx(1, abs=1e-3)
    assert mean_weight(Even(), levels) == 1


def test_the_error_that_is_reported_knows_no_weight():
    true, sigma = torch.zeros(2, 1, 1, 2, 2), torch.tensor([0.5, 1.0])
    plain, weighted = FlowMatching(Uniform()), FlowMatching(Uniform(), InverseVariance(2.0))
    guess = torch.ones_like(true)
    loss = weighted.loss(guess, Noised(true, sigma, true))
    assert torch.equal(loss, plain.loss(guess, Noised(true, sigma, true)))
    assert torch.equal(plain.weighted(loss, sigma), loss)
    middle, end = weighted.weighted(loss, sigma)
    assert middle / end == pytest.approx(4)
