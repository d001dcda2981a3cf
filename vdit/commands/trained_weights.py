"""What a run made of the transformers of an imported model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vdit.codecs.folder import holds_codec
from vdit.commands.run_weights import RunWeights
from vdit.releases.take_in import DESCRIPTION
from vdit.train.run_folder import RunFolder
from vdit.types import InputError
from vdit.weights.source import WeightSource, open_weights

__all__ = ["TrainedModel", "refuse_unchanged_codec", "trained_weights"]


@dataclass(frozen=True)
class TrainedModel:
    """An imported model, and what a run trained of it.

    Attributes:
        folder: of the model.
        weights: those that the run gave some of its transformers, by role; none where there was no run.
    """

    folder: Path
    weights: Mapping[str, WeightSource]


def trained_weights(path: Path) -> TrainedModel:
    """The imported model behind a folder: the folder itself, or what the run in it began with.

    A run that trained one of two experts gives that one; the other stays as it was imported.

    Raises:
        InputError: the folder holds neither a model nor a run that began with one, the model is not there any
            more, or the run changed nothing of it.
    """
    if (path / DESCRIPTION).is_file():
        return TrainedModel(path, {})
    if not RunFolder(path).config.is_file():
        raise InputError(f"{path} holds no codec, no run and no model that was taken in")
    run = RunWeights.of(path)
    folders = _folders(run)
    # A transformer alone is a whole model or one of its experts: that is what its folder is called.
    names = {role: role if len(folders) > 1 else folder.name for role, folder in folders.items()}
    model = _model(path, list(names.values()), next(iter(folders.values())).parent)
    changed: dict[str, WeightSource] = {}
    for role, folder in folders.items():
        # Weights that were trained are compared at the precision they were read in, which alone changes none.
        read_as = getattr(torch, run.parts[role]["init_args"]["dtype"]) if run.adapter is None else None
        whole = run.whole(role)
        if _differs(whole, open_weights(folder), read_as):
            changed[names[role]] = whole
    if not changed:
        raise InputError(
            f"step {run.checkpoint.step} of {path} has every weight of {model} as it was imported, so there "
            "is nothing to export: train it longer, or at a higher learning rate"
        )
    return TrainedModel(model, changed)


def refuse_unchanged_codec(codec: Path) -> None:
    """Refuse the codec of a run that has all weights of the one that the run began with.

    Raises:
        InputError: it has.
    """
    run = RunFolder(codec.parent)
    if codec.absolute() != run.codec.absolute() or not holds_codec(run.start):
        return
    if not _differs(open_weights(codec), open_weights(run.start)):
        raise InputError(
            f"{codec} has every weight of the codec that {run.path} began with, so there is nothing to "
            "export: train it longer, or at a higher learning rate"
        )


def _folders(run: RunWeights) -> dict[str, Path]:
    """The folders that the transformers of a run were read from, by role."""
    folders = {role: run.imported(role) for role in run.parts}
    found = {role: folder for role, folder in folders.items() if folder is not None}
    if len(found) < len(folders):
        raise InputError(
            f"{run.folder.path} did not begin with a model that was taken in: leave --layout out for a model "
            "of this project, or give `--layout run`"
        )
    return found


def _model(path: Path, trained: Sequence[str], model: Path) -> Path:
    """The folder of the model, if all parts of it that a run trained are still in it."""
    if not model.is_dir():
        raise InputError(
            f"the model that {path} began with is not in {model} any more: put it back, or a link to it"
        )
    if lost := [name for name in trained if not (model / name).is_dir()]:
        raise InputError(
            f"{path} trained {' and '.join(trained)}, and the model in {model} has no {lost[0]}/ for that"
        )
    return model


def _differs(trained: WeightSource, base: WeightSource, read_as: torch.dtype | None = None) -> bool:
    """Whether any weight is another than the base's, at the precision that a run read the base in."""
    if lost := trained.entries().keys() ^ base.entries().keys():
        raise InputError(
            f"{trained.path} is not of the model in {base.path}: {min(lost)} is in one of them alone"
        )
    for name, value in trained.tensors():
        before = base.tensor(name)
        if not torch.equal(value, before.to(read_as or value.dtype).to(value.dtype)):
            return True
    return False
