"""Batches in a fixed order, prepared ahead by threads, resumable exactly."""

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import torch

from vdit.data.order import BatchOrder, Position
from vdit.data.stack import LatentClip, stack
from vdit.types import Clip, ClipBatch, InputError

__all__ = ["BatchLoader", "ItemSource"]


@runtime_checkable
class ItemSource(Protocol):
    """Anything that gives clips, or latents of clips, by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip | LatentClip: ...


class BatchLoader:
    """An endless iterator of `ClipBatch`, one a step, over this rank's share of each global batch.

    Threads prepare the next batches while the caller computes. An error in a clip is raised by `next` when
    the batch of that clip is due. `position` names the batch that comes next, however many are already
    prepared, so a run that stores it resumes with the very batch it would have seen.

    Use it in a `with` block, or call `close`: it ends the threads.
    """

    def __init__(self, source: ItemSource, order: BatchOrder, workers: int = 2, prefetch: int = 2):
        """Nothing is read before the first `next`.

        Args:
            source: the clips.
            order: must be made for `len(source)` clips.
            workers: threads, each on an equal share of a batch.
            prefetch: batches prepared ahead of the caller.

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
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: deque[list[Future[list[Clip | LatentClip]]]] = deque()
        self._ahead_until = self._position

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
            wanted = self._order.local_batch(self._ahead_until)
            share = -(-len(wanted) // self._workers)
            shares = [wanted[first : first + share] for first in range(0, len(wanted), share)]
            self._ahead.append([self._pool.submit(self._read, part) for part in shares])
            self._ahead_until = self._order.after(self._ahead_until)
        batch = stack([item for part in self._ahead[0] for item in part.result()])
        # Only now is the batch given out: after an error the position still names the batch that failed.
        self._ahead.popleft()
        self._position = self._order.after(self._position)
        return batch

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

    def _read(self, indices: Sequence[int]) -> list[Clip | LatentClip]:
        return [self._source[index] for index in indices]

    def _drop_ahead(self) -> None:
        for future in (future for batch in self._ahead for future in batch):
            future.cancel()
        self._ahead.clear()


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

    pool = ThreadPoolExecutor(workers, thread_name_prefix="clips")
    for _ in range(workers):
        pool.submit(claim_one_core)
    ready.wait()
    torch.set_num_threads(cores)
    return pool
