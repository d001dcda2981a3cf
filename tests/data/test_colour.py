"""Colours are those of float arithmetic, whatever a file's matrix, range, depth and sampling."""

from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float

from vdit.data.colour import Colours, require_exact_av
from vdit.data.light import FULL, Light
from vdit.data.media import UnreadableVideo
from vdit.types import InputError

H, W = 48, 64
PARTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Of red and blue in luma, by FFmpeg's number of the matrix."""
FORMATS = {  # bits, and how often columns and rows of chroma are halved
    "yuv420p": (8, 1, 1),
    "yuvj420p": (8, 1, 1),
    "yuv422p": (8, 1, 0),
    "yuv444p": (8, 0, 0),
    "yuv420p10le": (10, 1, 1),
    "yuv422p10le": (10, 1, 0),
    "yuv444p12le": (12, 0, 0),
}


def frame_of(kind: str, planes, matrix: int = 1, full: bool = False):
    import av

    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], kind)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    for plane, values in zip(frame.planes, planes, strict=True):
        width = 2 if any(part.bits > 8 for part in frame.format.components) else 1
        rows = np.zeros((plane.height, plane.line_size // width), np.uint16 if width == 2 else np.uint8)
        rows[: values.shape[0], : values.shape[1]] = values
        plane.update(rows.tobytes())
    return frame


def shown(frame) -> np.ndarray:
    return np.stack(Colours(Path("a.mp4")).show(frame, frame.height, frame.width)).astype(float)


def smooth(rng: np.random.Generator, h: int, w: int, low: float, high: float) -> Float[np.ndarray, "h w"]:
    y, x = np.arange(h)[:, None] / h, np.arange(w)[None] / w
    wave = np.sin(6 * rng.random() * x + 6 * rng.random() * y + 6 * rng.random())
    return np.rint(low + (high - low) * (wave + 1) / 2)


def doubled(values: Float[np.ndarray, "h w"], axis: int, times: int) -> Float[np.ndarray, "h2 w2"]:
    """Samples between which lie `2 ** times` pixels, by linear interpolation."""
    length = values.shape[axis]
    places = (np.arange(length << times) + 0.5) / (1 << times) - 0.5
    return np.apply_along_axis(lambda row: np.interp(places, np.arange(length), row), axis, values)


@pytest.mark.parametrize("matrix", PARTS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_colours_are_those_of_float_arithmetic(kind, full, matrix):
    bits, across, down = FORMATS[kind]
    rng, unit = np.random.default_rng(0), 1 << bits - 8
    luma = smooth(rng, H, W, 16 * unit, 235 * unit)
    blue, red = (smooth(rng, H >> down, W >> across, 108 * unit, 148 * unit) for _ in range(2))
    full = full or kind == "yuvj420p"
    pixels = shown(frame_of(kind, [luma, blue, red], matrix, full))
    black, step, chroma = (
        (0, (1 << bits) - 1, (1 << bits) - 1) if full else (16 * unit, 219 * unit, 224 * unit)
    )
    y = (luma - black) / step
    b, r = ((doubled(doubled(c, 0, down), 1, across) - 128 * unit) / chroma for c in (blue, red))
    k_red, k_blue = PARTS[matrix]
    r, b = y + 2 * (1 - k_red) * r, y + 2 * (1 - k_blue) * b
    g = (y - k_red * r - k_blue * b) / (1 - k_red - k_blue)
    error = pixels - (np.stack([r, g, b]) * 255).clip(0, 255)
    assert abs(error.mean()) < 0.05
    assert np.sqrt((error**2).mean()) < 0.32  # rounding alone is 0.289
    assert np.abs(error).max() < 0.75


@pytest.mark.parametrize(
    ("kind", "bits"), [("gbrp", 8), ("gbrp10le", 10), ("gbrp12le", 12), ("gbrp16le", 16)]
)
def test_red_green_and_blue_of_any_depth_go_from_black_to_white(kind, bits):
    ramp = np.tile(np.linspace(0, 1, W), (H, 1))
    values = np.rint(ramp * ((1 << bits) - 1))
    assert np.abs(shown(frame_of(kind, [values] * 3, 0, full=True)) - ramp * 255).max() < 0.75


@pytest.mark.parametrize(
    ("kind", "bits"), [("rgb565le", (5, 6, 5)), ("bgr555le", (5, 5, 5)), ("rgb444le", (4, 4, 4))]
)
def test_colours_of_few_bits_go_from_black_to_white(kind, bits):
    import av

    widest = max(bits)
    ramp = np.arange(1 << widest) / ((1 << widest) - 1)
    red, green, blue = (np.rint(ramp * ((1 << b) - 1)).astype(np.uint16) for b in bits)
    if kind.startswith("bgr"):
        red, blue = blue, red
    packed = (red << (bits[1] + bits[2])) | (green << bits[2]) | blue
    frame = av.VideoFrame(len(packed), 8, kind)
    plane = frame.planes[0]
    rows = np.zeros((8, plane.line_size // 2), np.uint16)
    rows[:, : len(packed)] = packed
    plane.update(rows.tobytes())
    expected = [np.rint(ramp * ((1 << b) - 1)) / ((1 << b) - 1) * 255 for b in bits]
    assert np.abs(shown(frame)[:, 4] - expected).max() <= 0.5


@pytest.mark.parametrize(("full", "values"), [(False, [16, 126, 235]), (True, [0, 128, 255])])
def test_grey_keeps_its_range(full, values):
    planes = [np.repeat(np.tile(np.array(values), (8, 1)), 8, axis=1)]
    found = shown(frame_of("gray", planes, 2, full))[:, 4, 4::8]
    assert np.abs(found - [[0, 128, 255]]).max() <= 0.5


def test_what_is_transparent_lies_on_grey():
    red, green, blue = np.full((8, 24), 250), np.full((8, 24), 10), np.full((8, 24), 0)
    alpha = np.repeat(np.array([[255, 51, 0]]), 8, axis=1).repeat(8, axis=0)
    found = shown(frame_of("gbrap", [green, blue, red, alpha], 0, full=True))[:, 4, 4::8]
    assert found.T.tolist() == [[250, 10, 0], [152, 104, 102], [128, 128, 128]]


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(576, 720, "601"), (720, 1280, "709"), (600, 64, "709")]
)
def test_unmarked_files_are_shown_by_their_size(height, width, expected):
    planes = [np.full((height >> k, width >> k), v) for k, v in ((0, 63), (1, 102), (1, 240))]
    frame = frame_of("yuv420p", planes, 2)
    frame.color_range = 0
    red = shown(frame)[:, 10, 10]
    assert (np.abs(red - [255, 0, 0]).max() <= 1) == (expected == "709")  # the red of BT.709


@pytest.mark.parametrize(
    ("matrix", "transfer", "reason"),
    [
        (14, 2, "ICtCp"),
        (8, 2, "YCgCo"),
        (10, 2, "constant luminance"),
        (1, 8, "linear"),
        (15, 2, "Dolby Vision"),
    ],
)
def test_colours_that_are_not_understood_are_refused_by_name(matrix, transfer, reason):
    frame = frame_of("yuv444p", [np.full((8, 8), 128)] * 3, matrix)
    frame.color_trc = transfer
    with pytest.raises(UnreadableVideo, match=rf"a.mp4: .*{reason}"):
        shown(frame)


def pq(nits: float) -> float:
    """The value that stands for a brightness, SMPTE ST 2084."""
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(nits: float) -> float:
    """The same for a grey on a screen of 1,000 nits, ITU-R BT.2100."""
    scene = (nits / 1000) ** (1 / 1.2)
    return (
        (3 * scene) ** 0.5 if scene <= 1 / 12 else 0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073
    )


@pytest.mark.parametrize(("curve", "value"), [("pq", pq), ("hlg", hlg)])
def test_brightness_rises_from_black_to_white_and_the_dark_half_keeps_its_light(curve, value):
    nits = np.array([0, 0.5, 2, 10, 40, 80, 150, 203, 400, 1000, 1000])
    codes = np.rint([[value(max(n, 1e-9)) * FULL for n in nits]]).clip(0, FULL).astype(np.uint16)
    grey = Light(curve, 1).show(np.stack([codes] * 3))[:, 0].astype(float)
    assert (grey == grey[:1]).all()
    assert (np.diff(grey[0, :-1]) > 0).all()
    assert grey[0, 0] == 0
    assert grey[0, -1] == 255
    assert 225 < grey[0, 7] < 240  # diffuse white, with room above it
    expected = (nits[:6] / 203) ** (1 / 2.4) * 255  # on a screen whose white has 203 nits
    assert np.abs(grey[0, :6] - expected).max() < 1


def test_wide_colours_keep_what_they_look_like():
    """Red, green, blue and white of BT.709, written in BT.2020 and Display P3."""
    to_2020 = np.array(
        [[0.627404, 0.329283, 0.043313], [0.069097, 0.919540, 0.011362], [0.016391, 0.088013, 0.895595]]
    )
    to_p3 = np.array([[0.822462, 0.177538, 0], [0.033194, 0.966806, 0], [0.017083, 0.072397, 0.910520]])
    ordinary = np.array([[204, 26, 26], [26, 178, 26], [26, 26, 204], [250, 250, 250], [90, 120, 60]]).T / 255
    for primaries, matrix in ((9, to_2020), (12, to_p3)):
        wide = (matrix @ ordinary**2.4).clip(0) ** (1 / 2.4)
        found = Light("gamma", primaries).show(np.rint(wide * FULL).astype(np.uint16)[:, None])
        assert np.abs(found[:, 0] - ordinary * 255).max() <= 1


def test_an_av_that_shows_other_colours_is_refused_at_start(monkeypatch):
    require_exact_av()
    shown_as_601 = [np.full((16, 16), value, np.uint8) for value in (236, 19, 0)]
    monkeypatch.setattr(Colours, "show", lambda *_: shown_as_601)
    with pytest.raises(
        InputError, match=r"shows other colours than videos have; pip install --upgrade 'av>=18'"
    ):
        require_exact_av.__wrapped__()
