"""How many frames a video file holds, when each is shown, of which size they are, and if all are there."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from vdit.data.media import FrameTable, UnreadableVideo, VideoInfo
from vdit.data.packets import refuse_short, walk
from vdit.data.picture import Screen
from vdit.data.rate import timing
from vdit.data.stream import counted, decoded, opened, videos

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["changed", "scan_video"]

KEYS = 2
"""Key frames that are decoded to see whether the picture keeps its size: in the middle, and the last."""


def scan_video(path: Path) -> FrameTable:
    """Walk a file's packets and decode its first frame and a few more; where packets do not tell, decode all.

    Raises:
        UnreadableVideo: no video, no frames, fewer than it promises, or pictures of several sizes.
    """
    with opened(path) as (container, stream):
        shown = walk(path, container, stream)
    stamps = sorted({packet.pts for packet in shown if packet.pts is not None})
    if not shown or len(stamps) < len(shown):
        return _of_frames(path)
    keys = sorted(packet.pts for packet in shown if packet.key and packet.pts is not None)
    last = max(shown, key=lambda packet: packet.pts or 0).duration
    with opened(path) as (container, stream):
        size = _size(path, container, stream, stamps[0], keys)
        return _table(np.array(stamps, dtype=np.int64), stream, last, size, sought=True)


def changed(path: Path, before: tuple[int, int], after: tuple[int, int]) -> UnreadableVideo:
    """What is said of a file whose pictures (height, width) have several sizes."""
    (h1, w1), (h2, w2) = before, after
    what = f"its picture changes from {w1}x{h1} to {w2}x{h2}"
    return UnreadableVideo(path, f"{what}; cut it there, or encode it again at one size")


def _table(
    pts: Int64[np.ndarray, "t"], stream: "VideoStream", last: int, size: tuple[int, int], sought: bool
) -> FrameTable:
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    told = timing(pts, Fraction(stream.time_base or 1), last, rates)
    info = VideoInfo(len(pts), *size, told.fps, told.duration)
    return FrameTable(info, pts, told.times, sought, videos(stream.container))


def _size(
    path: Path, container: "InputContainer", stream: "VideoStream", first: int, keys: Sequence[int]
) -> tuple[int, int]:
    """Height and width of the first frame, which some key frames must share."""
    screen = Screen(path, stream)
    frame = next((frame for frame in decoded(container, stream) if (frame.pts or 0) >= first), None)
    if frame is None or frame.pts != first or frame.is_corrupt:
        raise UnreadableVideo(path, "its first frame cannot be decoded")
    screen.show(frame)  # refuses colours that are not understood
    size = screen.size(frame)
    later = keys[1:]
    for stamp in sorted({later[len(later) * (k + 1) // KEYS - 1] for k in range(KEYS)} if later else ()):
        container.seek(stamp, stream=stream)
        frame = next(decoded(container, stream), None)
        if frame is not None and screen.size(frame) != size:
            raise changed(path, size, screen.size(frame))
    return size


def _of_frames(path: Path) -> FrameTable:
    """Of a file whose packets do not tell: its frames are decoded, and counted from now on."""
    with opened(path) as (container, stream):
        screen, size, stamps, last = Screen(path, stream), None, [], 0
        for frame in counted(path, container, stream):
            if size is None:
                size = screen.size(frame)
                screen.show(frame)
            if screen.size(frame) != size:
                raise changed(path, size, screen.size(frame))
            stamps.append(frame.pts)
            last = frame.duration or 0
        if size is None:
            raise UnreadableVideo(path, "it holds no frames")
        base, known = stream.time_base or Fraction(1), [stamp for stamp in stamps if stamp is not None]
        if len(known) < len(stamps) or any(a >= b for a, b in pairwise(stamps)):
            # AVI has no stamps for frames that are shown in another order than they are decoded in.
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            stamps, last = [round(k / rate / base) for k in range(len(stamps))], 0
        table = _table(np.array(stamps, dtype=np.int64), stream, last, size, sought=False)
        frame_seconds = 1 / float(table.info.fps)
        end = max(table.info.duration, float(max(known, default=0) * base) + frame_seconds)
        refuse_short(path, container, stream, end, slack=2 * frame_seconds if stream.frames else 1.0)
        return table
