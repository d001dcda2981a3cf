"""Files are shown with square pixels, upright, without fields woven together, and without hidden colours."""

import math
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import numbered, numbers_of, patches_of, write
from PIL import Image

from vdit.data.decode import UnreadableVideo, open_video, probe

UPRIGHT = (1, 0, 0, 1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("plain") / "a.mp4", 8)


def marked(plain: Path, path: Path, matrix: tuple[float, float, float, float]) -> Path:
    """The same file with another display matrix in its track header, ISO/IEC 14496-12, 8.3.2."""
    raw = bytearray(plain.read_bytes())
    a, b, c, d = (round(value * 65536) for value in matrix)
    place = raw.index(b"tkhd") + 4 + 40
    raw[place : place + 24] = struct.pack(">6i", a, b, 0, c, d, 0)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    "matrix",
    [
        UPRIGHT,
        (-1, 0, 0, -1),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (0, 1, -1, 0),
        (0, -1, 1, 0),
        (0, 1, 1, 0),
        (0, -1, -1, 0),
    ],
)
def test_the_whole_display_matrix_is_applied(plain, tmp_path, matrix):
    stored = open_video(plain).read(3, 2)
    a, b, c, d = matrix
    h, w = stored.shape[2:]
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    across, down = a * x + c * y, b * x + d * y  # where each stored pixel goes
    across, down = across - across.min(), down - down.min()
    expected = torch.zeros(3, 2, int(down.max()) + 1, int(across.max()) + 1, dtype=torch.uint8)
    expected[:, :, down.long(), across.long()] = stored
    path = marked(plain, tmp_path / "turned.mp4", matrix)
    assert (probe(path).height, probe(path).width) == tuple(expected.shape[2:])
    assert torch.equal(open_video(path).read(3, 2), expected)


