"""Reading videos: how many frames a file holds, at which true rate, and the frames themselves.

`scan` walks a file once and notes when every frame is shown; readers then fetch frames by number, as a
player shows them. PyAV reads videos unless decord is asked for; Pillow reads images, which count as videos
of one frame.
"""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from vdit.data.colour import Picture, require_exact_av
from vdit.data.decord_reader import compared, decord_frames, refuse_other_frames
from vdit.data.image import read_image
from vdit.data.media import (
    ABSENT,
    IMAGE_ENDINGS,
    READING,
    VIDEO_ENDINGS,
    FrameTable,
    UnreadableVideo,
    VideoInfo,
)
from vdit.data.picture import Screen
from vdit.data.scan import changed, scan_video
from vdit.data.stream import counted, decoded, opened
from vdit.types import InputError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

__all__ = [
    "ABSENT",
    "IMAGE_ENDINGS",
    "READING",
    "VIDEO_ENDINGS",
    "Decoder",
    "FrameTable",
    "UnreadableVideo",
    "VideoInfo",
    "VideoReader",
    "open_video",
    "probe",
    "read_image",
    "require_decoder",
    "scan",
]

Decoder = Literal["pyav", "decord"]


class VideoReader(ABC):
    """Random access to the frames of one file; safe to share between threads, as it keeps no file open."""

    def __init__(self, path: Path, table: FrameTable):
        self.path = path
        self.table = table

    def read(self, start: int, count: int, stride: int = 1) -> UInt8[Tensor, "c t h w"]:
        """`count` RGB frames, `stride` apart, from number `start`. Raises `InputError` past the end."""
        last = start + (count - 1) * stride
        frames = self.table.info.frames
        if start < 0 or count < 1 or stride < 1 or last >= frames:
            raise InputError(
                f"{self.path}: {count} frames from {start} with stride {stride} end at frame {last}, but the "
                f"file holds {frames} (0 to {frames - 1}); ask for fewer frames or a smaller stride"
            )
        return self.frames(range(start, last + 1, stride))

    @abstractmethod
    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "c t h w"]:
        """The RGB frames with these numbers, in the order given; numbers may repeat.

        Raises:
            UnreadableVideo: a frame cannot be decoded, or has another size than the first.
        """


def open_video(path: Path | str, decoder: Decoder = "pyav", table: FrameTable | None = None) -> VideoReader:
    """A reader of `path`; give the `table` of an earlier `scan` to save walking the file again."""
    path = Path(path)
    table = scan(path, decoder) if table is None else table
    if path.suffix.lower() in IMAGE_ENDINGS:
        return _ImageReader(path, table)
    require_decoder(decoder)
    return _DecordReader(path, table) if decoder == "decord" else _PyAVReader(path, table)


def require_decoder(decoder: Decoder) -> None:
    """Refuse a decoder that is unknown or not installed, or shows other colours than files have."""
    if decoder not in ("pyav", "decord"):
        raise InputError(f"decoder {decoder!r} is unknown; choose 'pyav' or 'decord'")
    if decoder == "decord" and importlib.util.find_spec("decord") is None:
        raise InputError(
            "decoder 'decord' is not installed; install it with pip install 'vdit-video[decord]', "
            "or leave decoder at 'pyav'"
        )
    require_exact_av()


def probe(path: Path | str) -> VideoInfo:
    """Frame count, size, true frame rate and duration of a file. Raises `UnreadableVideo`."""
    return scan(path).info


def scan(path: Path | str, decoder: Decoder = "pyav") -> FrameTable:
    """Walk a file and decode as little of it as tells what it holds.

    Raises:
        UnreadableVideo: no such file, not a video, no frames, fewer frames than its header promises,
            pictures that cannot be shown, or that `decoder` shows otherwise than PyAV.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableVideo(path, ABSENT)
    if path.stat().st_size == 0:
        raise UnreadableVideo(path, "the file is empty (0 bytes)")
    if path.suffix.lower() in IMAGE_ENDINGS:
        height, width = read_image(path).shape[:2]
        return FrameTable(VideoInfo(1, height, width, Fraction(1), 1.0), np.zeros(1, np.int64), np.zeros(1))
    table = scan_video(path)
    if decoder == "decord":
        numbers = compared(table.info.frames)
        refuse_other_frames(path, _PyAVReader(path, table).frames(numbers), table.info.frames)
    return table


class _PyAVReader(VideoReader):
    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "c t h w"]:
        places: dict[int, list[int]] = {}  # where each frame goes
        for place, index in enumerate(indices):
            places.setdefault(int(index), []).append(place)
        size = (self.table.info.height, self.table.info.width)
        pixels = np.empty((3, len(indices), *size), np.uint8)
        missing = set(places)
        for seek in (True, False):  # a seek may land behind its target, or between two key frames
            for number, rgb in self._shown(missing, seek) if missing else ():
                if rgb[0].shape != size:
                    raise changed(self.path, size, rgb[0].shape)
                for channel, place in product(range(3), places[number]):
                    pixels[channel, place] = rgb[channel]
                missing = missing - {number}
        if missing:
            raise UnreadableVideo(self.path, f"frame {min(missing)} cannot be decoded; the file is damaged")
        return torch.from_numpy(pixels)

    def _shown(self, wanted: set[int], seek: bool) -> Iterator[tuple[int, Picture]]:
        """Those of the frames that can be decoded, with their numbers."""
        with opened(self.path) as (container, stream):
            screen = Screen(self.path, stream)
            if not self.table.sought:
                found = enumerate(counted(self.path, container, stream))
            else:
                if seek:
                    container.seek(int(self.table.pts[min(wanted)]), stream=stream)
                found = self._numbered(decoded(container, stream))
            for number, frame in found:
                if number in wanted and not frame.is_corrupt:
                    yield number, screen.show(frame)
                if number >= max(wanted):
                    break

    def _numbered(self, frames: "Iterator[VideoFrame]") -> "Iterator[tuple[int, VideoFrame]]":
        pts = self.table.pts
        for frame in frames:
            number = len(pts) if frame.pts is None else int(np.searchsorted(pts, frame.pts))
            if number < len(pts) and pts[number] == frame.pts:
                yield number, frame


class _DecordReader(VideoReader):
    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "c t h w"]:
        return decord_frames(self.path, indices, self.table.info.frames)


class _ImageReader(VideoReader):
    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "c t h w"]:
        image = read_image(self.path)
        return _channels_first(np.stack([image for _ in indices]))


def _channels_first(frames: UInt8[np.ndarray, "t h w c"]) -> UInt8[Tensor, "c t h w"]:
    return rearrange(torch.from_numpy(frames), "t h w c -> c t h w").contiguous()
