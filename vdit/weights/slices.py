"""A safetensors file that several processes write at once, each its slices of the tensors in it.

What is in the file is known before anything is written, so every byte has its place: nothing is gathered, and
no process waits for another.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vdit.types import InputError
from vdit.weights.source import Entry

__all__ = ["Layout", "Slice", "entry_of", "whole_slice"]

# In the order in which the library lays them out: no tensor needs padding before it.
_CODES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ORDER = {dtype: place for place, dtype in enumerate(_CODES)}

CHUNK = 2**26
"""Bytes handed to the system at once: more than a disk needs, and little enough to be interrupted."""


class Slice(NamedTuple):
    """A part of a tensor.

    Attributes:
        name: of the tensor.
        start: place of the first value in the flattened whole.
        values: one axis; anywhere, and not a copy.
    """

    name: str
    start: int
    values: Tensor


def entry_of(tensor: Tensor) -> Entry:
    """What a layout must know of a tensor."""
    return Entry(tuple(tensor.shape), tensor.dtype)


def whole_slice(name: str, tensor: Tensor) -> Slice:
    """All of a tensor."""
    return Slice(name, 0, tensor.detach().reshape(-1))


class Layout:
    """Where every value of every tensor lies in a file; the file is the one that `save_file` would write.

    Args:
        entries: all tensors of the file.

    Attributes:
        header: its first bytes.
        size: of the file in bytes.

    Raises:
        InputError: numbers of a type that safetensors does not know.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        for name, entry in entries.items():
            if entry.dtype not in _CODES:
                known = ", ".join(map(str, _CODES))
                raise InputError(f"{name} is of {entry.dtype}, which cannot be saved: known are {known}")
        self._entries, self._places = dict(entries), dict.fromkeys(entries, 0)
        told: dict[str, object] = {"__metadata__": {}}
        end = 0
        for name in sorted(entries, key=lambda name: (_ORDER[entries[name].dtype], name)):
            shape, dtype = entries[name]
            self._places[name] = end
            start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
            told[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        self.header = len(text).to_bytes(8, "little") + text
        self.size = len(self.header) + end

    def write(self, file: Path, slices: Iterable[Slice], header: bool) -> None:
        """Write slices where they belong, one at a time, and flush them to the disk.

        The file is made where it is not there yet. Other processes may write theirs at the same time, and
        one of them must write the header.

        Raises:
            OSError: the disk is full, or the system refuses something else.
            ValueError: a slice is no part of the tensor of its name.
        """
        handle = os.open(file, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            # First of all its full length. A client of a network file system that neither reads a file nor
            # makes it longer sends its own bytes alone; else it may send the rest of a page, as it was.
            os.ftruncate(handle, self.size)
            if header:
                _put(handle, memoryview(self.header), 0)
            for part in slices:
                _put(handle, _bytes(part.values), self._place(part))
            os.fsync(handle)
        finally:
            os.close(handle)

    def _place(self, part: Slice) -> int:
        shape, dtype = self._entries[part.name]
        end = part.start + part.values.numel()
        if part.values.dtype != dtype or part.values.ndim != 1 or end > torch.Size(shape).numel():
            raise ValueError(
                f"{part.values.dtype} values to {end} are no part of {part.name}, {shape} of {dtype}"
            )
        return len(self.header) + self._places[part.name] + part.start * dtype.itemsize


def _bytes(values: Tensor) -> memoryview:
    own = values.detach().contiguous().cpu()
    return memoryview(own.view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]


def _put(handle: int, data: memoryview, place: int) -> None:
    while data:
        done = os.pwrite(handle, data[:CHUNK], place)
        data, place = data[done:], place + done
