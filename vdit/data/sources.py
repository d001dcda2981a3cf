"""Clips from video files: the part that a folder and a list share."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdit.camera.pose_file import read_poses
from vdit.data.cut import ClipCut
from vdit.data.decode import (
    IMAGE_ENDINGS,
    Decoder,
    FrameTable,
    UnreadableVideo,
    open_video,
    require_decoder,
    scan,
)
from vdit.data.given import read_reference
from vdit.data.report import SourceReport
from vdit.data.transforms import ResampleFps, ToUnitRange
from vdit.types import Cameras, Clip, InputError

__all__ = ["Entry", "VideoSource"]

# A file may be a little slower than the asked rate (23.976 for 24); below this, frames would visibly repeat.
_SLOWEST = 0.9

_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A video that a user offers.

    Attributes:
        path: the file.
        name: how ids and messages call it; the same on every machine.
        caption: its text, "" where there is none.
        start: second at which the usable part begins.
        end: second at which it ends; None is the end of the file.
        references: images of who or what is in it.
        poses: a file of the camera's poses, one a frame of the video.
    """

    path: Path
    name: str
    caption: str
    start: float = 0.0
    end: float | None = None
    references: tuple[Path, ...] = ()
    poses: Path | None = None

    def beside(self) -> list[Path]:
        """What else there is to read."""
        return [*self.references, *([self.poses] if self.poses else [])]


@dataclass(frozen=True, eq=False)
class _Video:
    """An entry that can be used: `ticks` are the frame numbers of its usable part at the clip's rate.

    Poses are those of all frames of the file.
    """

    entry: Entry
    table: FrameTable
    ticks: Int[np.ndarray, "t"]
    content: str
    cameras: Cameras | None


@dataclass(frozen=True)
class _Window:
    id: str
    video: int
    start: int


