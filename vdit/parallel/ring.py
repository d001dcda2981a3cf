"""What passes between the processes of a job: each link of a ring by itself, then an exchange of all.

A link is tried by a group of its two ends alone, so that one that is broken is known by name and spoils no
other. Whatever hangs is left to a thread that nobody waits for.
"""

import queue
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

import torch
import torch.distributed as dist

from vdit.parallel.peers import Peers

__all__ = ["Backend", "Link", "Ring", "Transfer", "own_backend"]

Backend = Literal["nccl", "gloo"]
T = TypeVar("T")

LINK_NUMBERS = 2**18
"""Float32 numbers over a link, 1 MiB: packets too large for a switch are not met with a small message."""
SMALL, LARGE_CPU, LARGE_GPU = (2**12, 2**20), 2**24, 2**28
"""Bytes of the all-reduces that are timed."""
ROUNDS = 5
GRACE = 3.0
"""Seconds that a backend has to say itself that time is up."""


@dataclass(frozen=True)
class Link:
    """One direction between two processes.

    Attributes:
        source: the rank that sent.
        target: the rank that should have received.
        fault: what went wrong; "" where what arrived is what was sent.
    """

    source: int
    target: int
    fault: str


@dataclass(frozen=True)
class Transfer:
    """An all-reduce that was timed.

    Attributes:
        bytes: that each rank has of it.
        seconds: that it took, the median of a few.
    """

    bytes: int
    seconds: float

    @property
    def rate(self) -> float:
        """Algorithm bandwidth in GB/s: what a rank has of it, over the time."""
        return self.bytes / self.seconds / 1e9


def own_backend(local_rank: int) -> Backend:
    """What this process can talk by: nccl where it has a GPU of its own."""
    return "nccl" if dist.is_nccl_available() and local_rank < torch.cuda.device_count() else "gloo"


