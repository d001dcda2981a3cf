"""What a run made of the transformers of an imported model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vdit.adapters.lora import LoRA, merged
from vdit.codecs.folder import holds_codec
from vdit.commands.trained import saved_checkpoint
from vdit.config import load_run
from vdit.models.experts import ROLES
from vdit.releases.take_in import DESCRIPTION
from vdit.train.run_folder import RunFolder
from vdit.train.start import Start
from vdit.types import InputError
from vdit.weights.foreign import only_prefix
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


@dataclass(frozen=True)
class _Part:
    """A transformer of a run: how names of its weights begin, whence it was read, and in what precision."""

    prefix: str
    folder: Path
    dtype: torch.dtype


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
    model = _model(path, {role: part.folder for role, part in parts.items()})
    checkpoint = saved_checkpoint(folder, None)
    checkpoint.verify()
    average = open_weights(checkpoint.average)
    trained = {role: only_prefix(average, part.prefix) for role, part in parts.items()}
    bases = {role: open_weights(part.folder) for role, part in parts.items()}
    if settings.adapter is None:
        changed = {r: own for r, own in trained.items() if _differs(own, bases[r], parts[r].dtype)}
    else:
        scale = LoRA(**settings.adapter.as_dict()).scale  # to build the task would read the model's weights
        began = {role: _began_with(settings.start_from, parts[role].prefix, bases[role]) for role in trained}
        whole = {role: merged(began[role], dict(own.tensors()), scale) for role, own in trained.items()}
        changed = {role: own for role, own in whole.items() if _differs(own, bases[role])}
    if not changed:
        raise InputError(
            f"step {checkpoint.step} of {path} has every weight of {model} as it was imported, so there is "
            "nothing to export: train it longer, or at a higher learning rate"
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


def _parts(path: Path, backbone: Any) -> dict[str, _Part]:
    """The transformers of a run, by role."""
    experts = {role: backbone.init_args.get(role) for role in ROLES}
    if all(experts.values()):
        named = {f"backbone.{role}.": part.init_args for role, part in experts.items()}
    else:
        named = {"backbone.": backbone.init_args}
    if not all(part.get("folder") for part in named.values()):
        raise InputError(
            f"{path} did not begin with a model that was taken in: leave --layout out for a model of this "
            "project, or give `--layout run`"
        )
    parts = [_Part(prefix, part.folder, getattr(torch, part.dtype)) for prefix, part in named.items()]
    # A transformer alone is a whole model or one of its experts: that is what its folder is called.
    roles = ROLES if len(parts) > 1 else (parts[0].folder.name,)
    return dict(zip(roles, parts, strict=True))


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


def _began_with(start_from: Path | None, prefix: str, imported: WeightSource) -> WeightSource:
    """What a LoRA is an update of: the weights of another run, or those of the imported model."""
    return imported if start_from is None else Start.of(start_from).part(prefix)


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
