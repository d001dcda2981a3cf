"""Which clips stand in which batch: a pure function of (seed, epoch), cut into batches, cut into ranks."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import numpy as np
from jaxtyping import Int64

from vdit.types import InputError

__all__ = ["BatchOrder", "ClipOrder", "MixedOrder", "Position", "spread"]

_CYCLE = 100  # batches in which every part of a mixture has had its share


@dataclass(frozen=True, order=True)
class Position:
    """A batch, named by the epoch in which its first clip stands and its number among those of that epoch."""

    epoch: int = 0
    batch_in_epoch: int = 0


class BatchOrder(Protocol):
    """Which clips stand in which batch."""

    @property
    def clips(self) -> int:
        """Number of clips that are put in order."""
        ...

    @property
    def seed(self) -> int: ...

    @property
    def batch(self) -> int:
        """Clips in a global batch, over all ranks."""
        ...

    def local_batch(self, position: Position) -> tuple[int, ...]:
        """Clip numbers of this rank at `position`."""
        ...

    def instead(self, position: Position, place: int) -> Iterator[int]:
        """Clip numbers, of one shape with that at a place of `local_batch`, that may stand there for it.

        All others of its source, once each: the one that the same epoch has a batch later, then those behind
        it, around. They depend on nothing but seed, epoch and the place in the global batch.
        """
        ...

    def after(self, position: Position) -> Position:
        """The position of the next batch."""
        ...


@dataclass(frozen=True)
class ClipOrder:
    """An endless order of global batches in which every epoch holds every clip once.

    Epoch e is a permutation of all clips drawn from (seed, e). The epochs, one after the other, are one
    endless row, and batch k is its elements k·batch to (k+1)·batch - 1: a batch may begin in one epoch and
    end in the next, so all are full and no clip is left out or favoured. Rank r of `world` takes the r-th
    slice of each global batch, so another number of ranks sees the same global batches.

    Attributes:
        clips: number of clips.
        seed: of the permutations.
        batch: clips in a global batch, over all ranks.
        rank: this process, among those that see different clips.
        world: number of such processes.
    """

    clips: int
    seed: int
    batch: int
    rank: int = 0
    world: int = 1

    def __post_init__(self):
        if self.clips < 1:
            raise InputError("there are no clips to order; give a source with at least one")
        if self.batch < 1:
            raise InputError(f"the global batch must hold at least 1 clip, got {self.batch}")
        if not 0 <= self.rank < self.world:
            raise InputError(f"rank {self.rank} does not exist among {self.world} (0 to {self.world - 1})")
        if self.batch % self.world:
            below = self.batch - self.batch % self.world
            raise InputError(
                f"a global batch of {self.batch} clips cannot be shared evenly by {self.world} data ranks; "
                f"use {below or self.world} or {below + self.world}"
            )

    def global_batch(self, position: Position) -> tuple[int, ...]:
        """Clip numbers of all ranks at `position`."""
        start = self._number(position) * self.batch
        found: list[int] = []
        while len(found) < self.batch:
            epoch, index = divmod(start + len(found), self.clips)
            row = _permutation(self.clips, self.seed, epoch)
            found += row[index : index + self.batch - len(found)].tolist()
        return tuple(found)

    def local_batch(self, position: Position) -> tuple[int, ...]:
        """Clip numbers of this rank at `position`."""
        share = self.batch // self.world
        return self.global_batch(position)[self.rank * share : (self.rank + 1) * share]

    def instead(self, position: Position, place: int) -> Iterator[int]:
        """See `BatchOrder`."""
        share = self.batch // self.world
        epoch, index = divmod(self._number(position) * self.batch + self.rank * share + place, self.clips)
        row = _permutation(self.clips, self.seed, epoch)
        later = ((index + self.batch + further) % self.clips for further in range(self.clips))
        return (int(row[other]) for other in later if other != index)

    def after(self, position: Position) -> Position:
        """The position of the next batch."""
        return self.position(self._number(position) + 1)

    def position(self, number: int) -> Position:
        """The position of batch `number`, counted from 0 over all epochs."""
        epoch = number * self.batch // self.clips
        return Position(epoch, number - self._first(epoch))

    def _number(self, position: Position) -> int:
        return self._first(position.epoch) + position.batch_in_epoch

    def _first(self, epoch: int) -> int:
        """Number of the first batch that begins in or after `epoch`."""
        return -(-epoch * self.clips // self.batch)


class MixedOrder:
    """Batches of several orders, each batch of one of them, each order as often as its share.

    The clips of the orders are counted one after the other. What stands for an epoch in a position is a
    cycle of 100 batches, in which the orders take turns as evenly as their shares allow.

    Args:
        parts: the orders, of the same seed, batch and ranks.
        shares: how often each has its turn; they need not sum to 1.

    Raises:
        InputError: a share so small that it has no turn in a cycle.
    """

    def __init__(self, parts: Sequence[ClipOrder], shares: Sequence[float]) -> None:
        self.parts = tuple(parts)
        self.turns = _turns(shares)
        for number in range(len(parts)):
            if number not in self.turns:
                raise InputError(
                    f"part {number + 1} of a mixture has the share {shares[number]} of {sum(shares)}: "
                    f"give it at least one batch in {_CYCLE}"
                )

    @property
    def clips(self) -> int:
        return sum(part.clips for part in self.parts)

    @property
    def seed(self) -> int:
        return self.parts[0].seed

    @property
    def batch(self) -> int:
        return self.parts[0].batch

    def local_batch(self, position: Position) -> tuple[int, ...]:
        part, within, first = self._part(position)
        return tuple(first + clip for clip in part.local_batch(within))

    def instead(self, position: Position, place: int) -> Iterator[int]:
        """See `BatchOrder`."""
        part, within, first = self._part(position)
        return (first + clip for clip in part.instead(within, place))

    def _part(self, position: Position) -> tuple[ClipOrder, Position, int]:
        """Whose turn it is, at which of its own positions, and how many clips stand before its own."""
        which = self.turns[position.batch_in_epoch]
        before = self.turns[: position.batch_in_epoch].count(which)
        part = self.parts[which]
        within = part.position(position.epoch * self.turns.count(which) + before)
        return part, within, sum(other.clips for other in self.parts[:which])

    def after(self, position: Position) -> Position:
        cycles, batch = divmod(position.batch_in_epoch + 1, _CYCLE)
        return Position(position.epoch + cycles, batch)


def spread(clips: int, count: int, seed: int) -> tuple[int, ...]:
    """Numbers of some clips that stand for all: one out of each of `count` equal parts of the row, in order.

    Rows are often sorted, by folder or by name, so the first clips say little of the others. All clips, where
    there are no more than `count`. A pure function of its arguments, the same for every process.

    Args:
        clips: how many there are.
        count: how many are wanted.
        seed: says which of its part each is.
    """
    if clips <= count:
        return tuple(range(clips))
    bounds = [number * clips // count for number in range(count + 1)]
    return tuple(
        start + _hashed(f"{seed} {number}") % (stop - start)
        for number, (start, stop) in enumerate(pairwise(bounds))
    )


def _turns(shares: Sequence[float]) -> tuple[int, ...]:
    """Whose turn it is at each batch of a cycle: always of the one that is furthest behind its share."""
    had, turns = [0] * len(shares), []
    for number in range(1, _CYCLE + 1):
        behind = [share / sum(shares) * number - count for share, count in zip(shares, had, strict=True)]
        turn = behind.index(max(behind))
        had[turn] += 1
        turns.append(turn)
    return tuple(turns)


@lru_cache(maxsize=4)
def _permutation(clips: int, seed: int, epoch: int) -> Int64[np.ndarray, "clips"]:
    """A permutation of 0..clips-1, the same with every version of every library.

    Clips are sorted by a hash of their number: SplitMix64 (Steele et al. 2014) from a key of seed and epoch.
    Library shuffles may change between versions, and a resumed run must not.
    """
    key = _hashed(f"{seed} {epoch}")
    z = np.arange(1, clips + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(z ^ (z >> np.uint64(31)), kind="stable")


def _hashed(said: str) -> int:
    """A number below 2^64, another for each text."""
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "little")
