"""How far work has come: a bar for each stage on a terminal, a line now and then in a log."""

import time

from rich.console import Console
from rich.progress import Progress, TaskID

__all__ = ["PLAIN_LINE_SECONDS", "StageBars"]

PLAIN_LINE_SECONDS = 15.0
"""Between two lines in a log."""


class StageBars:
    """Shows the stages of a piece of work, each from its first report on. Use it in a `with` block.

    Args:
        console: where to show them; what is no terminal gets a line every quarter of a minute, and one at
            the end of each stage.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(console=console, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._spoke = time.monotonic()

    def __enter__(self) -> "StageBars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, stage: str, done: int, total: int) -> None:
        """`stage` has done `done` of `total`."""
        if self._console.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage)
            self._bars.update(self._tasks[stage], completed=done, total=total)
        elif done >= total or time.monotonic() - self._spoke > PLAIN_LINE_SECONDS:
            self._spoke = time.monotonic()
            self._console.print(f"{stage}: {done} of {total}")
