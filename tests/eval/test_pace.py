import pytest
import torch

from vdit.eval.pace import measure_pace

pytest.importorskip("cv2")


def moving(by: int) -> torch.Tensor:
    """Two clips of a texture that goes to the right by as many pixels a frame."""
    wide = torch.rand(2, 3, 1, 16, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wide = torch.nn.functional.interpolate(wide[:, :, 0], scale_factor=4, mode="bilinear")
    return torch.stack([wide[..., 40 - by * i : 104 - by * i] for i in range(5)], dim=2)


def test_the_speed_is_that_of_a_second():
    pace = measure_pace(moving(2), moving(1), moving(1), 8.0)
    assert pace.truth == pytest.approx(8 / 64, rel=0.2)  # 8 pixels a second, of 64
    assert pace.model == pytest.approx(2 * pace.truth, rel=0.2)
    assert pace.codec == pace.truth
    assert measure_pace(moving(1), moving(1), moving(1), 16.0).truth == pytest.approx(2 * pace.truth)
