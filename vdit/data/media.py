"""What a video file holds, and how one that cannot be used is refused."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from vdit.types import InputError

__all__ = [
    "ABSENT",
    "IMAGE_ENDINGS",
    "READING",
    "VIDEO_ENDINGS",
    "FrameTable",
    "UnreadableVideo",
    "VideoInfo",
]

VIDEO_ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".gif", ".apng"),
    *(".avi", ".wmv", ".asf", ".flv", ".f4v", ".ts", ".mts", ".m2ts"),
    *(".mpg", ".mpeg", ".vob", ".mxf", ".ogv", ".3gp", ".3g2"),
)
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff")

ABSENT = "there is no such file"
"""Why a video that is named and not there cannot be used."""

READING = 2
"""The way in which files become pixels. Another number has clips encoded again that an older way read."""


class UnreadableVideo(InputError):
    """A video file that cannot be used: `path` names it and `reason` says why."""

    def __init__(self, path: Path | str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds, as it is shown: upright, and with square pixels.

    Attributes:
        frames: number of frames, counted, not taken from the header.
        height: pixels.
        width: pixels.
        fps: the file's average frame rate, exact (30000/1001, not 29.97); 1 for an image.
        duration: seconds, from the first frame to the end of the last.
    """

    frames: int
    height: int
    width: int
    fps: Fraction
    duration: float


@dataclass(frozen=True, eq=False)
class FrameTable:
    """A file's frames in the order they are shown.

    Attributes:
        info: the summary.
        pts: presentation stamp of every frame, int64, in units of the file's own time base.
        times: the same in seconds, from 0 at the first frame.
        sought: frames are found by their stamps; else they are counted from the start of the file.
        videos: how many the file holds, of which the one that a player shows is read.
    """

    info: VideoInfo
    pts: Int64[np.ndarray, "t"]
    times: Float64[np.ndarray, "t"]
    sought: bool = field(default=True)
    videos: int = 1
