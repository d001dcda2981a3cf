"""Processes that talk over gloo, started by a test and joined by it."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

__all__ = ["run_ranks"]

# Ranks are forks of a process that has these and no threads: to import them takes longer than most work.
FORKS = "forkserver"
multiprocessing.get_context(FORKS).set_forkserver_preload(["torch.distributed", "torch.testing"])


def run_ranks(work: Callable[..., Any], world: int, folder: Path, *args: Any) -> None:
    """Call `work(rank, world, *args)` in `world` processes that form a group; where one fails, the test does.

    `work` must be importable: it lives in a module beside this one.
    """
    store = folder / "store"
    store.unlink(missing_ok=True)
    mp.start_processes(_begin, (work, world, str(store), args), nprocs=world, start_method=FORKS)


def _begin(rank: int, work: Callable[..., Any], world: int, store: str, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}  # as torchrun has it
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    dist.barrier()  # one that has little to do must not leave while others still connect to it
    try:
        work(rank, world, *args)
    finally:
        dist.destroy_process_group()
