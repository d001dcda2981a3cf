import itertools

import pytest
import torch

from vdit.flow.guidance import Guidance, compose, ladder


def test_the_scale_goes_from_null_through_conditional_and_beyond():
    null, conditional = torch.randn(2, 5)
    for scale, expected in ((0.0, null), (3.0, 3 * conditional - 2 * null)):
        assert [branch.heard for branch in ladder([scale])] == [0, 1]
        torch.testing.assert_close(compose([null, conditional], ladder([scale])), expected)


def test_scale_one_needs_no_null_branch():
    for count in range(4):
        [only] = ladder([1.0] * count)
        assert only.heard == count
    value = torch.randn(5)
    assert compose([value], ladder([1.0])) is value


@pytest.mark.parametrize("scales", itertools.product([0.0, 1.0, 2.0, 5.0], repeat=3))
def test_every_ladder_is_the_sum_over_its_steps(scales: tuple[float, ...]):
    """Whatever branches are left out."""
    heard = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = heard[0] + sum(s * (b - a) for s, a, b in zip(scales, heard[:-1], heard[1:], strict=True))
    branches = ladder(scales)
    found = compose([heard[branch.heard] for branch in branches], branches)
    torch.testing.assert_close(found, expected)
    different = len(list(itertools.groupby((1.0, *scales))))
    assert len(branches) == different


def test_each_of_two_experts_has_a_scale_of_its_own():
    both = Guidance(4.0, low_text=3.0, boundary=0.875)
    assert [both.scales(sigma)["text"] for sigma in (1.0, 0.875, 0.874, 0.1)] == [4.0, 4.0, 3.0, 3.0]
    assert list(both.scales(0.5)) == ["frames", "references", "camera", "text"]
