"""What a run is asked from outside: to save, or to leave well, by signals and by files in its folder."""

import signal
import time
from enum import IntEnum
from pathlib import Path
from types import FrameType

__all__ = ["Requests", "Wanted"]

LOOK_EVERY = 1.0
"""Seconds from one look for files to the next: the folder may be on a slow disk."""


class Wanted(IntEnum):
    """What is asked; of several ranks, the highest counts."""

    NOTHING = 0
    SAVE = 1
    LEAVE = 2


class Requests:
    """Listens, while it is entered, for SIGTERM and ctrl-C, and for the files `save` and `stop`.

    A signal or the file `stop` asks to leave; a second ctrl-C interrupts at once, as it would without us. A
    file is deleted when it is seen.

    Args:
        folder: of the run.
        looks: whether this process looks for files.
    """

    def __init__(self, folder: Path, looks: bool) -> None:
        self.reason: str | None = None
        self._interrupted = False
        self._files = {Wanted.LEAVE: folder / "stop", Wanted.SAVE: folder / "save"} if looks else {}
        self._looked = -LOOK_EVERY
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Requests":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def wanted(self) -> Wanted:
        """What is asked of this process; a file is heard once."""
        found = self._by_file()
        if found == Wanted.LEAVE:
            self.reason = self.reason or "the file stop"
        return Wanted.LEAVE if self.reason is not None else found

    def _by_file(self) -> Wanted:
        if (now := time.monotonic()) < self._looked + LOOK_EVERY:
            return Wanted.NOTHING
        self._looked = now
        for wanted, file in self._files.items():
            try:
                file.unlink()
            except OSError:
                continue
            return wanted
        return Wanted.NOTHING

    def _ask(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        self.reason = self.reason or signal.Signals(number).name
