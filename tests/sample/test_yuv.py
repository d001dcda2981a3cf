"""Clips are written by exact arithmetic: what a reader makes of the planes is what was to be shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from moving_waves import moving_waves
from torch import Tensor

from vdit.data.decode import open_video
from vdit.data.given import read_end
from vdit.sample.video_file import write_video
from vdit.sample.yuv import to_yuv420


def shown(planes: np.ndarray) -> Float[np.ndarray, "3 h w"]:
    """Levels of red, green and blue by float arithmetic, chroma interpolated as H.264 places it."""
    h, w = planes.shape[0] * 2 // 3, planes.shape[1]
    luma, chroma = planes[:h].astype(float), planes[h:].reshape(2, h // 2, w // 2).astype(float)
    down, across = (np.arange(h) + 0.5) / 2 - 0.5, np.arange(w) / 2
    rows = [[np.interp(down, np.arange(h // 2), column) for column in plane.T] for plane in chroma]
    blue, red = (
        np.array([np.interp(across, np.arange(w // 2), row) for row in np.transpose(r)]) for r in rows
    )
    y, b, r = (luma - 16) / 219, (blue - 128) / 224, (red - 128) / 224
    red, blue = y + 2 * (1 - 0.2126) * r, y + 2 * (1 - 0.0722) * b
    return np.stack([red, (y - 0.2126 * red - 0.0722 * blue) / 0.7152, blue]).clip(0, 1) * 255


def levels(pixels: Tensor) -> np.ndarray:
    return (pixels.numpy().clip(-1, 1) + 1) * 127.5


@pytest.mark.parametrize(("h", "w"), [(48, 64), (90, 134)])
def test_planes_are_those_of_float_arithmetic(h, w):
    pixels = moving_waves(3, h, w)[:, 1] * 0.9
    error = shown(to_yuv420(pixels)) - levels(pixels)
    assert abs(error.mean()) < 0.1
    assert np.sqrt((error**2).mean()) < 0.8


def test_grey_is_within_a_level_everywhere_and_white_is_white():
    grey = torch.linspace(-1.2, 1.2, 64).expand(3, 4, 64)
    assert np.abs(shown(to_yuv420(grey)) - levels(grey)).max() < 1
    ends = shown(to_yuv420(torch.tensor([-1.0, 1.0]).repeat_interleave(2).expand(3, 2, 4)))
    assert (ends[:, :, :2] == 0).all()
    assert (ends[:, :, 2:] == 255).all()
    assert to_yuv420(torch.zeros(3, 2, 2)).tolist() == [[126, 126], [126, 126], [128, 128]]


def test_colours_that_were_read_are_written_as_they_were():
    """Whatever they are: the sharpest edges that 4:2:0 can hold do not blur from one time to the next."""
    rng = np.random.default_rng(0)
    planes = np.concatenate([rng.integers(60, 190, (32, 48)), rng.integers(100, 156, (16, 48))]).astype(
        np.uint8
    )
    again = to_yuv420(torch.from_numpy(shown(planes) / 127.5 - 1).float())
    assert np.abs(again.astype(int) - planes).max() <= 1


def chain(path: Path, pixels: Tensor, crf: int, times: int = 10) -> list[np.ndarray]:
    """How far a clip is from what it was, in levels, each time after it was written and read."""
    found, now = [], pixels
    for _ in range(times):
        write_video(path, now, 24, crf=crf)
        read = open_video(path).read(0, pixels.shape[1])
        found.append(read.numpy() - levels(pixels))
        now = read.float() / 127.5 - 1
    return found


@pytest.mark.parametrize(("crf", "closeness"), [(0, 0.1), (17, 0.6)])
def test_ten_generations_lose_less_than_a_level(tmp_path, crf, closeness):
    errors = chain(tmp_path / "a.mp4", moving_waves(8, 64, 96), crf)
    assert abs(errors[0].mean()) < 0.25
    assert abs(errors[-1].mean()) < 0.5
    first, last = (np.abs(error).mean() for error in (errors[0], errors[-1]))
    assert last < first + closeness  # what the first writing loses, x264 at its quality, is all
    if crf == 0:
        assert np.sqrt((errors[0] ** 2).mean()) < 0.8


def test_a_continuation_begins_with_the_frames_that_were_written(tmp_path):
    pixels = moving_waves(9, 64, 96) * 0.9
    write_video(tmp_path / "a.mp4", pixels, 24, crf=0)
    error = (read_end(tmp_path / "a.mp4", 4, 24, 64, 96) - pixels[:, -4:]) * 127.5
    assert abs(error.mean()) < 0.2
    assert error.square().mean().sqrt() < 0.8
