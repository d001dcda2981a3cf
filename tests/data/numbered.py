"""Videos whose frames say their own number, in eight black or white blocks over red, green and blue."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from av.video.stream import VideoStream

COLOURS = ((200, 30, 30), (30, 180, 30), (30, 30, 200))


def numbered(n: int, h: int = 96, w: int = 128) -> np.ndarray:
    """Frame `n`, h w 3."""
    rgb = np.full((h, w, 3), 90, np.uint8)
    for bit in range(8):
        rgb[: h // 2, bit * w // 8 : (bit + 1) * w // 8] = 235 if n >> bit & 1 else 16
    for third, colour in enumerate(COLOURS):
        rgb[h // 2 :, third * w // 3 : (third + 1) * w // 3] = colour
    return rgb


def number_of(rgb: np.ndarray) -> int:
    """What `numbered` was given, of a frame that is shown upright."""
    h, w = rgb.shape[:2]
    blocks = [
        rgb[h // 10 : h * 4 // 10, int((bit + 0.3) * w / 8) : int((bit + 0.7) * w / 8)] for bit in range(8)
    ]
    return sum(int(block.mean() > 125) << bit for bit, block in enumerate(blocks))


def numbers_of(pixels: Tensor) -> list[int]:
    """The numbers of frames c t h w."""
    return [number_of(frame) for frame in pixels.permute(1, 2, 3, 0).numpy()]


def patches_of(rgb: np.ndarray) -> list[list[int]]:
    """The three colours below the number."""
    h, w = rgb.shape[:2]
    middles = [int((third + 0.5) * w / 3) for third in range(3)]
    return [
        rgb[h * 3 // 4 - 2 : h * 3 // 4 + 2, x - 2 : x + 2].mean((0, 1)).round().tolist() for x in middles
    ]


def write(
    path: Path,
    frames: int | Sequence[np.ndarray] = 60,
    rate: Fraction | int = 30,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    setup: "Callable[[VideoStream], object]" = lambda stream: None,
    stamps: Sequence[int] | None = None,
) -> Path:
    """A video of numbered frames, or of those given (h w 3 or 4), at a rate or with stamps in its units."""
    import av
    from av.video.stream import VideoStream

    pictures = [numbered(k) for k in range(frames)] if isinstance(frames, int) else frames
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate), options=dict(options or {}))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pixels
        setup(stream)
        for place, picture in enumerate(pictures):
            kind = "rgba" if picture.shape[2] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=kind)
            frame.pts = place if stamps is None else stamps[place]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
