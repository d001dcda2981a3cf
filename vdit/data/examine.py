"""One video of a source: opened, and refused with the reason where no clip can be cut out of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from vdit.camera.pose_file import read_poses
from vdit.data.cut import ClipCut
from vdit.data.decode import IMAGE_ENDINGS, FrameTable, UnreadableVideo, VideoInfo
from vdit.data.entry import Entry
from vdit.data.given import read_reference
from vdit.data.report import number_of
from vdit.data.scanned import Content, Scanned
from vdit.data.transforms import ResampleFps
from vdit.types import Cameras, InputError

__all__ = ["UsableVideo", "examine"]

# A file may be a little slower than the asked rate (23.976 for 24); below this, frames would visibly repeat.
_SLOWEST = 0.9


@dataclass(frozen=True, eq=False)
class UsableVideo:
    """A video that clips can be cut out of.

    Attributes:
        entry: as it is offered.
        table: its frames.
        ticks: frame numbers of its usable part at the clip's rate.
        content: of its file.
        cameras: poses of all frames of the file, if it has any.
    """

    entry: Entry
    table: FrameTable
    ticks: Int[np.ndarray, "t"]
    content: Content
    cameras: Cameras | None


def examine(entry: Entry, scanned: Scanned, cut: ClipCut) -> UsableVideo:
    """Everything known of a usable video. Raises `UnreadableVideo` with the reason where it is not."""
    path, table = entry.path, scanned.frames()
    info = table.info
    if cut.fps is not None and info.frames > 1 and info.fps < _SLOWEST * cut.fps:
        raise UnreadableVideo(path, f"its {float(info.fps):g} fps are too few for clips of {cut.fps:g} fps")
    ticks = _usable(entry, table, cut)
    if len(ticks) < cut.frames:
        raise UnreadableVideo(
            path, f"too short: {_held(path, table, len(ticks), cut)}, and a clip needs {cut.frames}"
        )
    for reference in entry.references:
        try:
            read_reference(reference, cut.height, cut.width)  # skips now what would fail in a training
        except InputError as error:
            raise UnreadableVideo(path, f"its reference {error}") from error
    return UsableVideo(entry, table, ticks, scanned.content, _cameras(entry, table.info, cut))


def _held(path: Path, table: FrameTable, usable: int, cut: ClipCut) -> str:
    """How many frames a file has, and how many of them a clip may be made of, in words."""
    if path.suffix.lower() in IMAGE_ENDINGS:
        return "an image is one frame"
    frames = table.info.frames
    told = f"its {number_of(frames, 'frame')}"
    if usable == frames:
        return told
    return f"{told} ({usable} {f'at {cut.fps:g} fps' if cut.fps else 'in the part asked for'})"


def _cameras(entry: Entry, info: VideoInfo, cut: ClipCut) -> Cameras | None:
    """The cameras of all frames of a video, for crops of it.

    Raises:
        UnreadableVideo: its pose file cannot be used, or has fewer poses than there are frames.
    """
    if entry.poses is None:
        return None
    try:
        cameras = read_poses(entry.poses, cut.height, cut.width, (info.height, info.width))
    except InputError as error:
        raise UnreadableVideo(entry.path, str(error)) from error
    if len(cameras.c2w) < info.frames:
        poses = number_of(len(cameras.c2w), "pose")
        few = f"pose file {entry.poses} has {poses} for its {info.frames} frames"
        raise UnreadableVideo(entry.path, f"{few}; give one a frame")
    return cameras


def _usable(entry: Entry, table: FrameTable, cut: ClipCut) -> Int[np.ndarray, "t"]:
    """Frame numbers of the part between `entry.start` and `entry.end`, at the clip's rate."""
    end = table.info.duration if entry.end is None else min(entry.end, table.info.duration)
    # Half a thousandth of a second forgives the rounding of times written as decimals.
    inside = np.flatnonzero((table.times >= entry.start - 5e-4) & (table.times < end - 5e-4))
    if cut.fps is None or len(inside) < 2:
        return inside
    times = table.times[inside]
    return inside[ResampleFps(cut.fps)(times, end - float(times[0]))]
