"""The colours of a decoder's frame as a player shows them: matrix, range, depth, transparency, brightness."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

from vdit.data.image import GREY
from vdit.data.light import FULL, light_of
from vdit.data.media import UnreadableVideo
from vdit.types import InputError

if TYPE_CHECKING:
    from av.sidedata.sidedata import SideData
    from av.video.frame import VideoFrame
    from av.video.plane import VideoPlane

__all__ = ["Colours", "Picture", "require_exact_av", "side_data"]

Picture = list[UInt8[np.ndarray, "h w"]]
"""Red, green and blue."""

# FFmpeg's numbers of colour matrices (AVColorSpace): those that swscale has, by its names, and some others.
_RGB, _UNMARKED = 0, 2
_MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
_UNKNOWN_MATRICES = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    14: "ICtCp",
    15: "that of Dolby Vision",
}
# AVColorRange: 16 to 235, or 0 to 255.
_LIMITED, _FULL = 1, 2
# AVColorTransferCharacteristic: values that are no picture before they are graded.
_UNKNOWN_TRANSFERS = {8: "linear", 9: "logarithmic", 10: "logarithmic"}


class Colours:
    """Shows the colours of the frames of one file, one at a time."""

    def __init__(self, path: Path):
        """Of the file `path`, which messages name."""
        from av.video.reformatter import Interpolation, VideoReformatter

        self._path = path
        self._reformatter = VideoReformatter()  # one for all: setting it up costs as much as a small frame
        # Exact arithmetic, and colours between their samples: the default is fast, and 1.2 levels too dark.
        exact = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
        self._same_size, self._resized = exact | Interpolation.BILINEAR, exact | Interpolation.BICUBIC

    def show(self, frame: "VideoFrame", height: int, width: int) -> Picture:
        """A frame in BT.709's red, green and blue, resized where it has another size.

        Raises:
            UnreadableVideo: its colours cannot be understood.
        """
        self._refuse(frame)
        light = light_of(frame.color_trc, frame.color_primaries)
        # Full range of more than 8 bits is made of 16 first: swscale takes 1023 of 10 bits for 255.75.
        deep = light is not None or (not _is_limited(frame) and 8 < _bits(frame) <= 16)
        green, blue, red, *alpha = self._planes(frame, height, width, deep)
        rgb = [red, green, blue]
        if light is not None:
            rgb = list(light.show(np.stack(rgb)))
        elif deep:
            rgb = [_eight_bits(plane) for plane in rgb]
        if not alpha:
            return rgb
        weight = (_eight_bits(alpha[0]) if deep else alpha[0]) / np.float32(255)
        return [np.rint(GREY + (plane - np.float32(GREY)) * weight).astype(np.uint8) for plane in rgb]

    def _planes(
        self, frame: "VideoFrame", height: int, width: int, deep: bool
    ) -> list[Shaped[np.ndarray, "h w"]]:
        """Green, blue, red, and alpha: of 8 bits, or of 16 with white at `FULL`."""
        from av.video.reformatter import Colorspace

        same = (height, width) == (frame.height, frame.width)
        limited = _is_limited(frame)
        alpha = _has_alpha(frame.format.name)
        shown = self._reformatter.reformat(
            frame,
            width,
            height,
            f"gbr{'ap' if alpha else 'p'}{'16le' if deep else ''}",
            src_colorspace=Colorspace[_matrix(frame)],
            src_color_range=_LIMITED if limited else _FULL,
            interpolation=self._same_size if same else self._resized,
            threads=1,
        )
        planes = [_array(plane, deep)[:height, :width] for plane in shown.planes]
        if limited and frame.format.name.startswith(("gray", "ya")):  # swscale takes every grey for full
            planes[:3] = [_widened(plane) for plane in planes[:3]]
        if deep and not limited:
            planes = [_of_full(plane, _bits(frame)) for plane in planes]
        if frame.format.is_rgb and 4 <= _bits(frame) < 8:  # swscale makes 31 of 5 bits 248
            red, green, blue = (part.bits for part in frame.format.components)
            planes = [_of_few(plane, bits) for plane, bits in zip(planes, (green, blue, red), strict=True)]
        return planes

    def _refuse(self, frame: "VideoFrame") -> None:
        if frame.colorspace not in (_RGB, _UNMARKED, *_MATRICES):
            name = _UNKNOWN_MATRICES.get(frame.colorspace, f"number {frame.colorspace}")
            raise UnreadableVideo(self._path, f"its colour matrix, {name}, is not read; encode it as BT.709")
        if frame.color_trc in _UNKNOWN_TRANSFERS:
            name = _UNKNOWN_TRANSFERS[frame.color_trc]
            raise UnreadableVideo(
                self._path, f"its values are {name}, not yet a picture; encode it as BT.709"
            )
        if frame.color_trc == _UNMARKED and any(name.startswith("DOVI") for name in side_data(frame)):
            raise UnreadableVideo(
                self._path,
                "it is Dolby Vision without a picture for other players; encode it as HDR10 or BT.709",
            )


@cache
def require_exact_av() -> None:
    """Refuse an `av` that shows other colours than a file has: up to 16.1 it reads BT.709 as BT.601."""
    import av

    frame = av.VideoFrame(16, 16, "yuv420p")
    for plane, value in zip(frame.planes, (63, 102, 240), strict=True):  # the red of BT.709
        plane.update(bytes([value]) * plane.buffer_size)
    try:
        frame.colorspace, frame.color_range = 1, 1
        shown = [int(plane[8, 8]) for plane in Colours(Path("red")).show(frame, 16, 16)]
    except (AttributeError, TypeError, ValueError):  # what exact arithmetic needs came in version 18
        shown = []
    if not shown or np.abs(np.subtract(shown, (255, 0, 0))).max() > 1:
        raise InputError(
            f"av {av.__version__} shows other colours than videos have; pip install --upgrade 'av>=18'"
        )


def side_data(frame: "VideoFrame") -> "dict[str, SideData]":
    """What a file says beside a frame, by the names of FFmpeg, or by numbers that PyAV has no name for."""
    _name_all_kinds()
    held: Iterable[SideData] = frame.side_data  # pyright: ignore[reportAssignmentType]
    return {data.type.name: data for data in held}


@cache
def _name_all_kinds() -> None:
    """Let frames have side data of any kind: PyAV 18 raises `ValueError` at those that came with FFmpeg 7.1.

    EXIF is one, which cameras write into every frame of motion JPEG.
    """
    from av.sidedata.sidedata import Type

    def numbered(kinds: type[Type], value: int) -> Type:
        kind = object.__new__(kinds)
        kind._name_, kind._value_ = f"NUMBER_{value}", value
        return kind

    Type._missing_ = classmethod(numbered)  # pyright: ignore[reportAttributeAccessIssue]


def _matrix(frame: "VideoFrame") -> str:
    """The colour matrix, by swscale's name; unmarked files are shown as players do, by their size."""
    if frame.colorspace in (_RGB, _UNMARKED):
        return "ITU709" if frame.width >= 1280 or frame.height > 576 else "ITU601"
    return _MATRICES[frame.colorspace]


