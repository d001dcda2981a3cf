import math

import pytest
import torch

from vdit.eval.frechet import frechet_distance
from vdit.types import InputError


def gaussian(n: int, mean: torch.Tensor, cov: torch.Tensor) -> torch.Tensor:
    """Samples whose moments are exactly these."""
    x = torch.randn(n, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(0)
    x = torch.linalg.solve_triangular(torch.linalg.cholesky(x.mT.cov()), x.mT, upper=False).mT
    return x @ torch.linalg.cholesky(cov).mT + mean


def test_gaussians_that_commute_have_a_closed_form():
    variances, others = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([4.0, 4.0, 1.0]).double()
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    a = gaussian(50, torch.zeros(3).double(), turn @ torch.diag(variances) @ turn.mT)
    b = gaussian(70, torch.tensor([1.0, 2.0, 2.0]).double(), turn @ torch.diag(others) @ turn.mT)
    want = 9 + (variances.sqrt() - others.sqrt()).square().sum().item()
    assert frechet_distance(a, b) == pytest.approx(want)
    assert frechet_distance(b, a) == pytest.approx(want)


def test_gaussians_that_do_not_commute_match_the_root_of_the_product():
    torch.manual_seed(1)
    covs = [x @ x.mT + torch.eye(4).double() for x in torch.randn(2, 4, 4, dtype=torch.float64)]
    a, b = (gaussian(40, torch.zeros(4).double(), cov) for cov in covs)
    values = torch.linalg.eigvals(covs[0] @ covs[1]).real.sqrt().sum()
    want = covs[0].trace() + covs[1].trace() - 2 * values
    assert frechet_distance(a, b) == pytest.approx(want.item())


def test_the_same_samples_are_no_distance_apart_even_when_few():
    x = torch.randn(5, 32)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert math.isclose(frechet_distance(x, x + 1), 32, rel_tol=1e-5)


def test_one_sample_has_no_covariance():
    with pytest.raises(InputError, match="1 and 3 samples have no covariance"):
        frechet_distance(torch.randn(1, 2), torch.randn(3, 2))