class Ring:
    """The processes of a job in a ring, rank by rank.

    Args:
        peers: all of them.
        backend: which all of them have.
        device: of this process.
        seconds: that one link, and all exchanges together, may take.
        silent: ranks that did not answer before, whose links are not tried.
        stuck: whether something hangs already in this process, so that nothing more can be tried.
    """

    def __init__(
        self,
        peers: Peers,
        backend: Backend,
        device: torch.device,
        seconds: float,
        silent: frozenset[int],
        stuck: bool = False,
    ) -> None:
        self.peers, self.backend, self.device, self.seconds = peers, backend, device, seconds
        self.silent, self.stuck = silent, stuck
        self.sizes = (*SMALL, LARGE_GPU if backend == "nccl" else LARGE_CPU)

    def links(self) -> list[Link]:
        """Send a known tensor over every link, on all ranks together; the same list on each."""
        found = []
        for turn in _turns(self.peers.world):
            until = time.monotonic() + self.seconds + 2 * GRACE
            mine = [n for n in turn if self.peers.rank in self._ends(n) and not self._cut(n)]
            faults = [self._tried(n) for n in mine]
            self.peers.tell(f"{self.backend} turn {turn[0]}", "; ".join(fault for fault in faults if fault))
            told = self.peers.hear_all(
                f"{self.backend} turn {turn[0]}", until - time.monotonic(), self.silent
            )
            found += [Link(*self._ends(n), self._fault(n, told)) for n in turn]
            self.silent |= {rank for rank, words in enumerate(told) if words is None}
        return sorted(found, key=lambda link: link.source)

    def exchanges(self) -> list[Transfer] | str:
        """Time all-reduces of all ranks, small and large; a sentence where they fail."""
        until = time.monotonic() + self.seconds + 2 * GRACE
        found = self._within(self.seconds + GRACE, self._exchanged)
        self.peers.tell(f"{self.backend} exchanges", found if isinstance(found, str) else "")
        told = self.peers.hear_all(f"{self.backend} exchanges", until - time.monotonic())
        faults = [
            f"rank {rank}: {'no answer' if words is None else words}"
            for rank, words in enumerate(told)
            if words != ""
        ]
        return "; ".join(faults) if faults or isinstance(found, str) else found

    def _ends(self, link: int) -> tuple[int, int]:
        return link, (link + 1) % self.peers.world

    def _cut(self, link: int) -> bool:
        return any(end in self.silent for end in self._ends(link))

    def _fault(self, link: int, told: list[str | None]) -> str:
        """What is wrong with a link by what its ends told; where the data arrive has the first word."""
        source, target = self._ends(link)
        for end in (target, source):
            if told[end] is None:
                return f"rank {end} did not answer within {self.seconds:g} s"
        return told[target] or told[source] or ""

    def _tried(self, link: int) -> str:
        return self._within(self.seconds + GRACE, lambda: self._passed(link))

    def _passed(self, link: int) -> str:
        end = self._ends(link).index(self.peers.rank)
        with self._group(f"link {link}", end, 2) as store:
            sent = torch.arange(LINK_NUMBERS, dtype=torch.float32, device=self.device) + link
            got = sent if end == 0 else torch.zeros_like(sent)
            if end == 0:
                dist.send(sent, dst=1)
            else:
                dist.recv(got, src=0)
            self._settle()
            # Nobody leaves a group in which the other may still be busy.
            store.set(f"done {end}", "yes")
            store.wait([f"done {1 - end}"], timedelta(seconds=self.seconds))
        return "" if torch.equal(got, sent) else "what arrived is not what was sent"

    def _exchanged(self) -> list[Transfer] | str:
        with self._group("all", self.peers.rank, self.peers.world):
            found = []
            for size in self.sizes:
                seconds = []
                for _ in range(ROUNDS + 1):
                    numbers = torch.full((size // 4,), self.peers.rank + 1.0, device=self.device)
                    dist.barrier()
                    self._settle()
                    started = time.perf_counter()
                    dist.all_reduce(numbers)
                    self._settle()
                    seconds.append(time.perf_counter() - started)
                    if not (numbers == self.peers.world * (self.peers.world + 1) / 2).all():
                        return f"the sum of {size} bytes over all ranks is wrong"
                found.append(Transfer(size, statistics.median(seconds[1:])))  # the first makes connections
            dist.barrier()
            return found

    @contextmanager
    def _group(self, name: str, rank: int, world: int) -> Iterator[dist.Store]:
        """The default group, for a while, of these ranks alone; gives a store of this thread's own."""
        name = f"{self.backend} {name}"
        own = self.peers.store.clone()  # pyright: ignore[reportAttributeAccessIssue]
        store = dist.PrefixStore(name, own)
        if self.backend == "nccl":
            torch.cuda.set_device(self.device)
        # NCCL ends the whole process when time is up; it is given so much that we can speak before.
        limit = self.seconds if self.backend == "gloo" else 10 * self.seconds + 60
        dist.init_process_group(
            self.backend,
            store=store,
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=limit),
            group_name=name,
        )
        try:
            yield store
        finally:
            dist.destroy_process_group()

    def _settle(self) -> None:
        """Wait until the device has done what it was told."""
        if self.backend == "nccl":
            torch.cuda.synchronize(self.device)

    def _within(self, seconds: float, work: Callable[[], T]) -> T | str:
        """What `work` gives, or a sentence where it fails or does not end; nothing is tried after that."""
        if self.stuck:
            return "not tried, for something hangs already"
        done: queue.Queue[T | str] = queue.Queue()

        def worked() -> None:
            try:
                done.put(work())
            except RuntimeError as error:
                done.put(str(error).splitlines()[0])

        threading.Thread(target=worked, daemon=True).start()
        try:
            return done.get(timeout=seconds)
        except queue.Empty:
            self.stuck = True
            return f"nothing passed within {self.seconds:g} s"


def _turns(world: int) -> list[list[int]]:
    """Links that are tried at once, no two of which have an end in common."""
    odd_one = [world - 1] if world % 2 and world > 1 else []
    others = range(world - len(odd_one))
    return [turn for turn in (list(others[0::2]), list(others[1::2]), odd_one) if turn]
