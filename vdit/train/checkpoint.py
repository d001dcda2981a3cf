"""Checkpoints: a folder written aside, its manifest last, then renamed into place.

A reader finds a whole checkpoint or none. Tensors are safetensors, all else is JSON. Processes share the
verifying of one, and each reads what it will hold.
"""

import json
import re
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from vdit.train.manifest import MANIFEST, read_manifest, share
from vdit.train.saving import LOOK_EVERY, Saved, Saving, Writers
from vdit.train.snapshot import Snapshot
from vdit.train.state import TrainState
from vdit.types import InputError
from vdit.weights.files import ASIDE, DiskError, load_weights
from vdit.weights.source import open_weights

__all__ = ["Checkpoint", "Checkpoints", "Stuck"]

NAME = re.compile(r"step_(\d{8})")

PATIENCE = 120.0
"""Seconds that a process waits to see what another wrote: twice what a shared disk may show an old state."""

UNREAD, NO_MANIFEST = sys.maxsize, sys.maxsize - 1
"""What is worse of a checkpoint than any piece that is not as stated; what cannot be read is told first."""

GIVEN_UP = 3
"""Times the patience of writers, after which nobody waits for a save: who can lose it has by then."""


class Stuck(DiskError):
    """A save that does not come to an end, for a disk does not answer."""


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment of a run.

    Attributes:
        path: its folder.
        step: steps done when it was saved.
    """

    path: Path
    step: int

    @property
    def weights(self) -> Path:
        """What training left."""
        return self.path / "model.safetensors"

    @property
    def average(self) -> Path:
        """The exponential moving average: what to sample from."""
        return self.path / "ema.safetensors"

    def verify(self, by: Writers | None = None) -> None:
        """Compare all files with the manifest: every process its share of the pieces, all of them together.

        Args:
            by: which processes; None is this one alone.

        Raises:
            InputError: naming the first file that differs, the same on every process.
            DiskError: a process cannot read its share, which says nothing of what is there.
        """
        by, stated, unread = by or Writers(), [], None
        try:
            stated = read_manifest(self.path)
            own = share(list(enumerate(stated)), by.rank, by.world)
            wrong = next((n for n, piece in own if not piece.holds(self.path)), len(stated))
            damage = len(stated) - wrong  # the earlier the more
        except ValueError:
            damage = NO_MANIFEST
        except OSError as error:
            damage, unread = UNREAD, error
        worst = by.agreement.now(damage)
        if worst == UNREAD:
            whose = f"rank {by.rank} cannot read it: {unread}" if unread else "another process cannot read it"
            raise DiskError(
                f"checkpoint {self.path} cannot be verified, and may be whole: {whose}. Look at the disk "
                "and at how the machine that says so reaches it; the same command goes on"
            ) from unread
        if worst:
            name = stated[-worst].piece.file if worst <= len(stated) else MANIFEST
            raise InputError(
                f"checkpoint file {self.path / name} is damaged or missing: delete {self.path} to fall back"
            )

    def require_weights(self) -> None:
        """Raises InputError for one that was given to others to sample from."""
        if not self.weights.is_file():
            raise InputError(f"{self.path} is for sampling: it holds nothing to go on training with")

    def require_state(self, by: Writers | None = None) -> None:
        """Refuse one that training cannot go on from: given to others, old, or damaged (see `verify`)."""
        self.require_weights()
        if (self.path / "optimizer.pt").is_file():
            raise InputError(
                f"{self.path} has its optimiser in optimizer.pt, as earlier versions of vdit wrote it: go on "
                "with the version that began the run, or give another --out"
            )
        self.verify(by)

    def load(self, module: nn.Module, borrowed: Set[str] = frozenset()) -> None:
        """Put the weights back, before a module is set up. Raises InputError if they are not the module's."""
        load_weights(module, self.weights, borrowed)

    def load_average(self, module: nn.Module, borrowed: Set[str] = frozenset()) -> None:
        """Put the average in the place of the weights, tensor by tensor; of buffers there is none.

        Raises:
            InputError: it is missing or damaged, or its names or shapes are not those of the weights.
        """
        load_weights(module, self.average, borrowed | {name for name, _ in module.named_buffers()})

    def restore(self, state: TrainState) -> None:
        """Put everything but the weights back as it was saved. Raises InputError if a file cannot be read."""
        state.ema.load(open_weights(self.average))
        settings = json.loads((self.path / "optimizer.json").read_text())
        state.stepper.load_optimizer_state(settings, open_weights(self.path / "optimizer.safetensors"))
        progress = json.loads((self.path / "progress.json").read_text())
        state.step, state.seconds = progress["step"], progress["seconds"]
        state.position = progress["position"]


