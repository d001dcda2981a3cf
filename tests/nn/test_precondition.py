import pytest
import torch

from vdit.nn.precondition import precondition


@pytest.mark.parametrize("sigma", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_rest_has_unit_variance_and_nothing_linear_in_the_input(sigma: float):
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 64, 4, 5, 5, 40, generator=generator)
    x, at = torch.lerp(x0, noise, sigma), torch.full((64, 1, 1, 1), sigma)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    guess = precondition(x, at, zero)
    rest = (noise - x0 - guess) / (precondition(x, at, one) - guess)
    assert rest.var().item() == pytest.approx(1, abs=0.02)
    assert (rest * x).mean().abs() < 0.01


def test_every_latent_has_a_sigma_of_its_own():
    x, residual, sigma = torch.randn(2, 3, 2, 4, 4), torch.randn(2, 3, 2, 4, 4), torch.rand(2, 2, 4, 4)
    whole = precondition(x, sigma, residual)
    one = precondition(x[1:, :, 1:, 2:3, 3:], sigma[1:, 1:, 2:3, 3:], residual[1:, :, 1:, 2:3, 3:])
    torch.testing.assert_close(whole[1:, :, 1:, 2:3, 3:], one)
    assert precondition(x.bfloat16(), sigma, residual.bfloat16()).dtype == torch.bfloat16
