"""What a release holds that no model here reads: kept beside a model, for those to whom it is given out.

published/                       in the folder of a model
    model_index.json, ...        how diffusers puts the parts together, as the release has it
    transformer/config.json, ... the configurations of its parts, in either layout
    clip/                        the weights of CLIP's text side
    xlm-roberta-large/           its tokenizer
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vdit.releases.clip_file import text_side
from vdit.releases.found import read_table
from vdit.releases.pipeline import CONFIGS
from vdit.releases.release import Release
from vdit.weights.shards import save_shards
from vdit.weights.source import WeightSource, open_weights

__all__ = [
    "CLIP_TOKENIZER",
    "PUBLISHED",
    "keep_published",
    "kept_text_side",
    "published_bytes",
    "with_published",
]

PUBLISHED, CLIP, CLIP_TOKENIZER = "published", "clip", "xlm-roberta-large"


def keep_published(release: Release, model: Path) -> None:
    """Copy into the folder of a model what the release that it is from has besides.

    Raises:
        OSError: the disk is full.
    """
    source, out = release.found.folder, model / PUBLISHED
    files = [weights.parent / "config.json" for weights in release.found.backbones.values()]
    if release.found.layout == "diffusers":
        files += [source / name for name in (*CONFIGS, "vae/config.json")]
    for file in files:
        if file.is_file():
            place = out / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    if release.image is not None and (source / CLIP_TOKENIZER).is_dir():
        shutil.copytree(source / CLIP_TOKENIZER, out / CLIP_TOKENIZER)
    if tensors := _text_side(release):
        (out / CLIP).mkdir(parents=True)
        save_shards(tensors.items(), out / CLIP, "model")


def published_bytes(release: Release) -> int:
    """What the large ones among them take on disk."""
    return sum(tensor.nbytes for tensor in _text_side(release).values())


def with_published(config: Mapping[str, Any], model: Path, name: str) -> dict[str, Any]:
    """A configuration with all that the release says in its own file of this name, if it has one."""
    file = model / PUBLISHED / name
    return {**config, **(read_table(file) if file.is_file() else {})}


def kept_text_side(model: Path) -> WeightSource | None:
    """The weights of CLIP's text side, where the model in a folder came with them."""
    folder = model / PUBLISHED / CLIP
    return open_weights(folder) if folder.is_dir() else None


def _text_side(release: Release) -> Mapping[str, Tensor]:
    """Of the authors' layout alone: others have another text side, or none."""
    if release.image is None or release.found.layout != "original":
        return {}
    return text_side(release.image.source, release.image.table)