class Checkpoints:
    """The checkpoints of one run.

    Entered, it does not leave a save under way: the last one is waited for, and after a ctrl-C its copy.

    Args:
        folder: where they live.
        keep: how many of the newest to keep.
        keep_every: of older ones, those of every so many steps stay too; 0 keeps none.
        writers: who writes them together.
        background: whether a save goes on, of a copy, while training goes on.
        writes: whether anything is written at all.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        keep_every: int = 0,
        writers: Writers | None = None,
        background: bool = False,
        writes: bool = True,
    ) -> None:
        self.folder, self.keep, self.keep_every = folder, keep, keep_every
        self.writers, self.background, self.writes = writers or Writers(), background, writes
        self._snapshot, self._attempts = Snapshot(), 0
        self._under_way: Background | None = None

    def all(self) -> list[Checkpoint]:
        """Whole checkpoints, oldest first; folders without a manifest are remains and do not count."""
        found = [(NAME.fullmatch(p.name), p) for p in self.folder.glob("step_*")]
        whole = [Checkpoint(p, int(m[1])) for m, p in found if m and (p / MANIFEST).is_file()]
        return sorted(whole, key=lambda checkpoint: checkpoint.step)

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint."""
        return next(reversed(self.all()), None)

    def seen(self, step: int, patience: float = PATIENCE) -> Checkpoint:
        """The whole checkpoint of a step, as another process sees it. Raises InputError if it never comes."""
        path, deadline = self.folder / f"step_{step:08d}", time.monotonic() + patience
        while not (path / MANIFEST).is_file():
            if time.monotonic() > deadline:
                raise InputError(
                    f"rank {self.writers.rank} does not see {path}, which rank 0 goes on from: give --out a "
                    "folder that all nodes share"
                )
            time.sleep(1)
        return Checkpoint(path, step)

    def save(self, state: TrainState) -> None:
        """Save `state`, then forget the oldest; all ranks together. The save before is waited for.

        In the background, the state is copied while training goes on: call `settle` before it changes.

        Raises:
            InputError: the disk is full, for this save or the one before; what was there before is untouched.
            DiskError: the same, where the disk failed for a reason that may pass.
        """
        self.wait()
        final = self.folder / f"step_{state.step:08d}"
        if not self.writes or (final / MANIFEST).is_file():
            return
        self._attempts += 1
        saved = Saved.of(state, main=self.writers.rank == 0)
        if self.background:
            saved = saved.copied(self._snapshot)
        saving = Saving(final, self._attempts, self.writers, self._snapshot.fill)
        self._under_way = Background(saving, lambda: self._carry_out(saving, saved))
        if not self.background:
            try:
                self.wait()
            except BaseException:  # a second ctrl-C: the state that the thread reads may now change
                saving.abandon()
                raise

    def settle(self) -> None:
        """Wait until the state that was saved may change: nobody reads it any longer."""
        if self._under_way is not None and self.background:
            self._snapshot.settle()

    def wait(self) -> None:
        """Wait for the save under way, if there is one; all ranks together.

        Raises:
            InputError, DiskError: as `save` does.
            RuntimeError: another process has gone.
            Stuck: a disk does not answer, on any process.
        """
        deadline = time.monotonic() + GIVEN_UP * self.writers.patience
        while self._under_way is not None:
            late = time.monotonic() > deadline
            worst = self.writers.agreement.now(self._under_way.goes_on * (1 + late))
            if worst == 0:
                break
            if worst > 1:
                stuck, self._under_way = self._under_way, None  # nobody can end it, so nobody waits for it
                raise Stuck(stuck.told(self.writers.rank))
            self._under_way.join(LOOK_EVERY)
        self._finish()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.settle()  # also where nothing else is waited for: what follows may put other weights in place
        try:
            if kind is None:
                self.wait()
        except Exception:
            self._leave()
            raise
        if kind is not None and issubclass(kind, Exception):
            self._leave()

    def _leave(self) -> None:
        """Bring the save under way to its end if that can be: others may have gone, the disk not answer."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:  # what ends the run is told, not what follows from it
            under_way.saving.hurry()
            under_way.join(GIVEN_UP * self.writers.patience)

    def _finish(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _carry_out(self, saving: Saving, saved: Saved) -> None:
        saving.run(saved)
        if self.writers.rank == 0:
            self._forget()

    def _forget(self) -> None:
        """Remove the oldest. Each is first renamed: half of one would look like a damaged checkpoint.

        No run ends for one that stays: the next save tries again.
        """
        for old in self.all()[: -self.keep]:
            if self.keep_every and old.step % self.keep_every == 0:
                continue
            try:
                gone = old.path.rename(self.folder / f"{ASIDE}{old.path.name}_forgotten")
            except OSError as error:
                warnings.warn(f"an old checkpoint could not be removed: {error}", stacklevel=2)
            else:
                shutil.rmtree(gone, ignore_errors=True)  # what stays, the next save sweeps up


class Background:
    """A save in a thread, which ends with the process: so whoever waits for it can look at other things too.

    Args:
        saving: what is saved.
        work: does it.
    """

    def __init__(self, saving: Saving, work: Callable[[], None]) -> None:
        self.saving, self._work = saving, work
        self._error: BaseException | None = None
        self._over = threading.Event()  # a thread whose `join` was interrupted calls itself dead
        threading.Thread(target=self._run, name="saving", daemon=True).start()

    @property
    def goes_on(self) -> bool:
        """Whether it has not come to its end."""
        return not self._over.is_set()

    def told(self, rank: int) -> str:
        """What a process says that does not wait for this save any longer."""
        own = "still writes its part" if self.goes_on else "has written its part, another process has not"
        return (
            f"saving {self.saving.final} does not end: rank {rank} {own}. The disk does not answer; no "
            "checkpoint was harmed, and the same command goes on from the last one"
        )

    def join(self, seconds: float) -> None:
        """Wait for the end of it, for so long at most."""
        self._over.wait(seconds)

    def result(self) -> None:
        """Wait for the end of it. Raises what it raised."""
        self._over.wait()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()
