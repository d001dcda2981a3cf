"""Files show what a player shows of them: the frames, the colours, the shape."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import COLOURS, numbers_of, patches_of

from vdit.data.decode import UnreadableVideo, VideoReader, open_video

MEDIA = Path(__file__).parent / "media"
SHARED = Path(__file__).parents[3] / "shared" / "media"
"""The same files and more of them, where they lie beside the checkout."""


def opened(name: str) -> VideoReader:
    return open_video(MEDIA / name)


def first(name: str) -> np.ndarray:
    return opened(name).read(0, 1)[:, 0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("name", "numbers", "seconds"),
    [
        ("plain.mp4", range(60), 2),
        ("edit_end_trim.mp4", range(30), 1),
        ("edit_start_trim.mp4", range(15, 60), 1.5),
        ("edit_both_trim.mp4", range(15, 45), 1),
        ("vfr_pause.mp4", range(61), 3),
        ("vfr_30_15.mp4", range(40), 2),
        ("sar_2_1.mp4", range(20), 2 / 3),
    ],
)
def test_the_frames_that_a_player_shows_are_read(name, numbers, seconds):
    video = opened(name)
    everything = video.read(0, video.table.info.frames)
    assert numbers_of(everything) == list(numbers)
    assert video.table.info.duration == pytest.approx(seconds, abs=1e-6)
    for start in (1, len(numbers) // 2, len(numbers) - 3):  # and by number, from anywhere
        assert torch.equal(video.read(start, 2), everything[:, start : start + 2])
    for patch, colour in zip(patches_of(everything[:, 0].permute(1, 2, 0).numpy()), COLOURS, strict=True):
        assert np.abs(np.subtract(patch, colour)).max() <= 2


def test_frames_stand_at_their_times():
    times = opened("vfr_pause.mp4").table.times
    expected = [*(k / 30 for k in range(31)), *(2 + k / 30 for k in range(30))]
    np.testing.assert_allclose(times, expected, atol=1e-4)
    times = opened("vfr_30_15.mp4").table.times
    np.testing.assert_allclose(
        times, [*(k / 30 for k in range(20)), *(2 / 3 + k / 15 for k in range(20))], atol=1e-4
    )


def test_pixels_become_square():
    info = opened("sar_2_1.mp4").table.info
    assert (info.height, info.width) == (96, 256)


def test_fields_are_not_woven_together():
    """The upper field is shown; of frames 0 and 1 woven together rows would be black and white in turns."""
    video = opened("interlaced_tff.mp4")
    pixels = video.read(0, 30)
    assert numbers_of(pixels) == list(range(0, 60, 2))
    jumps = pixels.float().diff(dim=2).abs()[:, :, :40].amax((0, 1, 3))
    assert jumps.max() < 30
    assert torch.equal(video.read(11, 1), pixels[:, 11:12])


@pytest.mark.parametrize("name", sorted(path.name for path in MEDIA.glob("sdr*.mp4")))
def test_ordinary_colours_are_those_that_were_filmed(name):
    image = first(name)
    for patch, colour in zip(patches_of(image), [(204, 26, 26), (26, 178, 26), (26, 26, 204)], strict=True):
        assert np.abs(np.subtract(patch, colour)).max() <= 1


@pytest.mark.parametrize("name", ["hdr_pq.mp4", "hdr_hlg.mp4"])
def test_bright_and_wide_colours_are_brought_into_those_of_a_screen(name):
    white, red, grey = patches_of(first(name))
    assert min(white) > 225
    assert max(white) - min(white) <= 1  # grey stays grey
    assert red[0] > 230
    assert max(red[1:]) < 30
    assert 100 < min(grey) < min(white) - 50


def test_a_picture_that_changes_its_size_is_refused_by_name():
    with pytest.raises(
        UnreadableVideo, match=r"size_change.webm: its picture changes from 128x96 to 192x144"
    ):
        opened("size_change.webm")


@pytest.mark.skipif(not SHARED.is_dir(), reason="no files beside the checkout")
def test_files_beside_the_checkout_are_shown_or_refused_by_name():
    for path in sorted(SHARED.glob("*.*")):
        if path.suffix in (".md", ".py"):
            continue
        with contextlib.suppress(UnreadableVideo):
            video = open_video(path)
            assert video.read(video.table.info.frames - 1, 1).shape[2] == video.table.info.height
