"""The processes of a job before any link between them is trusted: short texts through one store."""

import os
import time
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist

from vdit.types import InputError

__all__ = ["Peers", "Unreachable", "started_peers"]

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LEAST_SECONDS = 0.05
"""For one who is asked after the time is up: what was said before is still heard."""


class Unreachable(RuntimeError):
    """The process that all others meet at does not answer; the message says where it should be."""


@dataclass(frozen=True)
class Peers:
    """One process's view of all. Nothing here is a collective: one that is silent makes nobody hang.

    Attributes:
        rank: this process.
        world: how many were started.
        store: what all of them can write to and read.
    """

    rank: int
    world: int
    store: dist.Store

    def tell(self, topic: str, text: str) -> None:
        """Say something to all, once for each topic. Raises Unreachable where the store is gone."""
        try:
            self.store.set(f"{topic}/{self.rank}", text)
        except RuntimeError as error:
            raise Unreachable(f"the store of the job does not answer: {error}") from error

    def hear(self, topic: str, rank: int, seconds: float) -> str | None:
        """What a rank says of a topic; None where it says nothing for so long."""
        key = f"{topic}/{rank}"
        try:
            self.store.wait([key], timedelta(seconds=max(seconds, LEAST_SECONDS)))
            return self.store.get(key).decode()
        except RuntimeError:  # of time and of the network alike: there is no answer
            return None

    def hear_all(self, topic: str, seconds: float, silent: frozenset[int] = frozenset()) -> list[str | None]:
        """What every rank says of a topic, all of them within `seconds`; the `silent` are not waited for."""
        until = time.monotonic() + seconds
        return [
            None if rank in silent else self.hear(topic, rank, until - time.monotonic())
            for rank in range(self.world)
        ]


def started_peers(seconds: float) -> Peers | None:
    """The processes that torchrun started beside this one; None where it runs alone.

    Raises:
        InputError: the variables that torchrun sets are not all there.
        Unreachable: the machine of the first process does not answer for so many seconds.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    try:
        rank, world, host, port = (os.environ[name] for name in VARIABLES)
        place = (int(rank), int(world), int(port))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but of {', '.join(VARIABLES)} not all can be used "
            f"({error}): start with torchrun, which sets them"
        ) from error
    # torchrun's own process holds the store; without it, the first process does.
    held = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        store = dist.TCPStore(
            host,
            place[2],
            is_master=place[0] == 0 and not held,
            timeout=timedelta(seconds=seconds),
            wait_for_workers=False,
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise Unreachable(
            f"rank {rank} cannot reach the meeting point of the job at {host}:{port} ({reason})"
        ) from error
    return Peers(place[0], place[1], dist.PrefixStore("doctor", store))
