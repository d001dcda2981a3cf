"""Clips that cannot be read: whose fault it is, and what a run does without them.

What a file or a decoder says against a clip is the clip's: a run goes on without it. What a disk says that
may not say so a minute later is no clip's: it is asked again a few times, and then the run leaves.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from vdit.data.decode import UnreadableVideo
from vdit.data.order import Position
from vdit.types import InputError
from vdit.weights.files import PASSING, DiskError

__all__ = ["Unreadable", "UnreadableClip", "first_readable", "read_clip", "readable"]

PAUSES = (0.5, 2.0, 8.0)
"""Seconds before a clip is asked for again that a disk did not give."""

BUFFER = 2**20

TRIED = 20
"""Clips that are tried where any one will do."""

Item = TypeVar("Item", covariant=True)


class Items(Protocol[Item]):
    """Clips by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item: ...


class UnreadableClip(InputError):
    """A clip that cannot be read; `reason` says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Unreadable:
    """A clip that a run does without.

    Attributes:
        clip: its number in the order of the run.
        name: its id.
        reason: why.
        since: the batch from which on it is not asked for.
        accepted: whether somebody said that it may be missing; the others count.
    """

    clip: int
    name: str
    reason: str
    since: Position
    accepted: bool = False


def read_clip(items: Items[Item], index: int, name: str) -> Item:
    """One clip; a disk that fails for a reason that may pass is asked again.

    Args:
        items: the clips.
        index: which one.
        name: of it, for messages.

    Raises:
        UnreadableClip: the clip is at fault.
        DiskError: the disk goes on failing.
    """
    for pause in (*PAUSES, None):
        try:
            return items[index]
        except (MemoryError, DiskError):
            raise
        except Exception as error:  # of a decoder, a library of images, a source of the user's own
            said = _disk_said(error)
            if said is None or said.errno not in PASSING:
                raise UnreadableClip(name, _reason(error, said)) from error
            if pause is None:
                raise DiskError(f"the disk does not give {name}: {said}. The clip may be whole") from error
        time.sleep(pause)
    raise AssertionError("the last try ends it")


def readable(items: Items[Item], numbers: Sequence[int]) -> Iterator[Item]:
    """Those of some clips that can be read. Raises DiskError as `read_clip`."""
    for number in numbers:
        try:
            yield read_clip(items, number, f"clip {number}")
        except UnreadableClip:
            continue


def first_readable(items: Items[Item]) -> Item:
    """The first clip that can be read, of some that are spread over all: a damaged video may give many.

    Raises:
        InputError: none of them can be; the message says why the first one cannot.
        DiskError: as `read_clip`.
    """
    refused: list[UnreadableClip] = []
    for number in range(0, len(items), math.ceil(len(items) / TRIED) or 1):
        try:
            return read_clip(items, number, f"clip {number}")
        except UnreadableClip as error:
            refused.append(error)
    first = refused[0].__cause__ if refused else None
    told = first if isinstance(first, UnreadableVideo) else next(iter(refused), "there are none")
    raise InputError(
        f"none of {len(refused)} clips can be read, from all over the data: {told}. Mend the files, or give "
        "others"
    )


def _reason(error: Exception, said: OSError | None) -> str:
    if said is not None and said.strerror:
        return said.strerror
    if isinstance(error, UnreadableVideo):
        return error.reason
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _disk_said(error: BaseException) -> OSError | None:
    """What the system says, if it is why a clip could not be read.

    Decoders call much an input/output error, and take some of what a disk says for the end of a file. So a
    file that is known is read by plain means, which settles it.
    """
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    files = [each.path for each in chain if isinstance(each, UnreadableVideo)]
    said = [_reading_error(file) for file in files] if files else chain
    return next((each for each in said if isinstance(each, OSError)), None)


def _reading_error(file: Path) -> OSError | None:
    """What the system says to reading all of a file."""
    try:
        with file.open("rb") as opened:
            while opened.read(BUFFER):
                pass
    except OSError as error:
        return error
    return None
