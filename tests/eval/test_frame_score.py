import pytest
import torch

from vdit.eval.frame_score import score_frames
from vdit.types import InputError


def clips() -> torch.Tensor:
    """Three clips that brighten by 0.1 a frame."""
    start = torch.tensor([-0.9, -0.3, 0.2]).view(3, 1, 1, 1, 1)
    return (start + 0.1 * torch.arange(5.0).view(1, 1, 5, 1, 1)).expand(3, 3, 5, 4, 4).clone()


def test_a_clip_that_keeps_its_frames_reaches_the_truth():
    truth = clips()
    first, last = score_frames(truth, truth, truth + 0.02, [0, 4])
    assert (first.frame, last.frame) == (0, 4)
    assert first.psnr > 100
    assert first.ceiling == pytest.approx(40, abs=0.01)  # 0.02 of a range of 2
    assert first.floor < 20
    for score in (first, last):
        assert (score.seam, score.seam_truth, score.seam_codec) == pytest.approx((0.1, 0.1, 0.1), abs=1e-6)


def test_a_jump_beside_a_given_frame_is_a_seam():
    truth, jumped = clips(), clips()
    jumped[:, :, 1:4] += 0.5  # the given frames are right, what is between them is not
    first, last = score_frames(jumped, truth, truth, [0, 4])
    assert first.psnr > 100
    assert last.psnr > 100
    assert first.seam == pytest.approx(0.6, abs=1e-6)
    assert last.seam == pytest.approx(0.4, abs=1e-6)


def test_clips_of_other_scenes_are_at_the_floor():
    truth = clips()
    [score] = score_frames(truth[[2, 0, 1]], truth, truth, [2])
    assert score.psnr == pytest.approx(score.floor, abs=3)
    assert score.psnr < 20
    with pytest.raises(InputError, match="score at least 2"):
        score_frames(truth[:1], truth[:1], truth[:1], [0])
