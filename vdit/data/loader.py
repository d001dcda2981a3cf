"""Batches in a fixed order, prepared ahead by threads, resumable exactly.

A clip that cannot be read is replaced, by a rule that depends on nothing but seed, epoch and place, so that
any number of ranks sees the same batches, and so does a run that goes on.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple, Protocol, runtime_checkable

import torch

from vdit.data.order import BatchOrder, Position
from vdit.data.stack import LatentClip, stack
from vdit.data.unreadable import Unreadable, UnreadableClip, read_clip
from vdit.first_few import first_few
from vdit.types import Clip, ClipBatch, InputError
from vdit.weights.files import DiskError

__all__ = ["BatchLoader", "ItemSource", "still_reading"]

THREADS = "clips"
"""How the names of threads that read begin."""

IN_A_ROW = 20
"""Clips that cannot be read, one behind the other, after which it is not the clips: their disk is gone."""


@runtime_checkable
class ItemSource(Protocol):
    """Anything that gives clips, or latents of clips, by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip | LatentClip: ...


class _Read(NamedTuple):
    """What stands at a place of a batch, and the clips that should and could not."""

    item: Clip | LatentClip
    met: Sequence[Unreadable]


class BatchLoader:
    """An endless iterator of `ClipBatch`, one a step, over this rank's share of each global batch.

    Threads prepare the next batches while the caller computes. `position` names the batch that comes next,
    however many are already prepared, so a run that stores it resumes with the very batch it would have seen.

    In the place of a clip that cannot be read stands the one that `BatchOrder.instead` names first and that
    can; from that batch on nobody asks for it again. `met` tells of it when its batch is given out. Where
    that does not help, or the disk fails, the error is raised by `next` when the batch is due.

    Use it in a `with` block, or call `close`: it ends the threads.
    """

    def __init__(
        self,
        source: ItemSource,
        order: BatchOrder,
        workers: int = 2,
        prefetch: int = 2,
        name_of: Callable[[int], str] = "clip {}".format,
        patience: float | None = None,
    ):
        """Nothing is read before the first `next`.

        Args:
            source: the clips.
            order: must be made for `len(source)` clips.
            workers: threads, each on an equal share of a batch.
            prefetch: batches prepared ahead of the caller.
            name_of: a clip, in messages, by its number.
            patience: seconds that `next` waits for clips; None is for ever.

        Raises:
            InputError: the order is for another number of clips, or `workers` or `prefetch` is below 1.
        """
        if len(source) != order.clips:
            raise InputError(f"the order is for {order.clips} clips, but the source has {len(source)}")
        if workers < 1 or prefetch < 1:
            raise InputError(f"workers and prefetch must be at least 1, got {workers} and {prefetch}")
        self._source = source
        self._order = order
        self._workers = workers
        self._prefetch = prefetch
        self._position = Position()
        self._name_of, self._patience = name_of, patience
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: deque[list[Future[list[_Read]]]] = deque()
        self._ahead_until = self._position
        self._without: dict[int, Position] = {}
        self._met: list[Unreadable] = []
        self._at: dict[int, int] = {}

    @property
    def position(self) -> Position:
        """The batch that the next call of `next` gives."""
        return self._position

    def __iter__(self) -> Iterator[ClipBatch]:
        return self

    def __next__(self) -> ClipBatch:
        if self._pool is None:
            self._pool = _single_threaded_pool(self._workers)
        while len(self._ahead) < self._prefetch + 1:
            at, wanted = self._ahead_until, list(enumerate(self._order.local_batch(self._ahead_until)))
            share = -(-len(wanted) // self._workers)
            shares = [wanted[first : first + share] for first in range(0, len(wanted), share)]
            self._ahead.append([self._pool.submit(self._read, at, part) for part in shares])
            self._ahead_until = self._order.after(at)
        until = None if self._patience is None else time.monotonic() + self._patience
        reads = [read for part in self._ahead[0] for read in self._awaited(part, until)]
        batch = stack([read.item for read in reads])
        for one in chain.from_iterable(read.met for read in reads):
            if one.clip not in self._without:
                self._without[one.clip] = one.since
                self._met.append(one)
        # Only now is the batch given out: after an error the position still names the batch that failed.
        self._ahead.popleft()
        self._position = self._order.after(self._position)
        return batch

    def met(self) -> list[Unreadable]:
        """The clips of batches given out since this was last asked that could not be read."""
        met, self._met = self._met, []
        return met

    def do_without(self, clips: Iterable[Unreadable]) -> None:
        """Do not ask for these, each from its batch on: others have met them, or an earlier session has."""
        for one in clips:
            self._without[one.clip] = min(one.since, self._without.get(one.clip, one.since))

    def state_dict(self) -> dict[str, int]:
        """Where to go on, with what the order was made of; plain integers."""
        made_of = {"clips": self._order.clips, "seed": self._order.seed, "batch": self._order.batch}
        at = self._position
        return {"epoch": at.epoch, "batch_in_epoch": at.batch_in_epoch} | made_of

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state_dict` was taken; the number of ranks may differ.

        Raises:
            InputError: the number of clips, the seed or the global batch differ, so that the order does too.
        """
        for name, now in (
            ("clips", self._order.clips),
            ("seed", self._order.seed),
            ("batch", self._order.batch),
        ):
            if state[name] != now:
                raise InputError(
                    f"the data position was stored with {name} {state[name]}, but it is {now} now, so the "
                    f"order of the clips is another; restore it, or start with a new data position"
                )
        self.seek(Position(state["epoch"], state["batch_in_epoch"]))

    def seek(self, position: Position) -> None:
        """Give the batch at `position` next; what was prepared is dropped."""
        self._drop_ahead()
        self._position = self._ahead_until = position

    def close(self, wait: bool = True) -> None:
        """End the threads and forget what they prepared; the position stays, and `next` starts them again.

        Without `wait`, one that reads ends when it has read, which may be never.
        """
        self._drop_ahead()
        self._ahead_until = self._position
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)
            self._pool = None

    def __enter__(self) -> "BatchLoader":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(wait=kind is None)  # an error is told at once, also where a disk does not answer

    def _awaited(self, part: "Future[list[_Read]]", until: float | None) -> list[_Read]:
        """What a thread has read. Raises DiskError where it is not done by then, in seconds of the clock."""
        try:
            return part.result(None if until is None else max(0.0, until - time.monotonic()))
        except TimeoutError as error:
            if part.done():  # and raised one itself
                raise
            reading = ", ".join(self._name_of(clip) for clip in sorted(set(self._at.copy().values())))
            raise DiskError(
                f"{reading} could not be read within {self._patience:g} s: the disk does not answer, or "
                "the decoder does not come to an end. If it is always the same, take it out of the data"
            ) from error

    def _read(self, position: Position, wanted: Sequence[tuple[int, int]]) -> list[_Read]:
        return [self._read_one(position, place, clip) for place, clip in wanted]

    def _read_one(self, position: Position, place: int, clip: int) -> _Read:
        """The clip of a place in the batch, or what stands there instead."""
        if not self._is_given_up(clip, position):
            try:
                return _Read(self._asked(clip), ())
            except UnreadableClip as error:
                met = [Unreadable(clip, self._name_of(clip), error.reason, position)]
        else:
            met = []
        for other in self._order.instead(position, place):
            if self._is_given_up(other, position):
                continue
            try:
                return _Read(self._asked(other), met)
            except UnreadableClip as error:
                met.append(Unreadable(other, self._name_of(other), error.reason, position))
            if len(met) >= IN_A_ROW:
                break
        why = first_few([f"{one.name}: {one.reason}" for one in met], between="; ")
        raise InputError(
            f"nothing can stand in the place of {self._name_of(clip)}, which cannot be read: of those that "
            f"could, none is left, or {IN_A_ROW} cannot be read either. {why}"
        )

    def _is_given_up(self, clip: int, position: Position) -> bool:
        since = self._without.get(clip)
        return since is not None and since <= position

    def _asked(self, clip: int) -> Clip | LatentClip:
        thread = threading.get_ident()
        self._at[thread] = clip
        try:
            return read_clip(self._source, clip, self._name_of(clip))
        finally:
            del self._at[thread]

    def _drop_ahead(self) -> None:
        for future in (future for batch in self._ahead for future in batch):
            future.cancel()
        self._ahead.clear()


def still_reading(seconds: float) -> bool:
    """Whether a thread of a closed loader still reads after so long. Python would wait for it at its end."""
    deadline = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread.name.startswith(THREADS):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                return True
    return False


def _single_threaded_pool(workers: int) -> ThreadPoolExecutor:
    """Threads that run torch operations on one core each; the caller keeps its own number of cores.

    Otherwise every worker would start a team of as many threads as there are cores. `torch.set_num_threads`
    sets the calling thread and the default of threads to come; a thread reads that default at its first
    operation.
    """
    cores = torch.get_num_threads()
    ready = threading.Barrier(workers + 1)

    def claim_one_core() -> None:
        torch.get_num_threads()  # reads the default now, so that it cannot undo the next line later
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(workers, thread_name_prefix=THREADS)
    for _ in range(workers):
        pool.submit(claim_one_core)
    ready.wait()
    torch.set_num_threads(cores)
    return pool
