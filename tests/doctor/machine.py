"""A machine as a test wants it: packages that seem installed, and processes that meet."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from vdit.doctor.finding import Finding

__all__ = ["only", "pretend", "run_job"]


def pretend(folder: Path, name: str, version: str, *lines: str) -> None:
    """Have `folder`, once it is on the path, hold what an installer leaves of a package."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    head = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*head, *lines]) + "\n")


def only(findings: list[Finding] | tuple[Finding, ...], name: str) -> Finding:
    """The one finding of that name."""
    [found] = [finding for finding in findings if finding.name == name]
    return found


def run_job(work: Callable[..., Any], world: int, *args: Any) -> None:
    """Call `work(rank, *args)` in processes that meet as torchrun's do; where one fails, the test does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_begin, (work, world, port, args), nprocs=world)


def _begin(rank: int, work: Callable[..., Any], world: int, port: int, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    work(rank, *args)
