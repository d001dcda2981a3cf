"""Ranges of bytes of files: what is read without the rest of the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["fill", "opened"]


@contextmanager
def opened(file: Path) -> Iterator[int]:
    """A file open for reading, by the system's number for it. Raises OSError where it cannot be read."""
    handle = os.open(file, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def fill(handle: int, start: int, buffer: memoryview) -> int:
    """Read from byte `start` on until the buffer is full or the file ends; how many bytes were read."""
    done = 0
    while done < len(buffer):
        got = os.preadv(handle, [buffer[done:]], start + done)
        if not got:
            break
        done += got
    return done
