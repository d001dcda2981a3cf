"""What a run made of the transformers of an imported model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vdit.adapters.lora import LoRA, merged
from vdit.commands.trained import saved_checkpoint
from vdit.config import load_run
from vdit.models.experts import ROLES
from vdit.releases.take_in import DESCRIPTION
from vdit.train.run_folder import RunFolder
from vdit.types import InputError
from vdit.weights.foreign import only_prefix
from vdit.weights.source import WeightSource, open_weights

__all__ = ["TrainedModel", "trained_weights"]


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
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise InputError(f"{path} holds no codec, no run and no model that was taken in")
    settings = load_run(folder.config).values.task.init_args
    if (backbone := settings.get("backbone")) is None:
        raise InputError(f"{path} trained a codec: give its folder {folder.codec}")
    parts = _parts(path, backbone)
    model = _model(path, {role: place for role, (_, place) in parts.items()})
    checkpoint = saved_checkpoint(folder, None)
    checkpoint.verify()
    average = open_weights(checkpoint.average)
    bases = {role: open_weights(place) for role, (_, place) in parts.items()}
    trained = {role: only_prefix(average, prefix) for role, (prefix, _) in parts.items()}
    if settings.adapter is not None:
        scale = LoRA(**settings.adapter.as_dict()).scale  # to build the task would read the model's weights
        trained = {
            role: merged(bases[role], dict(update.tensors()), scale) for role, update in trained.items()
        }
    changed = {role: source for role, source in trained.items() if _differs(source, bases[role])}
    if not changed:
        raise InputError(
            f"step {checkpoint.step} of {path} has every weight of {model} as it was imported, so there is "
            "nothing to export: train it longer, or at a higher learning rate"
        )
    return TrainedModel(model, changed)


def _parts(path: Path, backbone: Any) -> dict[str, tuple[str, Path]]:
    """Of each transformer of a run, by role: how names of its weights begin, and what folder it is from."""
    experts = {role: backbone.init_args.get(role) for role in ROLES}
    if all(experts.values()):
        named = {f"backbone.{role}.": part for role, part in experts.items()}
    else:
        named = {"backbone.": backbone}
    folders = {prefix: part.init_args.get("folder") for prefix, part in named.items()}
    if not all(folders.values()):
        raise InputError(f"{path} did not begin with a model that was taken in: its layout is `run`")
    if len(folders) == 1:  # a whole model, or one of its experts
        return {place.name: (prefix, place) for prefix, place in folders.items()}
    return {role: (prefix, folders[prefix]) for role, prefix in zip(ROLES, folders, strict=True)}


def _model(path: Path, folders: Mapping[str, Path]) -> Path:
    """The folder of the model whose transformers stand in these, by role."""
    model = next(iter(folders.values())).parent
    if not model.is_dir():
        raise InputError(
            f"the model that {path} began with is not in {model} any more: put it back, or a link to it"
        )
    if lost := [role for role in folders if not (model / role).is_dir()]:
        raise InputError(
            f"{path} trained {' and '.join(folders)}, and the model in {model} has no {lost[0]}/ for that"
        )
    return model


def _differs(trained: WeightSource, base: WeightSource) -> bool:
    """Whether any weight is another than the base's, at the precision of what was trained."""
    if lost := trained.entries().keys() ^ base.entries().keys():
        raise InputError(
            f"{trained.path} is not of the model in {base.path}: {min(lost)} is in one of them alone"
        )
    return any(not torch.equal(value, base.tensor(name).to(value.dtype)) for name, value in trained.tensors())
