"""A folder becomes the folder of a run: locked, told which configuration, and asked which clips."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from vdit.data.mixture import parts_of
from vdit.data.sources import VideoSource
from vdit.parallel.engine import Engine
from vdit.train.checkpoint import Checkpoint, Checkpoints
from vdit.train.clip_record import Record
from vdit.train.lock import locked
from vdit.train.reading import UnreadableClips, read_unreadable
from vdit.train.run_clips import RunClips, recognised
from vdit.train.task import Data, Session, Task
from vdit.types import InputError
from vdit.weights.files import DiskError

__all__ = ["Claimed", "Command", "agreed", "claim"]

EARLIER = (
    "note: the run has no record of its clips, as those of earlier versions, which read videos 1 to 2 levels "
    "darker, and HDR, interlaced frames and pixels that are not square otherwise: from here on as now"
)
"""Said of a run that goes on without a record."""


@dataclass(frozen=True)
class Command:
    """What a command asks of the folder of a run.

    Attributes:
        config: the resolved configuration.
        recorded: the one that the folder has, as it is told today; None of a new run.
        accept: whether clips that have changed will do.
        dry: whether the folder stays as it is, and free for others.
    """

    config: str
    recorded: str | None = None
    accept: bool = False
    dry: bool = False


@dataclass(frozen=True)
class Claimed:
    """What a run finds in its folder.

    Attributes:
        clips: those that it counts.
        latest: what it goes on from; None at the start.
    """

    clips: RunClips
    latest: Checkpoint | None


def claim(
    session: Session, task: Task, checkpoints: Checkpoints, command: Command, held: ExitStack
) -> Claimed:
    """Make the folder this run's alone, until `held` is closed; the first process does, all are told.

    Args:
        session: of this process.
        task: what is trained.
        checkpoints: of the run. The first process chooses one: a shared disk may show others an older state.
        command: what is asked of the folder.
        held: what the run gives back at its end.

    Raises:
        InputError: a folder of another run, or one that is worked on, or was given to others to sample from;
            clips that have changed; processes that do not see the same clips, or what was chosen.
        DiskError: the disk failed for a reason that may pass.
    """
    engine = session.engine
    text = agreed(engine, lambda: _claim(session, task, checkpoints, command, held))
    prints = engine.gathered([session.data.train.fingerprint])
    if other := [rank for rank, said in enumerate(prints) if said != prints[0]]:
        raise InputError(
            f"rank {other[0]} sees other training clips than rank 0: give all processes the same files"
        )
    clips, step = json.loads(text)
    return Claimed(RunClips.from_json(clips), None if step is None else checkpoints.seen(step))


def agreed(engine: Engine, work: Callable[[], str | None]) -> str:
    """What the first process makes of something, on all of them; what it refuses, all refuse in its words."""
    told: list[str] = []
    if engine.main:
        try:
            told = ["", work() or ""]
        except (InputError, DiskError) as error:
            told = [type(error).__name__, str(error)]
    refused, said = engine.gathered(told)
    if refused:
        raise (DiskError if refused == DiskError.__name__ else InputError)(said)
    return said


def _has_no_files(data: Data) -> bool:
    """Whether no clip is out of a file."""
    parts = (*parts_of(data.train), *parts_of(data.held_out))
    return not any(isinstance(part, VideoSource) for part in parts)


def _claim(session: Session, task: Task, checkpoints: Checkpoints, command: Command, held: ExitStack) -> str:
    config, recorded, accept = command.config, command.recorded, command.accept
    folder, data = session.folder, session.data
    if not command.dry:
        folder.check(config, recorded, accept)
        held.enter_context(locked(folder.path))
    if (latest := checkpoints.latest()) is not None:  # asked while nobody else can add one
        latest.require_weights()
    task.require_own(folder)
    record, unreadable = Record(folder.clips), read_unreadable(folder.unreadable)
    found = recognised(record, data, unreadable, accept)
    for line in found.changed:
        session.console.print(f"changed: {line}", markup=False, soft_wrap=True)
    if recorded is not None and not found.clips.known and not _has_no_files(data):
        session.console.print(EARLIER, markup=False, soft_wrap=True)
    if not command.dry:
        folder.claim(config, recorded, accept)
        if found.record is not None:
            record.write(found.record)
        if found.clips.unreadable != tuple(unreadable):
            UnreadableClips(folder.unreadable, found.clips.unreadable, 0, 0).write()
    return json.dumps([found.clips.to_json(), None if latest is None else latest.step])