class VideoSource:
    """Clips cut out of video files, a `ClipSource`: `source[i]` always gives the same clip.

    A clip's id is `name@frame`, the file's name and the number of the clip's first frame in the file; with
    several crops a window, `#crop` follows. Files are walked once at the start; no frames are kept in memory.

    Attributes:
        report: what was taken and what was skipped, with reasons.
        fingerprint: sha256 over the cut and each used file's name, caption, size, first and last megabyte.
            Times of modification are left out, because copying a data set to another machine changes them;
            whole files are not read, because terabytes would take hours, and an edited or re-encoded video
            differs in its size, its header or its index, which stand in those places.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        cut: ClipCut,
        described: str,
        require_captions: bool = False,
        decoder: Decoder = "pyav",
        verify: bool = False,
        scan_threads: int = 4,
    ):
        """Index `entries`.

        Args:
            entries: the videos.
            cut: what to take from each.
            described: what holds them, for messages: "the folder /data/cats".
            require_captions: refuse videos without a caption; else theirs is empty and they are reported.
            decoder: `pyav`, or `decord` where it is installed.
            verify: decode every frame now, so that a damaged file is skipped and cannot stop a training.
            scan_threads: files examined at once.

        Raises:
            InputError: no clip is left, a caption is missing and required, or the decoder is not installed.
        """
        require_decoder(decoder)
        self.cut = cut
        self._decoder: Decoder = decoder
        _refuse_missing_captions(entries, described, require_captions)
        _refuse_some_poses(entries, cut, described)
        self._referenced = any(entry.references for entry in entries)

        def examine(entry: Entry) -> _Video | UnreadableVideo:
            try:
                return _examine(entry, cut, decoder, verify)
            except UnreadableVideo as error:
                return error

        with ThreadPoolExecutor(scan_threads) as pool:
            outcomes = list(pool.map(examine, entries))
        self._videos = [outcome for outcome in outcomes if isinstance(outcome, _Video)]
        skipped = tuple(
            (entry.name, outcome.reason)
            for entry, outcome in zip(entries, outcomes, strict=True)
            if isinstance(outcome, UnreadableVideo)
        )
        if not self._videos:
            raise InputError(
                f"none of the {len(entries)} videos of {described} can be used; "
                + "; ".join(f"{name}: {reason}" for name, reason in skipped[:5])
            )
        self._windows = _windows(self._videos, cut)
        self.report = _report(self._videos, cut, len(self._windows), skipped)
        self.fingerprint = _fingerprint(self._videos, self._windows, cut, decoder)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Clip:
        window = self._windows[index]
        video = self._videos[window.video]
        wanted = video.ticks[window.start : window.start + self.cut.frames]
        reader = open_video(video.entry.path, self._decoder, video.table)
        cropped = self.cut.resize(reader.frames([int(i) for i in wanted]), _seed(window.id))
        fps = self.cut.fps or float(video.table.info.fps)
        cameras = None if video.cameras is None else video.cameras.at([int(i) for i in wanted])
        references = self._references(video.entry) if self._referenced else None
        return Clip(window.id, ToUnitRange()(cropped), fps, video.entry.caption, cameras, references)

    def _references(self, entry: Entry) -> Float[Tensor, "k 3 h w"]:
        size = (self.cut.height, self.cut.width)
        images = [read_reference(file, *size) for file in entry.references]
        return torch.stack(images) if images else torch.zeros(0, 3, *size)

    def caption(self, index: int) -> str:
        """The caption of clip `index`, without decoding it."""
        return self._videos[self._windows[index].video].entry.caption


def _examine(entry: Entry, cut: ClipCut, decoder: Decoder, verify: bool) -> _Video:
    """Everything known of a usable video. Raises `UnreadableVideo` with the reason where it is not."""
    path = entry.path
    table = scan(path)
    info = table.info
    if cut.fps is not None and info.frames > 1 and info.fps < _SLOWEST * cut.fps:
        raise UnreadableVideo(path, f"its {float(info.fps):g} fps are too few for clips of {cut.fps:g} fps")
    ticks = _usable(entry, table, cut)
    if len(ticks) < cut.frames:
        seconds = (
            f" ({len(ticks)} at {cut.fps:g} fps)" if cut.fps else f" ({len(ticks)} in the part asked for)"
        )
        kind = (
            "an image is one frame"
            if path.suffix.lower() in IMAGE_ENDINGS
            else f"its {info.frames} frames{seconds}"
        )
        raise UnreadableVideo(path, f"too short: {kind}, and a clip needs {cut.frames}")
    if verify:
        reader = open_video(path, decoder, table)
        for start in range(0, info.frames, 32):  # a few at a time: a long video would fill the memory
            reader.read(start, min(32, info.frames - start))
    for reference in entry.references:
        read_reference(reference, cut.height, cut.width)  # refuses now what would stop a training
    return _Video(entry, table, ticks, _content_hash(path), _cameras(entry, table, cut))


def _cameras(entry: Entry, table: FrameTable, cut: ClipCut) -> Cameras | None:
    """The cameras of all frames of a video, for crops of it. Raises InputError where poses are too few."""
    if entry.poses is None:
        return None
    info = table.info
    cameras = read_poses(entry.poses, cut.height, cut.width, (info.height, info.width))
    if len(cameras.c2w) < info.frames:
        raise InputError(
            f"{entry.poses} has {len(cameras.c2w)} poses, and {entry.name} {info.frames} frames: "
            "give one a frame"
        )
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


def _windows(videos: Sequence[_Video], cut: ClipCut) -> list[_Window]:
    windows: list[_Window] = []
    seen: Counter[str] = Counter()
    for number, video in enumerate(videos):
        for start in cut.starts(len(video.ticks)):
            id = f"{video.entry.name}@{video.ticks[start]}"
            seen[id] += 1
            if seen[id] > 1:  # a list may give one video several captions
                id += f"~{seen[id]}"
            crops = [f"{id}#{crop}" for crop in range(cut.crops)] if cut.crops > 1 else [id]
            windows.extend(_Window(name, number, start) for name in crops)
    return windows


def _report(
    videos: Sequence[_Video], cut: ClipCut, clips: int, skipped: tuple[tuple[str, str], ...]
) -> SourceReport:
    seconds = covered = 0.0
    for video in videos:
        fps = cut.fps or float(video.table.info.fps)
        used = {k for start in cut.starts(len(video.ticks)) for k in range(start, start + cut.frames)}
        seconds += len(video.ticks) / fps
        covered += len(used) / fps
    infos = [(video.entry.name, video.table.info) for video in videos]
    return SourceReport(
        clips=clips,
        videos=len({video.entry.path for video in videos}),
        skipped=skipped,
        uncaptioned=tuple(video.entry.name for video in videos if not video.entry.caption),
        upscaled=tuple(name for name, info in infos if info.height < cut.height or info.width < cut.width),
        seconds=seconds,
        seconds_covered=covered,
    )


def _fingerprint(videos: Sequence[_Video], windows: Sequence[_Window], cut: ClipCut, decoder: Decoder) -> str:
    digest = hashlib.sha256(repr((cut, decoder)).encode())
    for video in videos:
        entry = video.entry
        digest.update(repr((entry.name, entry.caption, entry.start, entry.end, video.content)).encode())
        for file in entry.beside():
            digest.update(_content_hash(file).encode())
    for window in windows:
        digest.update(window.id.encode() + b"\n")
    return digest.hexdigest()


def _content_hash(path: Path) -> str:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(size.to_bytes(8, "big") + file.read(_MEGABYTE))
        file.seek(max(size - _MEGABYTE, 0))
        digest.update(file.read(_MEGABYTE))
    return digest.hexdigest()


def _seed(id: str) -> int:
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big")


def _refuse_some_poses(entries: Sequence[Entry], cut: ClipCut, described: str) -> None:
    missing = [entry.name for entry in entries if entry.poses is None]
    if len(missing) == len(entries):
        return
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(entries)} videos of {described} have no poses "
            f"({', '.join(missing[:5])}): give them to all, or to none"
        )
    if cut.random_crop:
        raise InputError("poses are of centred crops: leave out random_crop, or the poses")


def _refuse_missing_captions(entries: Sequence[Entry], described: str, require: bool) -> None:
    missing = [entry.name for entry in entries if not entry.caption]
    if require and missing:
        raise InputError(
            f"{len(missing)} of the {len(entries)} videos of {described} have no caption "
            f"({', '.join(missing[:5])}); write one for each, "
            f"or set require_captions: false to use them with the empty caption"
        )
