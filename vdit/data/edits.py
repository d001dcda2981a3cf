"""Edit lists of MP4 and MOV files that FFmpeg does not play as they say (ISO/IEC 14496-12, 8.6.6)."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vdit.data.media import UnreadableVideo

__all__ = ["refuse_unplayed"]

_NORMAL = 1 << 16
"""The usual speed, in 16.16 fixed point."""
_NOTHING = -1
"""The media time of a stretch that shows nothing."""

Span = tuple[int, int]
"""Where the body of a box begins and ends, in bytes of the file."""


def refuse_unplayed(path: Path, track: int) -> None:
    """Refuse a track in which a part has another speed, or whose picture is gone for a while.

    FFmpeg plays each part at the usual speed, and other frames where there shall be none; it does wait for
    a track that begins later.

    Raises:
        UnreadableVideo: with the reason.
    """
    with path.open("rb") as file:
        edits = list(_edits(file, track))
    for place, (media_time, speed) in enumerate(edits):
        if media_time == _NOTHING:
            if place:
                raise UnreadableVideo(
                    path, "its edit list leaves a gap without pictures; cut it there, or encode it again"
                )
        elif speed != _NORMAL:
            raise UnreadableVideo(
                path,
                f"its edit list plays a part at {speed / _NORMAL:g} times its speed; encode it again",
            )


def _edits(file: BinaryIO, track: int) -> Iterator[tuple[int, int]]:
    """Media time and speed of each entry; none where the track has no edit list."""
    whole = (0, file.seek(0, 2))
    for span in _inside(file, whole, b"moov", b"trak"):
        if _number(file, span) != track:
            continue
        for begin, end in _inside(file, span, b"edts", b"elst"):
            version, count = struct.unpack(">B3xI", _read(file, begin, 8))
            entry = struct.Struct(">Qqi" if version else ">Iii")
            held = _read(file, begin + 8, min(count * entry.size, end - begin - 8))
            for _, media_time, speed in entry.iter_unpack(held[: len(held) // entry.size * entry.size]):
                yield media_time, speed


def _number(file: BinaryIO, trak: Span) -> int | None:
    """The track's number, by which FFmpeg calls its stream."""
    for begin, _ in _inside(file, trak, b"tkhd"):
        # Version and flags, then two times, which version 1 has in 8 bytes each.
        version = int.from_bytes(_read(file, begin, 1), "big")
        return int.from_bytes(_read(file, begin + (20 if version else 12), 4), "big")
    return None


def _inside(file: BinaryIO, span: Span, kind: bytes, *deeper: bytes) -> Iterator[Span]:
    """The boxes that are reached by going down through boxes of these kinds."""
    at, end = span
    while at + 8 <= end:
        size, found = struct.unpack(">I4s", _read(file, at, 8))
        head = 8
        if size == 1:
            size, head = int.from_bytes(_read(file, at + 8, 8), "big"), 16
        size = size or end - at
        if size < head:
            return
        if found == kind:
            body = (at + head, min(at + size, end))
            if deeper:
                yield from _inside(file, body, *deeper)
            else:
                yield body
        at += size


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    """Bytes of a file, with zeros for those that are not there."""
    file.seek(at)
    return file.read(count).ljust(count, b"\0")