def _is_limited(frame: "VideoFrame") -> bool:
    if frame.color_range in (_LIMITED, _FULL):
        return frame.color_range == _LIMITED
    return not (frame.format.is_rgb or frame.format.has_palette or frame.format.name.startswith("yuvj"))


def _array(plane: "VideoPlane", deep: bool) -> Shaped[np.ndarray, "h line"]:
    kind = np.uint16 if deep else np.uint8
    return np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // np.dtype(kind).itemsize)


def _widened(plane: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w"]:
    """Values of 16 to 235 as 0 to 255, at 8 bits or 16."""
    unit = 1 if plane.dtype == np.uint8 else FULL // 255
    wide = np.rint((plane.astype(np.float32) - 16 * unit) * (255 / 219))
    return wide.clip(0, 255 * unit).astype(plane.dtype)


def _bits(frame: "VideoFrame") -> int:
    return max(part.bits for part in frame.format.components)


@cache
def _has_alpha(kind: str) -> bool:
    """Whether frames of a format, by FFmpeg's name, may be transparent; kept, as asking takes its time."""
    import av

    form = av.VideoFormat(kind)
    return form.has_palette or any(part.is_alpha for part in form.components)


def _of_full(plane: UInt16[np.ndarray, "h w"], bits: int) -> UInt16[np.ndarray, "h w"]:
    """Values whose white is the largest of `bits`, made 16 bits long, with white at `FULL`."""
    largest = ((1 << bits) - 1) << (16 - bits)
    return np.rint(plane * np.float32(FULL / largest)).clip(0, FULL).astype(np.uint16)


def _of_few(plane: UInt8[np.ndarray, "h w"], bits: int) -> UInt8[np.ndarray, "h w"]:
    """Values whose white is the largest of `bits`, fewer than 8, with white at 255."""
    largest = 256 - (1 << (8 - bits))
    return np.rint(plane * np.float32(255 / largest)).clip(0, 255).astype(np.uint8)


def _eight_bits(plane: UInt16[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    return np.rint(plane / np.float32(FULL // 255)).clip(0, 255).astype(np.uint8)
