"""Leaving well: a signal asks, the loop finishes its step and saves."""

import signal
from types import FrameType

__all__ = ["StopRequest"]


class StopRequest:
    """Listens for SIGTERM and ctrl-C while it is entered.

    The first signal raises the flag; a second ctrl-C interrupts at once, as it would without us.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name
