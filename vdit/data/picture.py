"""From a decoder's frame to the picture on the screen: its fields, the shape of its pixels, its direction."""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int, UInt8

from vdit.data.colour import Colours, Picture, side_data
from vdit.data.media import UnreadableVideo

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["Screen"]

LARGEST = 16_384
"""Pixels of a side; a file that asks for more has a mistake in its marks."""
SLANT = 100
"""A display matrix is a quarter turn where what lies between is this many times less."""


class Screen:
    """Shows the frames of one opened file, one at a time."""

    def __init__(self, path: Path, stream: "VideoStream"):
        """Of the stream that is shown of `path`."""
        self._path = path
        self._colours = Colours(path)
        self._context = stream.codec_context
        self._begun = self._context.sample_aspect_ratio
        self._aspect = stream.sample_aspect_ratio or Fraction(1)  # how wide a stored pixel is for its height

    def size(self, frame: "VideoFrame") -> tuple[int, int]:
        """Height and width of a frame as it is shown. Raises `UnreadableVideo` as `show` does."""
        turn = _Turn.of(frame, self._path)
        height, width = self._squared(frame, turn)
        return (width, height) if turn.swapped else (height, width)

    def show(self, frame: "VideoFrame") -> Picture:
        """Red, green and blue of a frame as a player shows it.

        Raises:
            UnreadableVideo: its colours, its shape or its direction cannot be understood.
        """
        turn = _Turn.of(frame, self._path)
        whole = _one_field(frame) if frame.interlaced_frame else frame
        return [turn(plane) for plane in self._colours.show(whole, *self._squared(frame, turn))]

    def _squared(self, frame: "VideoFrame", turn: "_Turn") -> tuple[int, int]:
        """Height and width with square pixels, not turned yet; one grows, so that nothing is lost."""
        aspect, height, width = self._aspect, frame.height, frame.width
        if turn.swapped and turn.stretch != 1 and math.isclose(aspect, turn.stretch, rel_tol=1e-3):
            aspect = 1 / aspect  # FFmpeg's is how the matrix stretches the picture that is turned already
        now = self._context.sample_aspect_ratio
        if now and self._begun and now != self._begun:
            raise UnreadableVideo(self._path, f"the shape of its pixels changes, from {self._begun} to {now}")
        if aspect == 1:
            return height, width
        if aspect > 1:
            width = round(width * aspect)
        else:
            height = round(height / aspect)
        if max(height, width) > LARGEST:
            raise UnreadableVideo(self._path, f"its pixels are said to be {aspect} times as wide as high")
        return height, width


def _one_field(frame: "VideoFrame") -> "VideoFrame":
    """The upper field of a frame of two, with the rows between found from it alone.

    Filters that look at the frames before and behind keep more detail where nothing moves, and weave the
    fields where they take a flicker for rest; and a frame would depend on where reading began.
    """
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add("estdif", "mode=frame:parity=tff:deint=all"), graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    graph.vpush(None)
    return graph.vpull()


@dataclass(frozen=True)
class _Turn:
    """How stored pictures are turned: rows and columns change places, then each may be reversed.

    Attributes:
        swapped: rows become columns.
        rows: the last is the first, afterwards.
        columns: likewise.
        stretch: how many times wider than higher a pixel becomes on the screen.
    """

    swapped: bool
    rows: bool
    columns: bool
    stretch: float = 1.0

    @classmethod
    def of(cls, frame: "VideoFrame", path: Path) -> "_Turn":
        """As the display matrix says (ISO/IEC 14496-12, 6.2.2). Raises `UnreadableVideo` for other angles."""
        matrix = side_data(frame).get("DISPLAYMATRIX")
        if matrix is None:
            return _UPRIGHT
        return cls._of_matrix(np.frombuffer(bytes(matrix), np.int32), path)

    @classmethod
    def _of_matrix(cls, matrix: Int[np.ndarray, "9"], path: Path) -> "_Turn":
        a, b, c, d = matrix[[0, 1, 3, 4]].tolist()  # across = a x + c y, down = b x + d y
        along, swapped = min(abs(a), abs(d)), min(abs(b), abs(c))
        if not matrix.any() or max(abs(b), abs(c)) * SLANT < along:
            return cls(False, rows=d < 0, columns=a < 0)
        if max(abs(a), abs(d)) * SLANT < swapped:
            return cls(True, rows=b < 0, columns=c < 0, stretch=abs(c / b))
        angle = round(math.degrees(math.atan2(b, a)))
        what = f"turned by {angle} degrees" if angle % 90 else "slanted"
        raise UnreadableVideo(path, f"it is to be {what}; only quarter turns are read")

    def __call__(self, plane: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h2 w2"]:
        turned = plane.T if self.swapped else plane
        return turned[:: -1 if self.rows else 1, :: -1 if self.columns else 1]


_UPRIGHT = _Turn(False, False, False)
