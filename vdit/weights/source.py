"""Weights as other projects publish them: safetensors in one file or several, and torch pickles."""

import json
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vdit.types import InputError
from vdit.weights.ranges import fill

__all__ = ["Entry", "WeightSource", "open_weights"]

_NESTS = ("module", "state_dict", "model")
_METADATA = "__metadata__"
_PICKLES = {".pt", ".pth", ".bin", ".ckpt"}
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Entry(NamedTuple):
    """What is known of a tensor without reading it.

    Attributes:
        shape: its sizes.
        dtype: its precision, as torch calls it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


class WeightSource(ABC):
    """Named tensors on disk; what they are is known without reading them.

    Attributes:
        path: the file, or the index of several.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def entries(self) -> Mapping[str, Entry]:
        """Every tensor's shape and precision by its name, in the order of the files."""

    @abstractmethod
    def tensor(self, name: str) -> Tensor:
        """One tensor. Raises KeyError where there is none of that name."""

    def part(self, name: str, start: int, stop: int) -> Tensor:
        """Values of a flattened tensor, from one place to before another; the rest is not read where the
        format allows. Raises KeyError where there is no tensor of that name.
        """
        return self.tensor(name).reshape(-1)[start:stop]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its name, one in memory at a time where the format allows."""
        for name in self.entries():
            yield name, self.tensor(name)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor by its name."""
        return {name: entry.shape for name, entry in self.entries().items()}


class _Safetensors(WeightSource):
    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__(path)
        self.places: dict[str, Path] = {}
        self._entries: dict[str, Entry] = {}
        self._opened: dict[Path, _Opened] = {}
        for file in files:
            try:
                with safe_open(file, framework="pt") as opened:
                    for name in opened.keys():  # noqa: SIM118
                        part = opened.get_slice(name)
                        self._entries[name] = Entry(tuple(part.get_shape()), _dtype(file, part.get_dtype()))
                        self.places[name] = file
            except (SafetensorError, OSError, ValueError) as error:
                raise InputError(f"{file} cannot be read as safetensors: {error}") from error

    def entries(self) -> Mapping[str, Entry]:
        return self._entries

    def tensor(self, name: str) -> Tensor:
        # The file is opened anew for every tensor: what is read of an open one stays in memory.
        with safe_open(self.places[name], framework="pt") as opened:
            return opened.get_tensor(name)

    def part(self, name: str, start: int, stop: int) -> Tensor:
        file = self.places[name]
        if file not in self._opened:
            self._opened[file] = _Opened(file)
        values = torch.empty(stop - start, dtype=self._entries[name].dtype)
        self._opened[file].read(name, start, values)
        return values


class _Opened:
    """A file of safetensors that stays open, and where its tensors begin."""

    def __init__(self, file: Path) -> None:
        self._file, self._handle = file, os.open(file, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)
        head = bytearray(8)
        fill(self._handle, 0, memoryview(head))
        text = bytearray(int.from_bytes(head, "little"))
        fill(self._handle, len(head), memoryview(text))
        places = {name: told["data_offsets"] for name, told in json.loads(text).items() if name != _METADATA}
        first = len(head) + len(text)
        self._places = {name: (first + start, first + end) for name, (start, end) in places.items()}

    def read(self, name: str, start: int, values: Tensor) -> None:
        """Fill `values` with those of a flattened tensor from place `start` on. Raises InputError."""
        first, end = self._places[name]
        first += start * values.itemsize
        data = memoryview(values.view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
        if first + len(data) > end or fill(self._handle, first, data) < len(data):
            raise InputError(
                f"{self._file} does not hold the values {start} to {start + len(values)} of {name}"
            )


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

    def entries(self) -> Mapping[str, Entry]:
        return {name: Entry(tuple(tensor.shape), tensor.dtype) for name, tensor in self._tensors.items()}

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name]


def open_weights(path: Path) -> WeightSource:
    """Weights from a file, or from a folder with one file or one index of shards.

    Pickles are read with `weights_only`, so that nothing in them is run; the tables that some releases nest
    their weights in (`module`, `state_dict`, `model`) are opened.

    Raises:
        InputError: nothing there, several candidates, shards that are missing or that lack what their index
            says, or a damaged file.
    """
    file = _only_file(path) if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} does not exist")
    if file.suffix == ".json":
        return _sharded(file)
    if file.suffix == ".safetensors":
        return _Safetensors(file, [file])
    if file.suffix in _PICKLES:
        return _Pickle(file)
    raise InputError(f"{file} is no file of weights: give .safetensors, its .index.json, .pth or .pt")


def _dtype(file: Path, name: str) -> torch.dtype:
    if name not in _DTYPES:
        raise InputError(f"{file} holds numbers of type {name}; known are {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _only_file(folder: Path) -> Path:
    indices = sorted(folder.glob("*.safetensors.index*.json"))  # index.fp16.json is one of a variant
    single = sorted(file for file in folder.iterdir() if file.suffix in {".safetensors", *_PICKLES})
    candidates = indices or single
    if not candidates:
        raise InputError(f"{folder} holds no weights: no .safetensors, .pth or .pt")
    if len(candidates) > 1:
        raise InputError(f"{folder} holds {', '.join(file.name for file in candidates)}: name one of them")
    return candidates[0]


def _sharded(index: Path) -> WeightSource:
    try:
        places: dict[str, str] = json.loads(index.read_text())["weight_map"]
        files = sorted(set(places.values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{index} is no index of safetensors: {error!r}") from error
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        raise InputError(
            f"{index} names files that are not there: {', '.join(missing)}; fetch them, or all of the folder"
        )
    source = _Safetensors(index, [index.parent / name for name in files])
    if absent := sorted(places.keys() - source.places.keys()):
        raise InputError(
            f"{index} names {len(absent)} tensors that its files do not hold, such as {absent[0]}: "
            "the files are of another release, or were cut; fetch them again"
        )
    return source
