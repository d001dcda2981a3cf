"""A codec on disk: a folder with `codec.json` (what it is) and `weights.safetensors`.

Where the codec was trained here, `training.jsonl` beside them holds the numbers of that training.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vdit.codecs.codec import VideoCodec
from vdit.codecs.precision import with_weights
from vdit.types import InputError
from vdit.weights.described import build_described, description
from vdit.weights.files import disk_refusal, load_weights, save_tensors, sync
from vdit.weights.source import open_weights

__all__ = [
    "DESCRIPTION",
    "TRAINING",
    "WEIGHTS",
    "StoredCodec",
    "copy_codec",
    "holds_codec",
    "load_codec",
    "read_codec",
    "require_codec",
    "require_same_codec",
    "save_codec",
]

DESCRIPTION, WEIGHTS = "codec.json", "weights.safetensors"
TRAINING = "training.jsonl"


def save_codec(codec: VideoCodec, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write a codec, weights first, each file whole or not at all.

    Args:
        codec: weights and statistics are taken as they are.
        folder: made if need be; a codec in it is replaced.
        facts: what a reader should know of it, JSON-serialisable: how it was trained, how well it does.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    with _aside(folder) as (weights, described):
        save_tensors(codec.state_dict(), weights)
        described.write_text(description(type(codec), codec.settings, facts))


def holds_codec(folder: Path) -> bool:
    """Whether there is a whole codec in `folder`: its description is written last."""
    return (folder / DESCRIPTION).is_file()


def require_codec(folder: Path) -> None:
    """Raises InputError where there is no whole codec in `folder`."""
    if not holds_codec(folder):
        raise InputError(
            f"{folder} holds no codec: it has no {DESCRIPTION}; train one, or give another folder"
        )


def load_codec(folder: Path) -> VideoCodec:
    """A codec from its folder, frozen and ready to use; in bfloat16 where that is what its weights came in.

    Raises:
        InputError: as `read_codec`.
    """
    codec = read_codec(folder)
    dtype = torch.bfloat16 if _came_in_bfloat16(folder, codec) else codec.dtype
    return with_weights(codec, dtype).requires_grad_(False).eval()


def _came_in_bfloat16(folder: Path, codec: VideoCodec) -> bool:
    """Whether all weights stand so in the file, or did in the one that they were imported from."""
    imported = json.loads((folder / DESCRIPTION).read_text()).get("imported", {})
    stored = open_weights(folder / WEIGHTS).entries()
    weights = [name for name, _ in codec.named_parameters()]
    return imported.get("dtype") == "bfloat16" or all(stored[n].dtype == torch.bfloat16 for n in weights)


def read_codec(folder: Path) -> VideoCodec:
    """A codec from its folder, to be trained further.

    Raises:
        InputError: the folder holds no codec, or one whose class or weights do not fit.
    """
    require_codec(folder)
    codec = build_described(folder / DESCRIPTION, VideoCodec)
    load_weights(codec, folder / WEIGHTS)
    return codec


class StoredCodec:
    """A codec in its folder, whose weights are read where they are first needed, and then known.

    Args:
        folder: should hold a codec that nobody changes meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def codec(self) -> VideoCodec:
        """It, loaded. Raises as `load_codec`."""
        return load_codec(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the codec would give other latents; all weights are hashed for it."""
        described = json.loads((self.folder / DESCRIPTION).read_text())
        parts = json.dumps([described["class_path"], described["init_args"]], sort_keys=True).encode()
        with (self.folder / WEIGHTS).open("rb") as weights:
            return hashlib.file_digest(weights, lambda: hashlib.sha256(parts)).hexdigest()

    def agrees(self, other: Path) -> bool:
        """Whether the codec in another folder gives the same latents."""
        return self.folder.samefile(other) or self.fingerprint == StoredCodec(other).fingerprint


def require_same_codec(source: StoredCodec, target: Path) -> None:
    """Raises InputError where `target` holds a codec that gives other latents than `source`."""
    if holds_codec(target) and not source.agrees(target):
        raise InputError(
            f"{target} holds another codec than {source.folder}, and latents of one mean nothing to the "
            f"other: give another --out, or the codec that the run began with"
        )


def copy_codec(source: Path, target: Path) -> None:
    """Put a copy of the codec in `source` into `target`, unless one is there (see `require_same_codec`).

    Raises:
        InputError: `source` holds no codec, or the disk is full.
    """
    if holds_codec(target):
        return
    load_codec(source)
    with _aside(target) as copies:
        for name, copy in zip((WEIGHTS, DESCRIPTION), copies, strict=True):
            shutil.copyfile(source / name, copy)
    if (source / TRAINING).is_file():
        shutil.copyfile(source / TRAINING, target / TRAINING)


@contextmanager
def _aside(folder: Path) -> Iterator[list[Path]]:
    """Places to write weights and description to; they take their names, in this order, if all goes well."""
    aside = [folder / f".writing_{name}" for name in (WEIGHTS, DESCRIPTION)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield aside
        for path, name in zip(aside, (WEIGHTS, DESCRIPTION), strict=True):
            sync(path)
            path.replace(folder / name)
    except OSError as error:
        for path in aside:
            with suppress(OSError):
                path.unlink()
        raise disk_refusal(error, folder, "The codec was not saved.") from error
