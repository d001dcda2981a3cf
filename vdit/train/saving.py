"""One checkpoint on its way to the disk: every process writes its own part, the main one makes it whole.

Processes talk through files alone, in a folder that all of them see, so all of this may run in a thread
beside training. One that has written its part leaves a word. When all have, the main one says how long the
files are; each process then leaves the digests of its share of their pieces, which the main one states in the
manifest, and renames the folder into place. One that fails leaves a note of what it met, which ends the save
for all.
"""

import json
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vdit.parallel.agreement import Agreement
from vdit.train.manifest import MANIFEST, pieces_of, share, write_manifest
from vdit.train.snapshot import Snapshot
from vdit.train.state import TrainState
from vdit.types import InputError
from vdit.weights.files import ASIDE, DiskError, disk_refusal, sync
from vdit.weights.slices import Layout, Slice, entry_of, whole_slice
from vdit.weights.source import Entry

__all__ = ["LOOK_EVERY", "Part", "Saved", "Saving", "Writers"]

DONE, SIZES, DIGESTS = "done", "sizes", "digests"
"""What processes say on the way: a part is on the disk; all parts are; a share of the whole is digested."""

PASSES, STAYS = "may pass", "must be mended"
"""The first line of a note: whether the same command may go well as it is."""

REMEDY = "No checkpoint was harmed; start the same command again to go on from the last one."

LOOK_EVERY, LOOK_LATER = 0.02, 0.5
"""Seconds between looks for what another process leaves: at first, and once it takes long."""

HURRIED = 20.0
"""Seconds that a process which ends with an error waits for the parts of others."""


@dataclass(frozen=True)
class Writers:
    """Who writes a checkpoint together, and verifies one.

    Attributes:
        rank: of this process; 0 makes the checkpoint whole.
        world: how many they are.
        session: a word that they all have and no earlier session had: a drawn one, given to several.
        agreement: between them, for nothing else.
        patience: seconds that rank 0 waits for others after its own part, each time that it does. They wait
            for it twice as long, so that the one who knows names who is missing.
    """

    rank: int = 0
    world: int = 1
    session: str = field(default_factory=partial(secrets.token_hex, 4))
    agreement: Agreement = field(default_factory=partial(Agreement, 1))
    patience: float = 1800.0


