"""Clips from video files: the part that a folder and a list share."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.data.cut import ClipCut
from vdit.data.decode import (
    READING,
    Decoder,
    UnreadableVideo,
    VideoInfo,
    open_video,
    require_decoder,
)
from vdit.data.entry import Entry, Offer, none_usable
from vdit.data.examine import UsableVideo, examine
from vdit.data.given import read_reference
from vdit.data.index import index_file, indexed
from vdit.data.inventory import KnownClip
from vdit.data.report import SourceReport, printable
from vdit.data.scanned import Content, Scanned
from vdit.data.select import select
from vdit.data.transforms import ToUnitRange
from vdit.first_few import first_few
from vdit.types import Clip, ClipFormat, InputError

__all__ = ["VideoSource"]

# Of the picture that is to be left by a crop, lest it is told.
_LEFT = 2 / 3

# What programs write where there is no value.
_NO_WORDS = {"nan", "none", "null", "n/a", "<na>", "undefined"}


@dataclass(frozen=True)
class _Window:
    id: str
    video: int
    start: int


class VideoSource:
    """Clips cut out of video files, a `ClipSource`: `source[i]` always gives the same clip.

    A clip's id is `name@frame`, the file's name and the number of the clip's first frame in the file; with
    several crops a window, `#crop` follows. Each file is looked into once, and an index keeps what is in it
    (`vdit.data.index`); no frames are kept in memory.

    Attributes:
        report: what was taken and what was left out, with reasons.
        fingerprint: sha256 over the cut and each used file's name, caption, size, first and last megabyte,
            and 16 blocks between. Times of modification are left out, because copying a data set to another
            machine changes them; whole files are not read, because terabytes would take hours, and an edited
            or re-encoded video differs in its size, its header or its index, which stand at its ends.
    """

    def __init__(
        self,
        offer: Offer,
        cut: ClipCut,
        require_captions: bool = False,
        decoder: Decoder = "pyav",
        verify: bool = False,
        where: str | None = None,
        scan_threads: int = 4,
    ):
        """Index what is offered.

        Args:
            offer: the videos, and what was left out before any was opened.
            cut: what to take from each.
            require_captions: refuse videos without a caption; else theirs is empty and they are reported.
            decoder: `pyav`, or `decord` where it is installed.
            verify: decode every frame now, so that a damaged file is skipped and cannot stop a training.
            where: which videos to take, a condition in SQL on `name`, `caption`, `frames`, `height`, `width`,
                `fps`, `seconds` (those of the file) and the further columns of a list. None is all.
            scan_threads: files examined at once.

        Raises:
            InputError: no clip is left, a caption is missing and required, the decoder is not installed, or
                `where` is no condition.
        """
        require_decoder(decoder)
        self.cut = cut
        self._decoder: Decoder = decoder
        entries = offer.entries
        _refuse_missing_captions(offer, require_captions)
        _refuse_some_poses(offer, cut)
        self._referenced = any(entry.references for entry in entries)
        outcomes = _examined(offer, cut, decoder, verify, where, scan_threads)
        videos = [outcome for outcome in outcomes if isinstance(outcome, UsableVideo)]
        bad = [
            (entry, outcome.reason)
            for entry, outcome in zip(entries, outcomes, strict=True)
            if isinstance(outcome, UnreadableVideo)
        ]
        if not videos:
            raise InputError(none_usable(offer, bad))
        self._take(offer, videos, bad)

    def _take(self, offer: Offer, videos: Sequence[UsableVideo], bad: Sequence[tuple[Entry, str]]) -> None:
        self._offer, self._videos, self._bad = offer, videos, bad
        self._windows = _windows(videos, self.cut)
        self.report = _report(offer, videos, bad, self.cut, len(self._windows))
        self.fingerprint = _fingerprint(videos, self._windows, self.cut, self._decoder)

    def split(self, contents: Collection[str]) -> tuple["VideoSource", "VideoSource"]:
        """The clips of other videos than some, and the clips of these, each as a source of its own.

        Args:
            contents: of the latter, as `video` tells them; some, and not all.
        """
        sides = [
            [v for v in self._videos if (v.content.ends in contents) == apart] for apart in (False, True)
        ]
        ours, theirs = ({name for v in side for name in v.entry.counted} for side in sides)
        rest, apart, away = copy(self), copy(self), theirs - ours
        bad = [
            (replace(e, counted=tuple(n for n in e.counted if n not in away)), why) for e, why in self._bad
        ]
        rest._take(replace(self._offer, seen=self._offer.seen - len(away)), sides[0], bad)
        nothing = replace(self._offer, seen=len(theirs), skipped=(), not_understood=(), remarks=())
        apart._take(nothing, sides[1], ())
        return rest, apart

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

    def id(self, index: int) -> str:
        """The id of clip `index`, without decoding it."""
        return self._windows[index].id

    def known(self) -> Iterator[KnownClip]:
        """All clips, told by what they show and say: the same wherever the files lie, by whatever decoder."""
        of = {number: _known(video) for number, video in enumerate(self._videos)}
        for window in self._windows:
            content, inside, caption = of[window.video]
            crop = window.id if self.cut.random_crop else ""  # whose place in the picture the id decides
            shown = f"{content} {self._videos[window.video].ticks[window.start]} {crop}"
            yield KnownClip(window.id, _short(shown), caption, inside)

    def format(self, index: int) -> ClipFormat:
        """Length, size and rate of clip `index`."""
        fps = self.cut.fps or float(self._videos[self._windows[index].video].table.info.fps)
        return ClipFormat(self.cut.frames, self.cut.height, self.cut.width, fps)

    def video(self, index: int) -> str:
        """The ends of the file of clip `index`; copies of one file have them in common."""
        return self._videos[self._windows[index].video].content.ends


def _examined(
    offer: Offer, cut: ClipCut, decoder: Decoder, verify: bool, where: str | None, threads: int
) -> list[UsableVideo | UnreadableVideo]:
    """What can be used of each video, or why nothing can."""
    entries = offer.entries
    paths = [entry.path for entry in entries if not entry.unusable]
    found = indexed(paths, index_file(offer.place, decoder, verify), decoder, verify, threads)
    scanned = [found.get(entry.path) or Scanned(entry.path, unusable=entry.unusable) for entry in entries]
    chosen = _chosen(entries, scanned, where)

    def examined(number: int) -> UsableVideo | UnreadableVideo:
        entry = entries[number]
        if not chosen[number]:
            return UnreadableVideo(entry.path, f"left out by where: {where}")
        try:
            return examine(entry, scanned[number], cut)
        except UnreadableVideo as error:
            return error
        except OSError as error:
            return UnreadableVideo(entry.path, f"it cannot be read ({error.strerror or error})")

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(examined, range(len(entries))))


def _chosen(entries: Sequence[Entry], scanned: Sequence[Scanned], where: str | None) -> Sequence[bool]:
    """Which videos a condition holds for; those that cannot be used pass, for what else there is to tell."""
    if where is None:
        return [True] * len(entries)
    rows: list[Mapping[str, object]] = []
    for entry, one in zip(entries, scanned, strict=True):
        info = None if one.table is None else one.table.info
        of_file = {} if info is None else {n: getattr(info, n) for n in ("frames", "height", "width")}
        of_file |= {} if info is None else {"fps": float(info.fps), "seconds": info.duration}
        rows.append({**entry.columns, "name": entry.name, "caption": entry.caption, **of_file})
    return [chosen or one.table is None for chosen, one in zip(select(rows, where), scanned, strict=True)]


def _windows(videos: Sequence[UsableVideo], cut: ClipCut) -> list[_Window]:
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
    offer: Offer, videos: Sequence[UsableVideo], bad: Sequence[tuple[Entry, str]], cut: ClipCut, clips: int
) -> SourceReport:
    seconds = covered = 0.0
    for video in videos:
        fps = cut.fps or float(video.table.info.fps)
        used = {k for start in cut.starts(len(video.ticks)) for k in range(start, start + cut.frames)}
        seconds += len(video.ticks) / fps
        covered += len(used) / fps
    infos = [(video.entry.name, video.table.info) for video in videos]
    used = {name for video in videos for name in video.entry.counted}
    return SourceReport(
        clips=clips,
        videos=len({video.entry.path for video in videos}),
        of=offer.of,
        seen=offer.seen,
        used=len(used),
        skipped=(*offer.skipped, *_skipped(bad, used)),
        not_understood=offer.not_understood,
        remarks=(*offer.remarks, *_remarks(videos)),
        uncaptioned=tuple(video.entry.name for video in videos if not video.entry.caption),
        upscaled=tuple(name for name, info in infos if info.height < cut.height or info.width < cut.width),
        cropped=tuple(name for name, info in infos if _left(info, cut) < _LEFT),
        seconds=seconds,
        seconds_covered=covered,
    )


def _skipped(bad: Sequence[tuple[Entry, str]], used: set[str]) -> Iterator[tuple[str, str]]:
    """Of each video that gives no clip, itself and the files beside it that no other video uses."""
    told = set(used)
    for entry, reason in bad:
        yield entry.name, reason
        told.add(entry.counted[0])
    for entry, _ in bad:
        for name in entry.counted[1:]:
            if name not in told:
                told.add(name)
                yield name, "its video is skipped"


def _remarks(videos: Sequence[UsableVideo]) -> Iterator[tuple[str, str]]:
    """What is not used of videos that are, or is used twice."""
    first: dict[tuple[object, ...], str] = {}
    for video in videos:
        entry, info = video.entry, video.table.info
        if video.cameras is not None and len(video.cameras.c2w) > info.frames:
            yield (
                entry.name,
                f"it has {info.frames} frames and {len(video.cameras.c2w)} poses: the last are unused",
            )
        if entry.end is not None and entry.end > info.duration + 1 / info.fps:
            yield entry.name, f"'end' is {entry.end:g} s, behind its last frame at {info.duration:.2f} s"
        if video.table.videos > 1:
            yield entry.name, f"it holds {video.table.videos} videos: the one that a player shows is used"
        if entry.caption.lower() in _NO_WORDS:
            yield entry.name, f"its caption is the word {entry.caption!r}"
        same = (video.content, entry.caption, entry.start, entry.end)
        if same in first:
            yield entry.name, f"it is the same, with its caption, as {printable(first[same])}"
        first.setdefault(same, entry.name)


def _left(info: VideoInfo, cut: ClipCut) -> float:
    """How much of a picture stands in the largest window that has the shape of a clip."""
    shapes = info.width / info.height, cut.width / cut.height
    return min(shapes) / max(shapes)


def _fingerprint(
    videos: Sequence[UsableVideo], windows: Sequence[_Window], cut: ClipCut, decoder: Decoder
) -> str:
    digest = hashlib.sha256(repr((cut, decoder, READING)).encode())
    for video in videos:
        entry = video.entry
        ends, inside = video.content
        digest.update(repr((entry.name, entry.caption, entry.start, entry.end, ends)).encode())
        for content in map(Content.of, entry.beside()):
            digest.update(content.ends.encode())
            inside += content.inside
        digest.update(inside.encode())
    for window in windows:
        digest.update(window.id.encode() + b"\n")
    return digest.hexdigest()


def _known(video: UsableVideo) -> tuple[str, str, str]:
    """What the ends of the files of a video hold, digests of what lies between, and of its caption."""
    files = [video.content, *map(Content.of, video.entry.beside())]
    ends, inside = (" ".join(parts) for parts in zip(*files, strict=True))
    return ends, _short(inside) if inside.strip() else "", _short(video.entry.caption)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _seed(id: str) -> int:
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big")


def _refuse_some_poses(offer: Offer, cut: ClipCut) -> None:
    entries = offer.entries
    missing = [entry.name for entry in entries if entry.poses is None]
    if len(missing) == len(entries):
        return
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(entries)} videos of {offer.described} have no poses "
            f"({first_few(missing)}): give them to all, or to none"
        )
    if cut.random_crop:
        raise InputError("poses are of centred crops: leave out random_crop, or the poses")


def _refuse_missing_captions(offer: Offer, require: bool) -> None:
    missing = [entry.name for entry in offer.entries if not (entry.caption or entry.unusable)]
    if require and missing:
        raise InputError(
            f"{len(missing)} of the {len(offer.entries)} videos of {offer.described} have no caption "
            f"({first_few(missing)}); write one for each, "
            f"or set require_captions: false to use them with the empty caption"
        )
