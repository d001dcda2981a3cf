import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from vdit.data.transforms import ResampleFps, ResizeCrop, ToUnitRange
from vdit.types import InputError


def test_own_rate_keeps_every_frame():
    times = np.arange(50) * 1001 / 30000
    chosen = ResampleFps(30000 / 1001)(times, 50 * 1001 / 30000)
    assert chosen.tolist() == list(range(50))


def test_a_third_of_the_rate_keeps_every_third_frame():
    times = np.arange(30) / 24
    assert ResampleFps(8)(times, 30 / 24).tolist() == list(range(0, 30, 3))


@given(
    gaps=st.lists(st.floats(0.005, 0.5), min_size=1, max_size=40),
    fps=st.floats(0.5, 60),
    offset=st.floats(0, 10),
)
def test_the_nearest_frame_is_chosen_of_those_that_come_unevenly(gaps, fps, offset):
    assume(len(gaps) < 2 or np.ptp(gaps) > 1e-5)  # a steady rate may stand for another one
    times = offset + np.concatenate([[0], np.cumsum(gaps)])
    duration = float(times[-1] - times[0]) + gaps[-1]
    chosen = ResampleFps(fps)(times, duration)
    assert len(chosen) == math.ceil(duration * fps - 1e-3)
    for tick, frame in enumerate(chosen):
        distance = np.abs(times - (times[0] + tick / fps))
        assert distance[frame] <= distance.min() + 1e-9


def test_a_single_frame_can_be_resampled():
    assert ResampleFps(4)(np.array([0.0]), 1.0).tolist() == [0, 0, 0, 0]


def test_the_centre_is_kept_and_its_shape_too():
    pixels = torch.zeros(3, 2, 40, 100, dtype=torch.uint8)
    pixels[:, :, :, 30:70] = 200  # exactly the square in the middle
    assert torch.equal(ResizeCrop(20, 20)(pixels), torch.full((3, 2, 20, 20), 200, dtype=torch.uint8))
    tall = ResizeCrop(10, 4)(pixels)
    assert tall.shape == (3, 2, 10, 4)
    assert (tall == 200).all()


def test_shrinking_is_antialiased():
    noise = torch.randint(
        0, 256, (3, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    small = ResizeCrop(8, 8)(noise)
    # 64 pixels of standard deviation 74 go into each; a few neighbours alone would leave 40 or more.
    assert 5 < small.float().std() < 20


def test_a_video_of_the_asked_size_is_unchanged():
    pixels = torch.randint(0, 256, (3, 4, 16, 24), dtype=torch.uint8)
    assert torch.equal(ResizeCrop(16, 24)(pixels), pixels)


def test_random_crops_depend_on_the_seed_alone():
    pixels = torch.randint(0, 256, (3, 2, 30, 90), dtype=torch.uint8)
    crop = ResizeCrop(16, 16, random=True, zoom=1.5)
    assert torch.equal(crop(pixels, 7), crop(pixels, 7))
    different = {tuple(crop(pixels, seed).flatten()[:50].tolist()) for seed in range(20)}
    assert len(different) > 15


@given(h=st.integers(1, 60), w=st.integers(1, 60), seed=st.integers(0, 99), zoom=st.floats(1, 3))
def test_every_crop_lies_inside(h, w, seed, zoom):
    pixels = torch.full((3, 1, h, w), 90, dtype=torch.uint8)
    result = ResizeCrop(12, 20, random=True, zoom=zoom)(pixels, seed)
    assert result.shape == (3, 1, 12, 20)
    assert (result == 90).all()


def test_range():
    ends = ToUnitRange()(torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2))
    assert ends.flatten().tolist() == [-1, 1]


def test_refusals():
    with pytest.raises(InputError, match="fps must be above 0, got 0"):
        ResampleFps(0)
    with pytest.raises(InputError, match="at least 1 pixel, got 0 x 4"):
        ResizeCrop(0, 4)
    with pytest.raises(InputError, match="together with random crops; got 2"):
        ResizeCrop(4, 4, zoom=2)
