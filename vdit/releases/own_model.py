"""A run of one's own as a model: a folder that samples and trains without the run and what that began with.

It is laid out as `take_in` lays out a release: `model.yaml` and the parts beside it.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from vdit.codecs.folder import copy_codec
from vdit.models.backbone import VideoBackbone
from vdit.models.folder import DESCRIPTION as BACKBONE
from vdit.models.folder import save_backbone
from vdit.releases.take_in import DESCRIPTION, READ, written_aside
from vdit.types import InputError
from vdit.weights.source import WeightSource

__all__ = ["OwnModel", "write_model"]

LEFT = ("start_from", "adapter", "cache", "codec")
"""Arguments of a run's task that say where it began, or where it worked."""


@dataclass(frozen=True)
class OwnModel:
    """What a run trained.

    Attributes:
        title: the run and the step, for people.
        arguments: of its task, as the resolved configuration has them; paths are those of type `Path`.
        weights: of its backbone, whole, by role: `backbone`, or `high` and `low` of two experts.
        codec: folder of its codec.
    """

    title: str
    arguments: Mapping[str, Any]
    weights: Mapping[str, WeightSource]
    codec: Path


def write_model(model: OwnModel, out: Path) -> None:
    """Write a model, with copies of all that it reads; the folder is whole or not there.

    Args:
        model: what a run trained.
        out: must not exist, or be empty.

    Raises:
        InputError: a disk that is too small, or a folder that is taken.
    """
    backbone = model.arguments["backbone"]
    parts = {role: backbone if role == "backbone" else backbone["init_args"][role] for role in model.weights}
    needed = sum(file.stat().st_size for weights in model.weights.values() for file in _files(weights.path))
    with written_aside(out, needed) as aside:
        for role, part in parts.items():
            kind, settings = _described(part)
            save_backbone(kind, settings, model.weights[role].tensors(), aside / role)
        copy_codec(model.codec, aside / "codec")
        read = {role: {"class_path": READ, "init_args": {"folder": f"./{role}"}} for role in parts}
        told: dict[str, Any] = {
            "backbone": read.get("backbone") or {**backbone, "init_args": {**backbone["init_args"], **read}},
            "codec": "./codec",
        }
        rest = {n: v for n, v in model.arguments.items() if n not in (*told, *LEFT) and v is not None}
        told |= {n: _copied(value, aside, "text" if n == "text" else "") for n, value in rest.items()}
        text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=110)
        head = f"# {model.title}. A path that begins with ./ is one beside this file.\n"
        (aside / DESCRIPTION).write_text(head + text)


def _described(part: Mapping[str, Any]) -> tuple[type[VideoBackbone], dict[str, Any]]:
    """The class of a backbone and the arguments of it, also where these stand in a folder that is read."""
    arguments = dict(part["init_args"])
    path = part["class_path"]
    if path == READ:
        described = yaml.safe_load((Path(arguments["folder"]) / BACKBONE).read_text())
        path, arguments = described["class_path"], described["init_args"]
    module, _, name = path.rpartition(".")
    kind = getattr(import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, VideoBackbone)):
        raise InputError(
            f"{path} is no class of a backbone, so its weights cannot be written as those of one"
        )
    return kind, arguments


def _copied(node: Any, folder: Path, name: str = "") -> Any:
    """A part of a configuration whose files and folders are copied into a folder, and named beside it."""
    if isinstance(node, Mapping):
        return {key: _copied(value, folder, name) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_copied(value, folder, name) for value in node]
    if not isinstance(node, Path):
        return node
    if not node.exists():  # a name on a hub, or of a package
        return str(node)
    copy = folder / _free(name + node.suffix if name else node.name, folder)
    if node.is_dir():
        shutil.copytree(node, copy)
    else:
        shutil.copyfile(node, copy)
    return f"./{copy.name}"


def _free(name: str, folder: Path) -> str:
    numbered = (f"{name}{number or ''}" for number in range(1000))
    return next(each for each in numbered if not (folder / each).exists())


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
