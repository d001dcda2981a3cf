"""From the rate of a file to that of clips: no frame is doubled by rounding, and none is lost."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbered import numbered, numbers_of, write

from vdit.data.decode import open_video
from vdit.data.rate import timing
from vdit.data.transforms import ResampleFps

RATES = [Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, Fraction(60000, 1001), 60]
ROUNDED = [Fraction(2398, 100), Fraction(1175, 49), Fraction(2997, 100), Fraction(5994, 100)]
WANTED = [8, 12, 16, 24, 30]
CODECS = {"mp4": "mpeg4", "mkv": "mpeg4", "webm": "libvpx", "avi": "mpeg4", "ts": "mpeg2video", "wmv": "wmv2"}


@pytest.mark.parametrize("ending", CODECS)
@pytest.mark.parametrize("rate", RATES)
def test_containers_keep_the_rate_and_every_frame(tmp_path, ending, rate):
    count = 43
    frames = [numbered(k, 48, 64) for k in range(count)]
    path = write(tmp_path / f"a.{ending}", frames, rate, CODECS[ending], options={"b": "400k"})
    video = open_video(path)
    info = video.table.info
    assert numbers_of(video.read(0, count)) == list(range(count))
    assert info.frames == count
    assert info.fps == rate
    assert info.duration == pytest.approx(float(count / rate), abs=1e-9)
    np.testing.assert_allclose(video.table.times, np.arange(count) / float(rate), atol=1e-9)


@given(rate=st.sampled_from(RATES + ROUNDED), wanted=st.sampled_from(WANTED), count=st.integers(3, 5000))
def test_frames_are_chosen_evenly_and_none_twice(rate, wanted, count):
    chosen = ResampleFps(wanted)(np.arange(count) / float(rate), float(count / rate))
    named = round(rate)  # 24 for 23.976
    if wanted > named:
        return
    steps = np.diff(chosen)
    assert steps.min(initial=1) >= 1
    assert steps.max(initial=1) <= -(-named // wanted)
    ticks = np.arange(len(chosen)) * (named / wanted)
    assert np.abs(chosen - ticks).max() <= 0.5 + 1e-6
    assert count - 1 - chosen[-1] < named / wanted  # up to the end
    if wanted == named:
        assert chosen.tolist() == list(range(count))


@given(
    rate=st.sampled_from(RATES),
    units=st.sampled_from([600, 1000, 90_000, 15_360]),
    count=st.integers(2, 400),
    way=st.sampled_from([np.floor, np.rint, np.ceil]),
    first=st.integers(-5000, 10**9),
)
def test_rounded_stamps_tell_the_rate(rate, units, count, way, first):
    pts = first + way(np.arange(count) * float(units / rate)).astype(np.int64)
    told = timing(pts, Fraction(1, units), 0, [Fraction(rate)])
    assert told.fps == rate
    np.testing.assert_allclose(told.times, np.arange(count) / float(rate), atol=1e-9)


def test_a_frame_that_was_left_out_is_no_rounding():
    for units, steps in product((30, 1000), ([1, 1, 2, 1], [1, 1, 1, 3, 1])):
        pts = np.round(np.cumsum([0, *steps]) * units / 30).astype(np.int64)
        told = timing(pts, Fraction(1, units), 0, [Fraction(30)])
        np.testing.assert_allclose(told.times, (pts - pts[0]) / units)
        assert told.fps != 30
