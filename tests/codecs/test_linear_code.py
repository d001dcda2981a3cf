import pytest
import torch
from torch import Tensor

from vdit.codecs.native.linear_code import LinearCode, levelling

CHANNELS = 5
WHITENINGS = [0.0, 0.5, 1.0]


def clips(seed: int = 0) -> Tensor:
    """Smooth clips with a mean of their own: blocks of unlike variances."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(6, 3, 5, 4, 4, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=(5, 8, 8), mode="trilinear")
    return fine + 0.05 * torch.randn(6, 3, 5, 8, 8, generator=generator) + 0.3


def squared_error(code: LinearCode, blocks: Tensor) -> float:
    return (code.to_block(code.to_code(blocks)) - blocks).double().square().sum(1).mean().item()


def fitted(pixels: Tensor, whitening: float) -> tuple[LinearCode, Tensor]:
    code = LinearCode(CHANNELS, stride_t=2, stride_s=2)
    code.fit([pixels], whitening)
    return code.requires_grad_(False), code.blocks(pixels, first=True).flatten(0, 3)


@pytest.mark.parametrize("whitening", WHITENINGS)
def test_the_error_is_the_sum_of_the_dropped_eigenvalues(whitening: float):
    code, blocks = fitted(clips(), whitening)
    assert blocks.shape == (6 * 3 * 4 * 4, 3 * 2 * 2 * 2)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(blocks.double().mT, correction=0))
    dropped = eigenvalues[:-CHANNELS].sum().item()
    assert dropped < 0.3 * eigenvalues.sum().item()
    assert squared_error(code, blocks) == pytest.approx(dropped, rel=1e-4)


@pytest.mark.parametrize("whitening", WHITENINGS)
def test_no_other_linear_code_of_as_many_numbers_does_better(whitening: float):
    code, blocks = fitted(clips(), whitening)
    best = squared_error(code, blocks)
    generator = torch.Generator().manual_seed(0)
    mean = blocks.mean(0)
    rivals = []
    for _ in range(20):
        axes = torch.linalg.qr(torch.randn(blocks.shape[1], CHANNELS, generator=generator)).Q
        rivals.append(((blocks - mean) @ axes @ axes.mT + mean - blocks).square().sum(1).mean().item())
        numbers = torch.randn(len(blocks), CHANNELS, generator=generator)  # even codes that are not linear
        decoder = torch.linalg.lstsq(numbers, blocks - mean).solution
        rivals.append((numbers @ decoder + mean - blocks).square().sum(1).mean().item())
    assert min(rivals) > best
    for _ in range(20):
        near = LinearCode(CHANNELS, 2, 2).requires_grad_(False)
        near.load_state_dict({k: v + 1e-2 * torch.randn(v.shape) for k, v in code.state_dict().items()})
        assert squared_error(near, blocks) > best


@pytest.mark.parametrize("whitening", WHITENINGS)
def test_every_number_has_mean_zero_and_variance_one(whitening: float):
    code, blocks = fitted(clips(), whitening)
    numbers = code.to_code(blocks).double()
    torch.testing.assert_close(numbers.mean(0), torch.zeros(CHANNELS).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(numbers.var(0, correction=0), torch.ones(CHANNELS).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("whitening", WHITENINGS)
def test_components_are_as_alike_in_size_as_asked(whitening: float):
    code, blocks = fitted(clips(), whitening)
    found = torch.linalg.eigvalsh(torch.cov(code.to_code(blocks).double().mT, correction=0))
    kept = torch.linalg.eigvalsh(torch.cov(blocks.double().mT, correction=0))[-CHANNELS:]
    wanted = kept ** (1 - whitening)  # of variances; all of them share a scale
    torch.testing.assert_close(found, wanted / wanted.mean(), atol=1e-3, rtol=1e-3)


def test_without_whitening_distances_are_those_among_pixels():
    code, blocks = fitted(clips(), 0.0)
    between = torch.pdist(code.to_code(blocks))
    kept = torch.pdist(code.to_block(code.to_code(blocks)))
    ratio = between / kept
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), atol=0, rtol=1e-3)


@pytest.mark.parametrize(
    "variance", [[4.0, 1.0, 0.25, 0.01], [1.0, 1.0, 1.0], [3.0], [9.0, 1e-8], [1.0] * 3 + [50.0]]
)
def test_levelling_is_a_rotation_after_which_variances_are_equal(variance: list[float]):
    before = torch.tensor(variance, dtype=torch.float64)
    turn = levelling(before)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(len(before)).double())
    assert torch.linalg.det(turn).item() == pytest.approx(1)
    after = (turn @ torch.diag(before) @ turn.mT).diagonal()
    torch.testing.assert_close(after, before.mean().expand_as(after))


def test_enough_numbers_lose_nothing():
    code = LinearCode(24, stride_t=2, stride_s=2)
    code.fit([pixels := clips()], 0.5)
    torch.testing.assert_close(code.decode(code.encode(pixels, None), None), pixels, atol=1e-4, rtol=0)


@pytest.mark.parametrize("whitening", WHITENINGS)
def test_clips_of_one_colour_leave_finite_weights(whitening: float):
    code = LinearCode(CHANNELS, stride_t=2, stride_s=2)
    code.fit([pixels := torch.full((2, 3, 5, 8, 8), 0.5)], whitening)
    assert all(torch.isfinite(p).all() for p in code.parameters())
    torch.testing.assert_close(code.decode(code.encode(pixels, None), None), pixels, atol=1e-4, rtol=0)


def test_the_first_block_repeats_the_first_frame():
    code = LinearCode(CHANNELS, stride_t=4, stride_s=2)
    pixels = torch.randn(1, 3, 5, 2, 2)
    first, second = code.blocks(pixels, first=True)[0, :, 0, 0].reshape(2, 3, 4, 2, 2)
    assert all(torch.equal(first[:, i], pixels[0, :, 0]) for i in range(4))
    assert torch.equal(second, pixels[0, :, 1:])
