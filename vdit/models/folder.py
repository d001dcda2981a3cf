"""A backbone on disk: a folder with `backbone.json` (what it is) and its weights in safetensors."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vdit.models.backbone import VideoBackbone
from vdit.types import InputError
from vdit.weights.described import build_described, description
from vdit.weights.shards import save_shards
from vdit.weights.source import open_weights

__all__ = ["read_backbone", "save_backbone"]

DESCRIPTION, STEM = "backbone.json", "weights"


def save_backbone(
    kind: type[VideoBackbone],
    settings: dict[str, Any],
    tensors: Iterable[tuple[str, Tensor]],
    folder: Path,
) -> None:
    """Write a backbone, which need not be in memory.

    Args:
        kind: its class.
        settings: the arguments of its constructor.
        tensors: its weights, read one by one.
        folder: made if need be.

    Raises:
        OSError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_shards(tensors, folder, STEM)
    (folder / DESCRIPTION).write_text(description(kind, settings, {}))


def read_backbone(
    folder: Path, dtype: Literal["float32", "bfloat16", "float16"] = "float32"
) -> VideoBackbone:
    """A backbone from its folder; in memory once, however its files are cut. On `meta` no weight is read.

    Args:
        folder: as `save_backbone` writes it.
        dtype: of the weights in memory, whatever it is in the files.

    Raises:
        InputError: the folder holds no backbone, or one whose class or weights do not fit.
    """
    if not folder.is_dir():
        raise InputError(f"the model in {folder} is not there: put it back, or a link to where it is now")
    if not (folder / DESCRIPTION).is_file():
        raise InputError(f"{folder} holds no backbone: it has no {DESCRIPTION}")
    source = open_weights(folder)
    with torch.device("meta"):
        backbone = build_described(folder / DESCRIPTION, VideoBackbone)
    own = {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()}
    if own != source.shapes():
        apart = sorted(own.items() ^ source.shapes().items())
        raise InputError(f"the weights in {folder} are not those of its {DESCRIPTION}: {apart[:3]} differ")
    backbone.read = True
    if torch.get_default_device().type == "meta":
        return backbone.to(getattr(torch, dtype))
    # Copies: what is read of a file may lie in the file.
    weights = {name: value.to(getattr(torch, dtype), copy=True) for name, value in source.tensors()}
    backbone.load_state_dict(weights, assign=True)
    return backbone