@pytest.mark.parametrize(
    "matrix", [(2, 0, 0, 1), (-1, 0, 0, 2), (0, 2, -1, 0), (0, 1, -2, 0), (0, -2, -1, 0)]
)
def test_a_display_matrix_that_stretches_is_applied(plain, tmp_path, matrix):
    """The picture as with a matrix that only turns, twice as wide or as high."""
    turned = open_video(
        marked(plain, tmp_path / "turned.mp4", [value and value // abs(value) for value in matrix])
    )
    frame = turned.read(3, 1).float()[:, 0]
    a, b, c, d = matrix
    wide = abs(a + c) == 2
    assert abs(b + d) == (1 if wide else 2)
    stretched = open_video(marked(plain, tmp_path / "stretched.mp4", matrix)).read(3, 1).float()[:, 0]
    axis = 2 if wide else 1
    assert stretched.shape[axis] == 2 * frame.shape[axis]
    assert stretched.shape[3 - axis] == frame.shape[3 - axis]
    assert (stretched - frame.repeat_interleave(2, axis)).abs().mean() < 2


def test_other_angles_are_refused_by_name(plain, tmp_path):
    s, c = math.sin(math.radians(30)), math.cos(math.radians(30))
    with pytest.raises(UnreadableVideo, match=r"slanted.mp4: it is to be turned by 30 degrees"):
        probe(marked(plain, tmp_path / "slanted.mp4", (c, s, -s, c)))
    with pytest.raises(UnreadableVideo, match=r"sheared.mp4: it is to be slanted"):
        probe(marked(plain, tmp_path / "sheared.mp4", (1, 0, 0.5, 1)))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts"])
@pytest.mark.parametrize(
    ("height", "width", "aspect", "shown"),
    [
        (96, 128, Fraction(2), (96, 256)),
        (96, 120, Fraction(64, 45), (96, 171)),
        (96, 120, Fraction(16, 15), (96, 128)),
        (96, 120, Fraction(8, 9), (108, 120)),
        (96, 128, Fraction(1), (96, 128)),
    ],
)
def test_pixels_are_made_square(tmp_path, ending, height, width, aspect, shown):
    def mark(stream):
        stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = aspect

    frames = [numbered(k, height, width) for k in range(5)]
    path = write(tmp_path / f"a.{ending}", frames, setup=mark)
    pixels = open_video(path).read(0, 5)
    assert tuple(pixels.shape[2:]) == shown == (probe(path).height, probe(path).width)
    assert numbers_of(pixels) == list(range(5))


def test_impossible_pixels_are_refused_by_name(tmp_path):
    def mark(stream):
        stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = Fraction(10)

    path = write(tmp_path / "a.mp4", [numbered(0, 16, 2048)], setup=mark)
    with pytest.raises(UnreadableVideo, match=r"a.mp4: its pixels are said to be 10 times as wide as high"):
        probe(path)


@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [
        ("mp4", "libx264", {"x264-params": "tff=1"}),
        ("mp4", "libx264", {"x264-params": "bff=1"}),
        ("ts", "mpeg2video", {"flags": "+ildct+ilme", "b": "4M"}),
    ],
)
def test_interlaced_frames_never_comb(tmp_path, ending, codec, options):
    woven = [numbered(2 * k) for k in range(12)]
    for k, frame in enumerate(woven):
        frame[1::2] = numbered(2 * k + 1)[1::2]
    video = open_video(write(tmp_path / f"a.{ending}", woven, 25, codec, options=options))
    pixels = video.read(0, 12)
    assert numbers_of(pixels) == list(range(0, 24, 2))
    assert pixels.float().diff(dim=2).abs()[:, :, 4:40].mean() < 3  # woven, lowest bits alone make it 20
    assert torch.equal(video.read(7, 2), pixels[:, 7:9])


def with_alpha(k: int) -> np.ndarray:
    """Red, half transparent red, and what is transparent: a bright green that nobody is to see."""
    rgba = np.zeros((32, 96, 4), np.uint8)
    rgba[:, :32] = (200, 30, 30, 255)
    rgba[:, 32:64] = (200, 30, 30, 128)
    rgba[:, 64:] = (0, 255, 0, 0)
    rgba[k : k + 2, :4] = (255, 255, 255, 255)
    return rgba


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("vp9.webm", "libvpx-vp9", "yuva420p"),
        ("vp8.webm", "libvpx", "yuva420p"),
        ("prores.mov", "prores_ks", "yuva444p10le"),
        ("animation.mov", "qtrle", "argb"),
        ("png.mov", "png", "rgba"),
        ("a.apng", "apng", "rgba"),
        ("ffv1.mkv", "ffv1", "yuva420p"),
    ],
)
def test_hidden_colours_are_not_shown(tmp_path, name, codec, pixels):
    options = (
        {"auto-alt-ref": "0"} if codec == "libvpx" else {"profile": "4444"} if codec == "prores_ks" else None
    )
    path = write(tmp_path / name, [with_alpha(k) for k in range(6)], 10, codec, pixels, options)
    video = open_video(path)
    read = video.read(0, 6)
    assert video.table.info.frames == 6
    for found, colour in zip(
        patches_of(read[:, 3].permute(1, 2, 0).numpy()),
        [(200, 30, 30), (164, 79, 79), (128, 128, 128)],
        strict=True,
    ):
        assert np.abs(np.subtract(found, colour)).max() <= 4
    assert torch.equal(video.read(4, 1), read[:, 4:5])


def test_a_gif_lies_on_grey_where_it_is_transparent(tmp_path):
    frames = []
    for k in range(4):
        picture = Image.fromarray(with_alpha(k)[:, :, :3]).quantize(8)
        picture.paste(7, (64, 0, 96, 32))
        frames.append(picture)
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, transparency=7, disposal=2)
    read = open_video(path).read(0, 4)
    assert (read[:, :, 4:, 66:] == 128).all()
    assert probe(path).fps == 10
