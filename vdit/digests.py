"""Digests of files that are too large to be read whole each time somebody asks what they hold."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

__all__ = ["blocks", "file_digest"]

# Files up to this size are hashed whole. Larger ones by their size and evenly spaced windows: hashing 20 GB
# would take longer than what it protects, and training changes every window of a weight file.
_WHOLE_BYTES = 256 * 2**20
_WINDOWS = 256
_WINDOW_BYTES = 2**18


def file_digest(path: Path) -> str:
    """sha256 of a file; of one above 256 MiB, of its size and 256 windows of 256 KiB spread over it.

    Of a larger file a change that lies between the windows and keeps its size is not seen.
    """
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _digest(path: Path, size: int, _changed: int) -> str:
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{size} {_WINDOWS} {_WINDOW_BYTES}".encode())
        for window in blocks(file, 0, size, _WINDOWS, _WINDOW_BYTES):
            digest.update(window)
    return digest.hexdigest()


def blocks(file: BinaryIO, start: int, stop: int, count: int, length: int) -> Iterator[bytes]:
    """So many blocks of a file, evenly spaced between two places; all there is, where that is no more.

    Args:
        file: open for reading.
        start: of the first block.
        stop: the end of the last.
        count: blocks; 2 at least.
        length: bytes of each.
    """
    if stop - start <= count * length:
        file.seek(start)
        yield file.read(max(stop - start, 0))
        return
    for number in range(count):
        file.seek(start + (stop - start - length) * number // (count - 1))
        yield file.read(length)
