"""A copy of what a process saves, in memory that is used again for the next one."""

import threading
from collections.abc import Iterable
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from vdit.weights.slices import Slice

__all__ = ["Snapshot"]

BLOCK = 2**26
"""Bytes of a block of memory: what the system locks for a device at once; it would round other sizes up."""

ALIGNED = 8
"""Bytes to which values begin: as many as the widest number has."""


class Snapshot:
    """Copies slices into the memory of the CPU, one behind the other, while whoever asked for it goes on.

    `begin` takes the places, `start` has copies from a device begin, on a stream of their own, and `fill`
    makes those of what lies on the CPU, in a thread. What is copied must not change before `settle` was
    called.
    """

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []
        self._at = 0
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._filled = threading.Event()
        self._stream: torch.cuda.Stream | None = None
        self._event: torch.cuda.Event | None = None

    def begin(self) -> None:
        """Forget the last copies: their memory is free for others."""
        self._at, self._pairs, self._event = 0, [], None
        self._filled.clear()

    def copied(self, slices: Iterable[Slice]) -> list[Slice]:
        """The same slices in this memory, once they are there; one that does not fit into what is left of a
        block is cut.
        """
        copies = []
        for name, start, values in slices:
            done, total = 0, values.numel()
            while done < total:
                room = self._room(values.dtype, total - done)
                self._pairs.append((room, values[done : done + room.numel()]))
                copies.append(Slice(name, start + done, room))
                done += room.numel()
        return copies

    @torch.no_grad()
    def start(self) -> None:
        """Begin the copies from a device. It goes on with what it was told before, and computes meanwhile."""
        away = [(room, values) for room, values in self._pairs if values.device.type != "cpu"]
        self._pairs = [(room, values) for room, values in self._pairs if values.device.type == "cpu"]
        on_cuda = any(values.is_cuda for _, values in away)
        if on_cuda:
            self._stream = self._stream or torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream) if on_cuda else nullcontext():
            for room, values in away:
                room.copy_(values, non_blocking=values.is_cuda)
                if self._stream is not None and values.is_cuda:
                    values.record_stream(self._stream)  # it may be all that is left of a tensor
            if on_cuda:
                self._event = torch.cuda.Event()
                self._event.record()

    def fill(self) -> None:
        """Make the copies of what lies on the CPU, and wait for those from a device; from any thread."""
        try:
            # By numpy, for torch would start a team of threads beside the one that computes.
            for room, values in self._pairs:
                np.copyto(_raw(room), _raw(values))
        finally:
            self._pairs = []
            self._filled.set()
        if self._event is not None and self._stream is not None:
            with torch.cuda.device(self._stream.device):  # a new thread would wake the first device too
                self._event.synchronize()

    def settle(self) -> None:
        """Wait until what is copied may change. What a device is told later, it does after its copies."""
        self._filled.wait()
        if self._event is not None:
            torch.cuda.current_stream().wait_event(self._event)

    def _room(self, dtype: torch.dtype, wanted: int) -> Tensor:
        """Memory for at most so many values, at least one."""
        number, offset = divmod(self._at, BLOCK)
        if number == len(self._blocks):
            locked = torch.cuda.is_initialized()
            self._blocks.append(torch.empty(BLOCK, dtype=torch.uint8, pin_memory=locked))
        size = min(wanted, (BLOCK - offset) // dtype.itemsize) * dtype.itemsize
        self._at += -(-size // ALIGNED) * ALIGNED
        return self._blocks[number][offset : offset + size].view(dtype)


def _raw(values: Tensor) -> np.ndarray:
    return values.detach().view(torch.uint8).numpy()
