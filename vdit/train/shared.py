"""A run to give to others: what sampling and scoring need of it, and nothing to train it further with."""

import shutil
from pathlib import Path

import torch
from torch import Tensor

from vdit.codecs.folder import DESCRIPTION, TRAINING, WEIGHTS, holds_codec
from vdit.train.checkpoint import Checkpoint, Checkpoints
from vdit.train.manifest import seal
from vdit.train.run_folder import RunFolder
from vdit.types import InputError
from vdit.weights.files import disk_refusal, save_tensors
from vdit.weights.source import open_weights

__all__ = ["share_run"]


def share_run(run: Path, out: Path, dtype: torch.dtype = torch.float16) -> Checkpoint:
    """Write a run's folder again with the averaged weights of its last checkpoint alone.

    Args:
        run: folder of a run.
        out: a folder that does not exist; it appears whole or not at all.
        dtype: of the weights, those of the codec too.

    Raises:
        InputError: no run, no checkpoint, a damaged one, a folder that is there, or a full disk.
    """
    folder = RunFolder(run).require()
    checkpoint = Checkpoints(folder.checkpoints, keep=1).latest()
    if checkpoint is None:
        raise InputError(f"{run} has no checkpoint yet: train it first")
    if out.exists():
        raise InputError(f"{out} is there already: give another --to")
    checkpoint.verify()
    aside = RunFolder(out.with_name(f".writing_{out.name}"))
    shutil.rmtree(aside.path, ignore_errors=True)
    try:
        place = aside.checkpoints / checkpoint.path.name
        place.mkdir(parents=True)
        save_tensors(_as(dtype, checkpoint.average), Checkpoint(place, checkpoint.step).average)
        shutil.copyfile(checkpoint.path / "progress.json", place / "progress.json")
        seal(place, checkpoint.step)
        for file in (folder.config, folder.metrics, folder.path / "provenance.json"):
            if file.is_file():
                shutil.copyfile(file, aside.path / file.name)
        if holds_codec(folder.codec):
            aside.codec.mkdir()
            save_tensors(_as(dtype, folder.codec / WEIGHTS), aside.codec / WEIGHTS)
            for name in (TRAINING, DESCRIPTION):
                if (folder.codec / name).is_file():
                    shutil.copyfile(folder.codec / name, aside.codec / name)
        aside.path.rename(out)
    except OSError as error:
        shutil.rmtree(aside.path, ignore_errors=True)
        raise disk_refusal(error, out, "Nothing was written.") from error
    return Checkpoint(out / "checkpoints" / checkpoint.path.name, checkpoint.step)


def _as(dtype: torch.dtype, file: Path) -> dict[str, Tensor]:
    """The tensors of a file in another precision, of which they are read one by one."""
    return {
        name: v.to(dtype, copy=True) if v.is_floating_point() else v.clone()
        for name, v in open_weights(file).tensors()
    }
