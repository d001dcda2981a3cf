"""Where a new run begins that does not begin at random: with the averaged weights of another run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vdit.adapters.lora import A
from vdit.first_few import first_few
from vdit.train.checkpoint import NAME, Checkpoint, Checkpoints
from vdit.train.manifest import MANIFEST
from vdit.train.run_folder import RunFolder
from vdit.types import InputError
from vdit.weights.files import digest
from vdit.weights.foreign import only_prefix
from vdit.weights.source import WeightSource, open_weights

__all__ = ["Start", "pinned_start", "run_of"]


@dataclass(frozen=True)
class Start:
    """A checkpoint of another run.

    Attributes:
        run: its folder.
        checkpoint: whose averaged weights are taken.
    """

    run: RunFolder
    checkpoint: Checkpoint

    @classmethod
    def of(cls, path: Path) -> "Start":
        """Of a run's folder, at its last checkpoint, or of the folder of one of its checkpoints.

        Raises:
            InputError: there is no run or no checkpoint, or not any more.
        """
        run = run_of(path)
        if not run.config.is_file():
            raise InputError(
                f"start_from is {path}, and no run is there: give the folder of a run, or put back the one "
                "that this run began with, or a link to it"
            )
        if path == run.path:
            checkpoint = Checkpoints(run.checkpoints, keep=1).latest()
            if checkpoint is None:
                raise InputError(f"start_from is {path}, which has no checkpoint yet: train it first")
            return cls(run, checkpoint)
        found = NAME.fullmatch(path.name)
        if found is None or not (path / MANIFEST).is_file():
            there = ", ".join(str(c.path) for c in Checkpoints(run.checkpoints, keep=1).all())
            raise InputError(
                f"start_from is {path}, which is no whole checkpoint: there are {there or 'none'} "
                "(loop.keep and loop.keep_every of a run say which of them stay)"
            )
        return cls(run, Checkpoint(path, int(found[1])))

    @property
    def facts(self) -> dict[str, Any]:
        """Which run, step and content, for the records of the run that begins here."""
        sha256 = digest(self.checkpoint.path / MANIFEST)
        return {"run": str(self.run.path), "step": self.checkpoint.step, "sha256": sha256}

    def prefix(self, prefix: str) -> str:
        """The same where any of the averaged weights has a name that begins so, else nothing."""
        names = open_weights(self.checkpoint.average).entries()
        return prefix if any(name.startswith(prefix) for name in names) else ""

    def part(self, prefix: str) -> WeightSource:
        """The averaged weights whose names begin so, without that beginning."""
        return only_prefix(open_weights(self.checkpoint.average), prefix)

    def whole(self, module: nn.Module, prefix: str = "") -> dict[str, WeightSource]:
        """Where each of the weights is read: the averaged ones, and those that are not trained."""
        average = self.part(prefix)
        found = dict.fromkeys(average.entries(), average)
        still = {n for n, p in module.named_parameters() if not p.requires_grad and n not in found}
        if still and self.checkpoint.weights.is_file():
            kept = only_prefix(open_weights(self.checkpoint.weights), prefix)
            found |= dict.fromkeys((name for name in kept.entries() if name in still), kept)
        return found

    def require(self, module: nn.Module, prefix: str = "") -> None:
        """Raises InputError where the weights have other names or shapes than those of a module."""
        theirs = {
            name: tuple(source.entries()[name].shape) for name, source in self.whole(module, prefix).items()
        }
        if any(name.endswith(A) for name in theirs):
            raise InputError(
                f"{self.run.path} trained a LoRA, which is no whole model: write one by `python -m vdit "
                f"export --from {self.run.path} --to DIR`, and begin by --task.init_args DIR/model.yaml"
            )
        own = {name: tuple(p.shape) for name, p in module.named_parameters()}
        if not own.keys() & theirs.keys():
            raise InputError(
                f"{self.run.path} trained something else: none of its tensors has a name of this model. "
                "A codec begins with a run of a codec, a text-to-video model with one of its kind"
            )
        names = [name for name in {**own, **theirs} if own.get(name) != theirs.get(name)]
        if names:
            differ = [
                f"{name} is {_shape(theirs, name)} there and {_shape(own, name)} here" for name in names
            ]
            told = first_few(differ, most=3, between="; ")
            raise InputError(
                f"the weights of {self.run.path} do not fit this configuration: {len(names)} tensors differ "
                f"({told}): take the sizes of {self.run.config}"
            )

    @torch.no_grad()
    def load(self, module: nn.Module, prefix: str = "") -> None:
        """Put the weights into a module, one by one; on `meta` none is read.

        Raises:
            InputError: they do not fit it, or a file is damaged.
        """
        self.require(module, prefix)
        sources, verified = self.whole(module, prefix), False
        for name, value in module.named_parameters():
            if not value.is_meta:
                if not verified:
                    self.checkpoint.verify()
                    verified = True
                value.copy_(sources[name].tensor(name))


def pinned_start(asked: Path, recorded: Path | None) -> Path:
    """The very checkpoint that a run begins with, or has begun with.

    Args:
        asked: the folder of a run, or of a checkpoint.
        recorded: what the run's folder says, where it goes on: this need not be there any more.

    Raises:
        InputError: as `Start.of` does.
    """
    if run_of(asked).path != asked:  # a checkpoint: whether it is there is asked where it is needed
        return asked.absolute()
    if recorded is not None and run_of(recorded).path.absolute() == asked.absolute():
        return recorded
    return Start.of(asked).checkpoint.path.absolute()


def run_of(path: Path) -> RunFolder:
    """The run whose folder, or whose checkpoint, a path names."""
    return RunFolder(path.parent.parent if path.parent.name == "checkpoints" else path)


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return "x".join(map(str, shapes[name])) or "a number" if name in shapes else "absent"
