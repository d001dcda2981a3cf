import math

import pytest
import torch

from vdit.nn.embed import fourier


def test_fourier_is_cosines_and_sines_of_thousandths():
    sigma = torch.tensor([[0.0, 0.25], [0.5, 1.0]])
    out = fourier(sigma, 8)
    assert out.shape == (2, 2, 8)
    for i, frequency in enumerate(10_000 ** (-k / 4) for k in range(4)):
        for value, row in zip(sigma.flatten().tolist(), out.reshape(4, 8), strict=True):
            assert row[i].item() == pytest.approx(math.cos(1000 * value * frequency), abs=1e-4)
            assert row[i + 4].item() == pytest.approx(math.sin(1000 * value * frequency), abs=1e-4)


def test_fourier_tells_neighbouring_sigmas_apart():
    rows = fourier(torch.linspace(0, 1, 1001), 256)
    assert torch.cdist(rows, rows).fill_diagonal_(1e9).min() > 0.3


def test_fourier_of_a_small_scale_varies_slowly():
    close, far = (fourier(torch.tensor([0.0, gap]), 256, scale=30, theta=300) for gap in (0.01, 0.5))
    assert (close[0] - close[1]).norm() < 0.1 * (far[0] - far[1]).norm()
