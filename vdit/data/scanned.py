"""What was found in a file when it was looked into, whatever is cut out of it later."""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vdit.data.decode import ABSENT, Decoder, FrameTable, UnreadableVideo, open_video, scan
from vdit.digests import blocks

__all__ = ["Content", "Scanned", "scan_file"]

SETTLED_NS = 2 * 10**9
"""From a modification to a scan: file systems count time in steps, some as long as this, and within one the
time would not tell of another modification."""

VERIFIED_AT_ONCE = 32
"""Frames decoded at once: a long video would fill the memory."""

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


UNREAD = Content("", "")


@dataclass(frozen=True, eq=False)
class Scanned:
    """A file that was looked into.

    Attributes:
        path: of it.
        size: bytes.
        modified_ns: when it was last written, as its file system says.
        scanned_ns: when it was looked into, by this machine's clock; 0 where what was found may pass.
        content: digests of it; empty where it could not be read.
        table: its frames; None where it cannot be used.
        unusable: why it cannot; "" where it can.
    """

    path: Path
    size: int = 0
    modified_ns: int = 0
    scanned_ns: int = 0
    content: Content = UNREAD
    table: FrameTable | None = None
    unusable: str = ""

    def is_of(self, stat: os.stat_result) -> bool:
        """Whether the file was surely not written since."""
        same = (self.size, self.modified_ns) == (stat.st_size, stat.st_mtime_ns)
        return same and self.scanned_ns - self.modified_ns > SETTLED_NS

    def frames(self) -> FrameTable:
        """The frames of a file that can be used. Raises UnreadableVideo of one that cannot."""
        if self.table is None:
            raise UnreadableVideo(self.path, self.unusable)
        return self.table


def scan_file(path: Path, decoder: Decoder, verify: bool) -> Scanned:
    """Look into a file; never raises: that it cannot be read is what is found.

    Args:
        path: of a video or an image.
        decoder: that will read it.
        verify: decode every frame, so that damage is found now.
    """
    now = time.time_ns()
    try:
        stat, content = path.stat(), Content.of(path)
        state = (path, stat.st_size, stat.st_mtime_ns, now, content)
        try:
            table = scan(path, decoder)
            if verify:
                reader = open_video(path, decoder, table)
                for start in range(0, table.info.frames, VERIFIED_AT_ONCE):
                    reader.read(start, min(VERIFIED_AT_ONCE, table.info.frames - start))
        except UnreadableVideo as error:
            return Scanned(*state, table=None, unusable=error.reason)
        return Scanned(*state, table=table)
    except FileNotFoundError:
        return Scanned(path, unusable=ABSENT)
    except OSError as error:  # of the disk, which may give it the next time
        return Scanned(path, unusable=f"it cannot be read ({error.strerror or error})")
