import torch

from vdit.draws import Draws
from vdit.flow.noise import LogitNormal, Uniform
from vdit.flow.objective import FlowMatching, Noised, noised


def test_the_line_begins_at_data_and_ends_at_noise():
    x0, noise = torch.randn(2, 3, 4, 2, 2, 2).unbind(0)
    assert torch.equal(noised(x0, torch.zeros(3), noise).x, x0)
    assert torch.equal(noised(x0, torch.ones(3), noise).x, noise)
    at = noised(x0, torch.tensor([0.0, 0.25, 1.0]), noise)
    torch.testing.assert_close(at.x[1], 0.75 * x0[1] + 0.25 * noise[1])
    assert torch.equal(at.velocity, noise - x0)


def test_what_is_drawn_leads_back_to_the_data():
    x0 = torch.randn(6, 4, 2, 3, 3)
    at = FlowMatching(LogitNormal()).draw(x0, Draws(0))
    sigma = at.sigma.view(6, 1, 1, 1, 1)
    assert len(at.sigma.unique()) == 6
    torch.testing.assert_close(at.x - sigma * at.velocity, x0)
    noise = at.x + (1 - sigma) * at.velocity
    assert 0.9 < noise.std() < 1.1
    assert noise.mean().abs() < 0.1


def test_draws_are_a_function_of_the_draws():
    x0, objective = torch.randn(2, 4, 2, 3, 3), FlowMatching(Uniform())
    first, again, other = (objective.draw(x0, Draws(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.sigma, again.sigma)
    assert not torch.equal(first.x, other.x)


def test_the_loss_is_one_mean_a_clip_in_float32():
    true = torch.zeros(2, 1, 1, 2, 2)
    guess = torch.stack([torch.full((1, 1, 2, 2), 300.0), torch.ones(1, 1, 2, 2)]).half()
    loss = FlowMatching(Uniform()).loss(guess, Noised(true, torch.zeros(2), true))
    assert loss.dtype == torch.float32
    assert loss.tolist() == [90_000.0, 1.0]  # the first overflows in half precision
