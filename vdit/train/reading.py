"""Batches for a loop of several processes: all go on with the next one, or all leave.

A process that met a clip it cannot read says so before any computes with the batch: all write it down alike,
and none waits in an exchange for one that has left.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from vdit.data.loader import BatchLoader
from vdit.data.order import Position
from vdit.data.unreadable import Unreadable
from vdit.first_few import first_few
from vdit.parallel.agreement import Agreement
from vdit.parallel.engine import Engine
from vdit.types import ClipBatch, InputError
from vdit.weights.files import DiskError, disk_refusal, write_whole

__all__ = ["Reader", "Unread", "UnreadableClips"]

MET, FAILED = 1, 2
"""What a process says of its batch: a clip was replaced; there is none."""


class Unread(Exception):
    """There is no next batch, on any process; `error` says why, and weights are those of the last step."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class UnreadableClips:
    """The clips that a run does without, in a file of its folder.

    Args:
        file: a JSON list.
        known: those it did without so far.
        clips: of the whole run.
        share: of them that may be unreadable; those of any one video may, if it is above 0.
        of_a_video: tells the clips of the video that has most; asked where any clip is unreadable.
        writes: whether this process writes.
    """

    def __init__(
        self,
        file: Path,
        known: Iterable[Unreadable],
        clips: int,
        share: float,
        of_a_video: Callable[[], int] = lambda: 1,
        writes: bool = True,
    ) -> None:
        self.file, self.clips, self.writes = file, clips, writes
        self._share, self._of_a_video = share, of_a_video
        self.known = {one.clip: one for one in known}

    @cached_property
    def allowed(self) -> int:
        """How many may be unreadable."""
        return max(math.ceil(self._share * self.clips), self._of_a_video()) if self._share else 0

    def add(self, met: Iterable[Unreadable]) -> list[Unreadable]:
        """Write some down; those that were not known, in the order of the batches.

        Raises:
            InputError, DiskError: the disk does not let us.
        """
        fresh: list[Unreadable] = []
        for one in sorted(met, key=lambda one: (one.since, one.clip)):
            if one.clip not in self.known:
                self.known[one.clip] = one
                fresh.append(one)
        if fresh:
            self.write()
        return fresh

    def write(self) -> None:
        """Put what is known on the disk, whole or not at all. Raises as `add`."""
        if not self.writes:
            return
        try:
            write_whole(self.file, [json.dumps([asdict(one) for one in self.known.values()], indent=1), "\n"])
        except OSError as error:
            raise disk_refusal(error, self.file, "Clips cannot be left out untold.") from error

    @property
    def said(self) -> str:
        """How many clips the run does without."""
        return (
            f"{len(self.known)} of {self.clips} clips are left out, and others stand in their place; "
            f"data.max_unreadable allows {self.allowed} ({self.file})"
        )

    def require_few(self) -> None:
        """Raises InputError where more are unreadable than may be."""
        counted = [one for one in self.known.values() if not one.accepted]
        if not counted or len(counted) <= self.allowed:
            return
        told = first_few([f"{one.name}: {one.reason}" for one in reversed(counted)], between="; ")
        raise InputError(
            f"{len(counted)} of {self.clips} clips cannot be read ({told}), as {self.file} tells, and "
            f"data.max_unreadable lets a run do without {self.allowed}. Mend the files, or give a higher "
            "--data.max_unreadable"
        )


def read_unreadable(file: Path) -> list[Unreadable]:
    """What an earlier session wrote down; nothing, where there is no such file.

    Raises:
        InputError: the file is damaged.
    """
    if not file.is_file():
        return []
    try:
        return [unreadable_of(row) for row in json.loads(file.read_text())]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} is damaged ({error}): it names the clips that the run does without. Delete it to have "
            "them asked for again"
        ) from error


def unreadable_of(row: Mapping[str, Any]) -> Unreadable:
    """One as it stands in a file. Raises KeyError, TypeError."""
    return Unreadable(**{**row, "since": Position(**row["since"])})


class Reader:
    """The batches of a loader, an agreement of all processes on each.

    Args:
        loader: of this process.
        engine: of all of them.
        unreadable: what is known so far; the loader is told.
        tell: says something to a person.
    """

    def __init__(
        self, loader: BatchLoader, engine: Engine, unreadable: UnreadableClips, tell: Callable[[str], None]
    ) -> None:
        self._loader, self._engine, self._unreadable, self._tell = loader, engine, unreadable, tell
        self._agreement = Agreement(engine.mesh.world, engine.parallel.patience)
        loader.do_without(unreadable.known.values())

    def __next__(self) -> ClipBatch:
        """The next batch. Raises Unread."""
        batch, failed = None, None
        try:
            batch = next(self._loader)
        except Exception as error:  # whatever it is, the others must hear of it before they compute
            failed = error
        met = self._loader.met()
        self._engine.watchdog.now("waiting for another rank's clips")
        worst = self._agreement.now(FAILED if failed else MET if met else 0)
        if worst:
            self._settle(met, failed)
        assert batch is not None  # or all would have left
        return batch

    def state_dict(self) -> dict[str, int]:
        """See `BatchLoader.state_dict`."""
        return self._loader.state_dict()

    def _settle(self, met: list[Unreadable], failed: Exception | None) -> None:
        """Have all know what one has met. Raises Unread where they cannot go on."""
        rows = self._engine.gathered([json.dumps(asdict(one)) for one in met])
        try:
            fresh = self._unreadable.add(unreadable_of(json.loads(row)) for row in rows)
            self._loader.do_without(fresh)
            for one in fresh:
                self._tell(f"left out from here on: {one.name}: {one.reason}")
            if fresh:
                self._tell(self._unreadable.said)
            self._unreadable.require_few()
        except (InputError, DiskError) as error:
            failed = failed or error
        self._leave_if(failed)

    def _leave_if(self, failed: Exception | None) -> None:
        """Raises Unread on all processes if one has failed, in its words."""
        own: list[str] = []
        if failed is not None:
            whose = f"{self._engine.name}: " if isinstance(failed, DiskError) else ""
            own = [_kind(failed), f"{whose}{failed}"]
        told = self._engine.gathered(own)
        if told and failed is not None and _kind(failed) == OTHER:
            raise Unread(failed)  # with its own traceback
        if told:
            raise Unread(KINDS[told[0]](told[1]))


OTHER = "other"
KINDS: Mapping[str, type[Exception]] = {"input": InputError, "disk": DiskError, OTHER: RuntimeError}


def _kind(error: Exception) -> str:
    return next((kind for kind in ("input", "disk") if isinstance(error, KINDS[kind])), OTHER)