class Part(NamedTuple):
    """What this process writes of a file.

    Attributes:
        entries: every tensor of the whole file.
        slices: its own of them.
    """

    entries: Mapping[str, Entry]
    slices: Sequence[Slice]


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds, as far as this process has it.

    Attributes:
        tensors: files of tensors by name.
        values: files of plain values by name; the same on every process.
        step: steps done.
    """

    tensors: Mapping[str, Part]
    values: Mapping[str, Any]
    step: int

    @classmethod
    def of(cls, state: TrainState, main: bool) -> "Saved":
        """A state as it is; nothing is copied but buffers, which a forward pass may change."""
        weights, optimizer = state.ema.weights, state.stepper.optimizer_state()
        trained = weights.entries()
        kept = state.module.state_dict()
        rest = {n: v for n, v in kept.items() if n not in trained and n not in state.borrowed}
        rest |= {n: v.clone() for n, v in state.module.named_buffers() if n in rest}
        entries = {name: entry_of(value) for name, value in rest.items()} | trained
        slices = [whole_slice(name, value) for name, value in rest.items()] if main else []
        tensors = {
            "model.safetensors": Part(entries, slices + weights.slices(weights.pieces())),
            "ema.safetensors": Part(state.ema.entries(), state.ema.slices()),
            "optimizer.safetensors": Part(optimizer.entries, optimizer.slices),
        }
        progress = {"step": state.step, "seconds": state.seconds, "position": dict(state.position)}
        return cls(tensors, {"optimizer.json": optimizer.settings, "progress.json": progress}, state.step)

    def copied(self, snapshot: Snapshot) -> "Saved":
        """The same, whatever becomes of the state once the snapshot has settled."""
        snapshot.begin()
        copies = {n: Part(p.entries, snapshot.copied(p.slices)) for n, p in self.tensors.items()}
        snapshot.start()
        return replace(self, tensors=copies)


@dataclass
class Saving:
    """A checkpoint that is being written.

    Attributes:
        final: the folder it becomes.
        attempt: counts the saves of this session, the same on every process.
        writers: who they are.
        ready: called before all else; it returns when the tensors can be read.
    """

    final: Path
    attempt: int
    writers: Writers
    ready: Callable[[], object] = lambda: None
    _latest: float = field(default=float("inf"), init=False)
    _abandoned: bool = field(default=False, init=False)

    @property
    def aside(self) -> Path:
        """Where it is written."""
        return self.final.with_name(f"{ASIDE}{self.final.name}_{self.writers.session}_{self.attempt}")

    def run(self, saved: Saved) -> None:
        """Write this process's part; return when the checkpoint is whole.

        Raises:
            InputError: the disk is full, or refuses something else, to this process or another; one that is
                not done in time. What was there before is untouched.
            DiskError: the disk failed one of them for a reason that may pass.
        """
        try:
            self._write(saved)
            self._complete(saved) if self._main else self._follow()
        except OSError as error:
            if self._note.is_file():  # another failed before, and the main one has removed the folder
                raise self._told() from error
            refusal = disk_refusal(error, self.final.parent, REMEDY)
            self._give_up(refusal)
            raise refusal from error
        except Exception as error:
            self._give_up(error)
            raise

    def hurry(self) -> None:
        """Wait for others for little longer: this process ends with an error, and they may have, too."""
        self._latest = min(self._latest, time.monotonic() + HURRIED)

    def abandon(self) -> None:
        """Let it not become a checkpoint, if it is none yet: what it is made of is no longer what it was."""
        self._abandoned = True

    @property
    def _note(self) -> Path:
        """What a process that failed leaves: beside the folder, which the main one removes."""
        return self.aside.with_name(f"{self.aside.name}.failed")

    @property
    def _words(self) -> Path:
        """Where processes leave words to each other."""
        return self.aside / "words"

    @property
    def _main(self) -> bool:
        return self.writers.rank == 0

    def _write(self, saved: Saved) -> None:
        self.ready()
        if self._main:
            sweep(self.final.parent, self.aside.name)
        self._words.mkdir(parents=True, exist_ok=True)
        for name, part in saved.tensors.items():
            if part.slices or self._main:
                Layout(part.entries).write(self.aside / name, part.slices, header=self._main)

    def _complete(self, saved: Saved) -> None:
        """Wait for the parts of others, and put the whole in its place."""
        for name, value in saved.values.items():
            (self.aside / name).write_text(json.dumps(value, indent=1))
        self._heard(DONE, [])
        names = sorted([*saved.tensors, *saved.values])
        sizes = {name: (self.aside / name).stat().st_size for name in names}
        self._say(SIZES, sizes)
        own = self._digested(sizes)
        digests = [""] * len(pieces_of(sizes))
        for rank, theirs in enumerate(self._heard(DIGESTS, own)):
            digests[rank :: self.writers.world] = theirs
        shutil.rmtree(self._words)
        write_manifest(self.aside, saved.step, sizes, digests)
        self._insist()
        shutil.rmtree(self.final, ignore_errors=True)  # without a manifest it is no checkpoint
        self.aside.rename(self.final)
        sync(self.final.parent)

    def _follow(self) -> None:
        """Say that this part is there, digest a share of the whole, and wait for it to be a checkpoint."""
        self._insist()
        self._say(DONE, [])
        sizes = self._words / f"{SIZES}_0"
        self._wait(lambda: [] if sizes.is_file() else [0])
        self._say(DIGESTS, self._digested(json.loads(sizes.read_text())))
        self._wait(lambda: [] if (self.final / MANIFEST).is_file() else [0])

    def _digested(self, sizes: Mapping[str, int]) -> list[str]:
        """The digests of this process's share of all pieces."""
        own = share(pieces_of(sizes), self.writers.rank, self.writers.world)
        return [piece.digest(self.aside) for piece in own]

    def _say(self, word: str, what: Any) -> None:
        """Leave a word to others, all of it at once."""
        draft = self._words / f"{ASIDE}{word}_{self.writers.rank}"
        draft.write_text(json.dumps(what))
        draft.rename(self._words / f"{word}_{self.writers.rank}")

    def _heard(self, word: str, own: Any) -> list[Any]:
        """What every rank says, this one `own`, once all others have said it."""
        said = {rank: self._words / f"{word}_{rank}" for rank in range(1, self.writers.world)}
        self._wait(lambda: [rank for rank, file in said.items() if not file.is_file()])
        return [own, *(json.loads(file.read_text()) for file in said.values())]

    def _insist(self) -> None:
        # Asked after the last byte: what was read before the answer was read in time.
        if self._abandoned:
            raise InputError(f"saving {self.final} was given up when the process was interrupted. {REMEDY}")

    def _wait(self, missing: Callable[[], Sequence[int]]) -> None:
        """Until no rank is missing. Raises InputError if one leaves a note, or is not done in time."""
        deadline = time.monotonic() + self.writers.patience * (1 if self._main else 2)
        pause = LOOK_EVERY
        while late := missing():
            if self._note.is_file():
                raise self._told()
            if time.monotonic() > min(deadline, self._latest):
                ranks = ", ".join(map(str, late))
                raise InputError(
                    f"{self.aside} is not complete: rank {self.writers.rank} waited for rank {ranks} in "
                    f"vain. Look at its messages, and whether all processes see {self.final.parent}. {REMEDY}"
                )
            time.sleep(pause)
            pause = min(1.1 * pause, LOOK_LATER)

    def _told(self) -> InputError | DiskError:
        """What the note says, as the one that failed met it."""
        kind, said = self._note.read_text().split("\n", 1)
        return (DiskError if kind == PASSES else InputError)(said)

    def _give_up(self, error: Exception) -> None:
        """Leave a note for the others, and nothing else."""
        if self.writers.world > 1 and not self._note.exists():
            draft = self._note.with_suffix(f".failing_{self.writers.rank}")
            with suppress(OSError):  # where not even this can be written, the others lose their patience
                kind = PASSES if isinstance(error, DiskError) else STAYS
                draft.write_text(f"{kind}\nrank {self.writers.rank} could not save its part: {error}")
                draft.rename(self._note)
        if self._main:
            shutil.rmtree(self.aside, ignore_errors=True)


def sweep(folder: Path, current: str) -> None:
    """Remove what killed and failed saves left, all but what belongs to the current one."""
    for remains in folder.glob(f"{ASIDE}*"):
        if remains.name.startswith(current):
            continue
        if remains.is_dir():
            shutil.rmtree(remains, ignore_errors=True)
        else:
            remains.unlink(missing_ok=True)
