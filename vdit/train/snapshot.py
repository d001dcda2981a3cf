"""A copy of what a process saves, in memory that is used again for the next one."""

from collections.abc import Iterable

import torch
from torch import Tensor

from vdit.weights.slices import Slice

__all__ = ["Snapshot"]

BLOCK = 2**26
"""Bytes of a block of memory: what the system locks for a device at once; it would round other sizes up."""

ALIGNED = 8
"""Bytes to which values begin: as many as the widest number has."""


class Snapshot:
    """Copies slices into the memory of the CPU, one behind the other.

    Copies from a CUDA device are begun, not waited for: what the device is told later, it does later, so
    training may go on at once. `arrived` waits for them.
    """

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []
        self._at = 0
        self._event: torch.cuda.Event | None = None

    def begin(self) -> None:
        """Forget the last copies: their memory is free for others."""
        self._at, self._event = 0, None

    @torch.no_grad()
    def copied(self, slices: Iterable[Slice]) -> list[Slice]:
        """The same slices in this memory; one that does not fit into what is left of a block is cut."""
        copies = []
        on_device = False
        for name, start, values in slices:
            on_device |= values.is_cuda
            done, total = 0, values.numel()
            while done < total:
                room = self._room(values.dtype, total - done)
                room.copy_(values[done : done + room.numel()], non_blocking=values.is_cuda)
                copies.append(Slice(name, start + done, room))
                done += room.numel()
        if on_device:
            self._event = torch.cuda.Event()
            self._event.record()
        return copies

    def arrived(self) -> None:
        """Wait until every copy is there; from any thread."""
        if self._event is not None:
            self._event.synchronize()

    def _room(self, dtype: torch.dtype, wanted: int) -> Tensor:
        """Memory for at most so many values, at least one."""
        number, offset = divmod(self._at, BLOCK)
        if number == len(self._blocks):
            locked = torch.cuda.is_initialized()
            self._blocks.append(torch.empty(BLOCK, dtype=torch.uint8, pin_memory=locked))
        size = min(wanted, (BLOCK - offset) // dtype.itemsize) * dtype.itemsize
        self._at += -(-size // ALIGNED) * ALIGNED
        return self._blocks[number][offset : offset + size].view(dtype)
