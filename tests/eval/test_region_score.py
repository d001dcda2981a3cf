import pytest
import torch

from vdit.eval.region_score import middle, score_region

SIZE = (3, 3, 5, 16, 16)


def clips(seed: int) -> torch.Tensor:
    """Three scenes of one colour each, which changes slowly to the right."""
    colour = torch.rand(3, 3, 1, 1, 1, generator=torch.Generator().manual_seed(seed)) - 0.5
    return (colour + 0.01 * torch.arange(16.0)).expand(SIZE).clone()


def test_the_middle_is_half_as_high_and_half_as_wide():
    mask = middle(16, 32)
    assert mask.sum() == 16 * 32 // 4
    assert mask[4:12, 8:24].all()


def test_what_is_kept_and_what_is_painted_are_told_apart():
    truth, mask = clips(0), middle(16, 16)
    painted = torch.where(mask, truth + 0.2, truth)
    score = score_region(painted, truth, truth + 0.02, mask)
    assert score.kept > 100
    assert score.kept_codec == pytest.approx(40, abs=0.01)  # 0.02 of a range of 2
    assert score.painted == pytest.approx(20, abs=0.01)
    assert score.painted_codec == pytest.approx(40, abs=0.01)
    assert score_region(truth[[2, 0, 1]], truth, truth, mask).painted < 20


def test_a_border_that_shows_is_an_edge():
    truth, mask = clips(0), middle(16, 16)
    painted = torch.where(mask, truth + 0.2, truth)
    score = score_region(painted, truth, truth, mask)
    assert score.edge_truth == score.edge_codec == pytest.approx(0.005, abs=1e-6)  # 0.01 across, 0 down
    assert score.edge == pytest.approx(0.2, abs=1e-6)  # 0.21 on one side, 0.19 on the other


def test_clips_of_other_scenes_are_at_the_floor():
    truth, mask = clips(0), middle(16, 16)
    score = score_region(truth[[1, 2, 0]], truth, truth, mask)
    assert score.painted < score.painted_codec
    assert (
        max(score_region(truth[order], truth, truth, mask).painted_floor for order in ([1, 2, 0], [2, 0, 1]))
        > 100
    )
