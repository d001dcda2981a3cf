"""When a run was worked on, and how much of that time is in what it has learnt."""

import json
import time
from pathlib import Path
from typing import Any

from vdit.weights.files import write_whole

__all__ = ["Sessions"]


class Sessions:
    """The times that a run was worked on, from its start to each end, in a file of its folder.

    Args:
        file: a JSON list of what `begin` was told, with `began` and `seen` in seconds of the epoch.
        writes: whether this process is the one that writes.
        began: when the command of this session was given.
    """

    def __init__(self, file: Path, writes: bool, began: float) -> None:
        self._file, self._writes, self._began = file, writes, began
        self._rows: list[dict[str, Any]] = []

    def begin(self, step: int, processes: int, strategy: str) -> None:
        """This session goes on after `step` steps."""
        try:
            self._rows = json.loads(self._file.read_text())
        except (OSError, ValueError):  # the first session, or a file cut off by a full disk
            self._rows = []
        row = {"began": self._began, "step": step, "processes": processes, "strategy": strategy}
        self._rows.append(row)
        self.seen()

    def seen(self) -> None:
        """The session still goes on."""
        self._rows[-1]["seen"] = time.time()
        if self._writes:
            write_whole(self._file, [json.dumps(self._rows, indent=1), "\n"])

    def spent(self) -> float:
        """Seconds of all sessions, those in which a step was lost included; not those between sessions."""
        return sum(row["seen"] - row["began"] for row in self._rows)
