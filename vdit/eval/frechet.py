"""The Fréchet distance between two sets of features."""

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.types import InputError

__all__ = ["frechet_distance"]


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), of the Gaussians with these moments.

    In float64, the root by eigenvalues of a symmetric matrix. With fewer samples than features the
    covariances are of low rank: compare numbers of equally many samples only.
    Source: Dowson & Landau 1982, eq. 4; Heusel et al. 2017, eq. 6.

    Raises:
        InputError: fewer than two samples of either.
    """
    if min(len(a), len(b)) < 2:
        raise InputError(f"{len(a)} and {len(b)} samples have no covariance: give at least 2 of each")
    a, b = a.double(), b.double()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = a.mT.cov(), b.mT.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return max(0.0, (shift + cov_a.trace() + cov_b.trace() - 2 * cross).item())
