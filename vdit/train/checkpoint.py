"""Checkpoints: a folder written aside, its manifest last, then renamed into place.

A reader finds a whole checkpoint or none. Weights are safetensors; optimiser state is a torch file,
read with `weights_only=True`.
"""

import errno
import json
import re
import shutil
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vdit.train.state import TrainState
from vdit.types import InputError
from vdit.weights.files import digest, disk_refusal, load_weights, read_tensors, save_tensors, sync

__all__ = ["Checkpoint", "Checkpoints", "seal"]

MANIFEST = "manifest.json"
NAME = re.compile(r"step_(\d{8})")


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

    def verify(self) -> None:
        """Compare every file with the manifest. Raises InputError naming the first that differs."""
        try:
            files = json.loads((self.path / MANIFEST).read_text())["files"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.path / MANIFEST} is damaged: delete {self.path} to fall back") from error
        for name, stated in files.items():
            file = self.path / name
            if (
                not file.is_file()
                or file.stat().st_size != stated["bytes"]
                or digest(file) != stated["sha256"]
            ):
                raise InputError(
                    f"checkpoint file {file} is damaged or missing: delete {self.path} to fall back"
                )

    def require_state(self) -> None:
        """Refuse one that was given to others without what training goes on from. Raises InputError."""
        if not self.weights.is_file():
            raise InputError(f"{self.path} is for sampling: it holds nothing to go on training with")

    def load(self, module: nn.Module, borrowed: Set[str] = frozenset()) -> None:
        """Put the weights back, before a module is set up. Raises InputError if a file is damaged."""
        self.verify()
        load_weights(module, self.weights, borrowed)

    def restore(self, state: TrainState) -> None:
        """Put everything but the weights back as it was saved. Raises InputError if a file cannot be read."""
        state.ema.load(read_tensors(self.average))
        saved = torch.load(self.path / "optimizer.pt", map_location="cpu", weights_only=True)
        state.stepper.load_optimizer_state(saved)
        progress = json.loads((self.path / "progress.json").read_text())
        state.step, state.seconds = progress["step"], progress["seconds"]
        state.position = progress["position"]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they live.
        keep: how many of the newest to keep.
        keep_every: of older ones, those of every so many steps stay too; 0 keeps none.
        writes: whether this process writes; the others only read.
    """

    def __init__(self, folder: Path, keep: int, writes: bool = True, keep_every: int = 0) -> None:
        self.folder, self.keep, self.writes, self.keep_every = folder, keep, writes, keep_every

    def all(self) -> list[Checkpoint]:
        """Whole checkpoints, oldest first; folders without a manifest are remains and do not count."""
        found = [(NAME.fullmatch(p.name), p) for p in self.folder.glob("step_*")]
        whole = [Checkpoint(p, int(m[1])) for m, p in found if m and (p / MANIFEST).is_file()]
        return sorted(whole, key=lambda checkpoint: checkpoint.step)

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint."""
        return self.all()[-1] if self.all() else None

    def save(self, state: TrainState) -> None:
        """Save `state`, then forget the oldest; all ranks together.

        Raises:
            InputError: the disk is full; what was there before is untouched.
        """
        final = self.folder / f"step_{state.step:08d}"
        if (final / MANIFEST).is_file():
            return
        saved = Saved.of(state)
        if not self.writes:
            return
        aside = self.folder / f".writing_{final.name}"
        for remains in self.folder.glob(".writing_*"):
            shutil.rmtree(remains, ignore_errors=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write(aside, saved)
            shutil.rmtree(final, ignore_errors=True)
            aside.rename(final)
            sync(self.folder)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            remedy = "No checkpoint was harmed; start the same command again to go on from the last one."
            raise disk_refusal(error, self.folder, remedy) from error
        for old in self.all()[: -self.keep]:
            if not self.keep_every or old.step % self.keep_every:
                shutil.rmtree(old.path)


class Saved(NamedTuple):
    """What a checkpoint holds, in whole tensors.

    Attributes:
        module: weights and buffers.
        average: of the weights.
        optimizer: its state.
        progress: steps, seconds and the place in the data.
    """

    module: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    progress: Mapping[str, Any]

    @classmethod
    def of(cls, state: TrainState) -> "Saved":
        """All of a state, for the main rank; all ranks together, for each may hold a part of it."""
        own = {name: v for name, v in state.module.state_dict().items() if name not in state.borrowed}
        weights = state.ema.weights
        own |= weights.joined(weights.pieces())
        progress = {"step": state.step, "seconds": state.seconds, "position": dict(state.position)}
        return cls(own, state.ema.whole(), state.stepper.optimizer_state(), progress)


def write(folder: Path, saved: Saved) -> None:
    """Write every file of a checkpoint, flushed to disk, the manifest last."""
    folder.mkdir()
    save_tensors(saved.module, folder / "model.safetensors")
    save_tensors(saved.average, folder / "ema.safetensors")
    try:
        torch.save(dict(saved.optimizer), folder / "optimizer.pt")
    except RuntimeError as error:  # torch's writer hides which error of the system it met
        full = shutil.disk_usage(folder).free < 2**20
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error
    (folder / "progress.json").write_text(json.dumps(saved.progress, indent=1))
    seal(folder, saved.progress["step"])


def seal(folder: Path, step: int) -> None:
    """Flush every file of a checkpoint to disk, and state them all in its manifest."""
    names = sorted(p.name for p in folder.iterdir())
    files = {n: {"bytes": (folder / n).stat().st_size, "sha256": digest(folder / n)} for n in names}
    for name in names:
        sync(folder / name)
    (folder / MANIFEST).write_text(json.dumps({"step": step, "files": files}, indent=1))
    sync(folder / MANIFEST)
    sync(folder)
