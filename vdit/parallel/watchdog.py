"""A run that hangs ends with a message: who waits where, for whom, and the stacks of every thread."""

import faulthandler
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import TextIO

import torch.distributed as dist

from vdit.parallel.launch import LOST

__all__ = ["Watchdog"]

GRACE = 5.0
"""Seconds that a process stays after its message: the first to leave takes the others with it."""


@dataclass(frozen=True)
class Place:
    """Where a process is.

    Attributes:
        moment: counts the places it has come to.
        step: of the run.
        what: it does, such as "waiting for clips".
        since: when it came there, by its own monotonic clock.
        watched: whether it may not stay.
    """

    moment: int
    step: int
    what: str
    since: float
    watched: bool


class Watchdog:
    """Looks, from a thread, whether the training of this process moves on; if not, tells why and ends it.

    Processes tell each other where they are, through the store that brought them together, so that every
    message names the one that all others wait for. Enter it where training begins.

    Args:
        rank: of this process.
        world: processes of the run.
        limit: seconds that a process may stay in one place.
        stream: where messages go; standard error if not given.
    """

    def __init__(self, rank: int, world: int, limit: float, stream: TextIO | None = None) -> None:
        self._rank, self._world, self._limit = rank, world, limit
        self._stream = stream or sys.stderr
        self.host = socket.gethostname()
        self._place = Place(0, 0, "starting", time.monotonic(), watched=False)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def at(self, step: int, what: str, watched: bool = True) -> None:
        """This process has come to a new place; where it is not watched it may stay as long as it likes."""
        self._place = Place(self._place.moment + 1, step, what, time.monotonic(), watched)

    def now(self, what: str) -> None:
        """This process has come to a new place in the same step."""
        self.at(self._place.step, what)

    def __enter__(self) -> "Watchdog":
        self._over.clear()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _look(self) -> None:
        store = _store() if self._world > 1 else None
        pause = min(5.0, self._limit / 10)
        while not self._over.wait(pause):
            place = self._place
            stayed = time.monotonic() - place.since
            if store is not None:
                _tell(
                    store,
                    self._rank,
                    f"{place.moment}\n{place.step}\n{place.what}\n{self.host}\n{stayed:.0f}",
                )
            if place.watched and stayed > self._limit:
                self._report(place, stayed, store)
                time.sleep(GRACE)
                if not self._over.is_set() and self._place is place:
                    os._exit(LOST)

    def _report(self, place: Place, stayed: float, store: "dist.Store | None") -> None:
        print(
            f"error: rank {self._rank} ({self.host}) has been {place.what} at step {place.step} for "
            f"{stayed:.0f} s; parallel.timeout allows {self._limit:.0f}. {self._blame(store)}The stacks of "
            "its threads follow; the same command goes on from the last checkpoint.",
            file=self._stream,
            flush=True,
        )
        faulthandler.dump_traceback(self._stream, all_threads=True)
        self._stream.flush()

    def _blame(self, store: "dist.Store | None") -> str:
        """Who is behind all others. The store may be gone with its host, so it is asked from a thread."""
        if store is None:
            return ""
        told: dict[int, list[str]] = {}
        asking = threading.Thread(target=_ask, args=(store, self._world, told), daemon=True)
        asking.start()
        asking.join(GRACE)
        silent = [rank for rank in range(self._world) if rank not in told]
        if len(silent) == self._world:
            return "Rank 0 does not answer: it has stopped, or the link to it is cut. "
        if silent:
            never = ", ".join(map(str, silent[:4]))
            return f"Rank {never} has not been heard of since training began. "
        least = min(int(words[0]) for words in told.values())
        behind = [
            f"rank {rank} ({host}), {what} at step {step} for {stayed} s"
            for rank, (moment, step, what, host, stayed) in sorted(told.items())
            if int(moment) == least
        ]
        if len(behind) == self._world:
            return "All ranks are there: the exchange between them does not end. "
        return f"Behind all others: {'; '.join(behind[:4])}. "


def _store() -> "dist.Store":
    from torch.distributed.distributed_c10d import _get_default_store

    return dist.PrefixStore("vdit_watchdog", _get_default_store())


def _tell(store: "dist.Store", rank: int, said: str) -> None:
    try:
        store.set(str(rank), said)
    except RuntimeError:  # the store's host is gone; the message will say so when its time has come
        return


def _ask(store: "dist.Store", world: int, told: dict[int, list[str]]) -> None:
    for rank in range(world):
        if store.check([str(rank)]):
            told[rank] = store.get(str(rank)).decode().split("\n")
