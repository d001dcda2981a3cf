"""One video of a source: opened, and refused with the reason where no clip can be cut out of it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from vdit.camera.pose_file import read_poses
from vdit.data.cut import ClipCut
from vdit.data.decode import (
    IMAGE_ENDINGS,
    Decoder,
    FrameTable,
    UnreadableVideo,
    VideoInfo,
    open_video,
    scan,
)
from vdit.data.entry import Entry
from vdit.data.given import read_reference
from vdit.data.report import number_of
from vdit.data.transforms import ResampleFps
from vdit.digests import blocks
from vdit.types import Cameras, InputError

__all__ = ["Content", "UsableVideo", "examine"]

# A file may be a little slower than the asked rate (23.976 for 24); below this, frames would visibly repeat.
_SLOWEST = 0.9

_MEGABYTE = 1 << 20
_BLOCKS, _BLOCK_BYTES = 16, 1 << 16


class Content(NamedTuple):
    """What a file holds: digests of 3 MiB of it at most, for reading all files would take hours.

    A change that keeps the size and lies between the blocks is not seen.

    Attributes:
        ends: of its size, its first and its last megabyte. It alone decides what is held out.
        inside: of 16 blocks of 64 KiB evenly spread between these; "" where nothing lies there.
    """

    ends: str
    inside: str

    @classmethod
    def of(cls, path: Path) -> "Content":
        """That of a file. Raises OSError."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            ends = hashlib.sha256(size.to_bytes(8, "big") + file.read(_MEGABYTE))
            file.seek(max(size - _MEGABYTE, 0))
            ends.update(file.read(_MEGABYTE))
            between = b"".join(blocks(file, _MEGABYTE, size - _MEGABYTE, _BLOCKS, _BLOCK_BYTES))
        return cls(ends.hexdigest(), hashlib.sha256(between).hexdigest() if between else "")


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


def examine(entry: Entry, cut: ClipCut, decoder: Decoder, verify: bool) -> UsableVideo:
    """Everything known of a usable video. Raises `UnreadableVideo` with the reason where it is not."""
    path = entry.path
    if entry.unusable:
        raise UnreadableVideo(path, entry.unusable)
    table = scan(path, decoder)
    info = table.info
    if cut.fps is not None and info.frames > 1 and info.fps < _SLOWEST * cut.fps:
        raise UnreadableVideo(path, f"its {float(info.fps):g} fps are too few for clips of {cut.fps:g} fps")
    ticks = _usable(entry, table, cut)
    if len(ticks) < cut.frames:
        raise UnreadableVideo(
            path, f"too short: {_held(path, table, len(ticks), cut)}, and a clip needs {cut.frames}"
        )
    if verify:
        reader = open_video(path, decoder, table)
        for start in range(0, info.frames, 32):  # a few at a time: a long video would fill the memory
            reader.read(start, min(32, info.frames - start))
    for reference in entry.references:
        try:
            read_reference(reference, cut.height, cut.width)  # skips now what would fail in a training
        except InputError as error:
            raise UnreadableVideo(path, f"its reference {error}") from error
    return UsableVideo(entry, table, ticks, Content.of(path), _cameras(entry, table.info, cut))


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
