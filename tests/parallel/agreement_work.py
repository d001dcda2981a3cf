"""What ranks do in tests of their agreement and of the watchdog."""

import sys
import time
from pathlib import Path

import torch.distributed as dist

from vdit.parallel import watchdog
from vdit.parallel.agreement import Agreement
from vdit.parallel.watchdog import Watchdog


def agree(rank: int, world: int) -> None:
    agreement = Agreement(world)
    told = [agreement.highest(values[rank]) for values in ((0, 2), (1, 0), (0, 0))]
    assert told == [0, 2, 1], (rank, told)
    assert agreement.settled() == 0


def exchange_while_one_sleeps(rank: int, world: int, folder: Path) -> None:
    """Rank 1 never comes to the exchange of step 3; rank 0 waits for it there."""
    watchdog.GRACE = 1.0
    dog = Watchdog(rank, world, limit=1.0, stream=(folder / f"said_{rank}.txt").open("w"))
    with dog:
        for step in range(1, 4):
            dog.at(step, "waiting for clips")
            if rank == 1 and step == 3:
                oversleep()
            dog.at(step, "computing")
            dist.barrier()
    sys.exit("nobody noticed")


def oversleep() -> None:
    time.sleep(60)
