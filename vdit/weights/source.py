"""Weights as other projects publish them: safetensors in one file or several, and torch pickles."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vdit.types import InputError

__all__ = ["WeightSource", "open_weights"]

_NESTS = ("module", "state_dict", "model")
_PICKLES = {".pt", ".pth", ".bin", ".ckpt"}


class WeightSource(ABC):
    """Named tensors on disk; shapes are known without reading them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor by its name."""

    @abstractmethod
    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its name, one in memory at a time where the format allows."""


class _Safetensors(WeightSource):
    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__(path)
        self.files = files
        self._shapes: dict[str, tuple[int, ...]] = {}
        for file in files:
            try:
                with safe_open(file, framework="pt") as opened:
                    for name in opened.keys():  # noqa: SIM118
                        self._shapes[name] = tuple(opened.get_slice(name).get_shape())
            except (SafetensorError, OSError, ValueError) as error:
                raise InputError(f"{file} cannot be read as safetensors: {error}") from error

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        for file in self.files:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    yield name, opened.get_tensor(name)


class _Pickle(WeightSource):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            # Files of before torch 1.6 are no archives, and cannot be read piece by piece.
            found = torch.load(path, map_location="cpu", mmap=is_zipfile(path), weights_only=True)
        except Exception as error:  # what a damaged pickle raises depends on where it is damaged
            reason = str(error).splitlines() or [
                "it ends too early" if isinstance(error, EOFError) else repr(error)
            ]
            raise InputError(f"{path} cannot be read as weights: {reason[0]}") from error
        for nest in _NESTS:
            if isinstance(found, dict) and isinstance(found.get(nest), dict):
                found = found[nest]
        if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
            raise InputError(f"{path} holds something else than named tensors")
        self._tensors: dict[str, Tensor] = found

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._tensors.items()


def open_weights(path: Path) -> WeightSource:
    """Weights from a file, or from a folder with one file or one index of shards.

    Pickles are read with `weights_only`, so that nothing in them is run; the tables that some releases nest
    their weights in (`module`, `state_dict`, `model`) are opened.

    Raises:
        InputError: nothing there, several candidates, shards that are missing, or a damaged file.
    """
    file = _only_file(path) if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} does not exist")
    if file.suffix == ".json":
        return _Safetensors(file, _shards(file))
    if file.suffix == ".safetensors":
        return _Safetensors(file, [file])
    if file.suffix in _PICKLES:
        return _Pickle(file)
    raise InputError(f"{file} is no file of weights: give .safetensors, its .index.json, .pth or .pt")


def _only_file(folder: Path) -> Path:
    indices = sorted(folder.glob("*.safetensors.index.json"))
    single = sorted(file for file in folder.iterdir() if file.suffix in {".safetensors", *_PICKLES})
    candidates = indices or single
    if not candidates:
        raise InputError(f"{folder} holds no weights: no .safetensors, .pth or .pt")
    if len(candidates) > 1:
        raise InputError(f"{folder} holds {', '.join(file.name for file in candidates)}: name one of them")
    return candidates[0]


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{index} is no index of safetensors: {error!r}") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise InputError(f"{index} names files that are not there: {', '.join(missing)}")
    return [index.parent / name for name in names]
