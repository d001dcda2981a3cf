"""A process that another one started ends with it while they have not met: until then nothing else tells it.

torchrun, DeepSpeed's launcher and srun end what they started themselves. Where Fabric starts the processes of
a node, the first of them is the parent of the others, and these would go on asking for it until the limit of
their exchanges, which `parallel.timeout` sets.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vdit.parallel.launch import LOST, Launch

__all__ = ["ended_with_parent"]

PARENT = "VDIT_PARENT"
"""The variable by which a process tells those it starts who it is: it may be gone before they can look."""

PAUSE = 0.5


@contextmanager
def ended_with_parent(launch: Launch) -> Iterator[None]:
    """Within it the processes of a node meet; one whose parent ends says so, and ends with status 5."""
    if not launch.by and launch.first_of_node:
        os.environ[PARENT] = str(os.getpid())
    parent = None if launch.by or launch.first_of_node else os.environ.get(PARENT)
    if parent is None:
        yield
        return
    met = threading.Event()
    threading.Thread(target=_watch, args=(int(parent), met), name="parent", daemon=True).start()
    try:
        yield
    finally:
        met.set()


def _watch(parent: int, met: threading.Event) -> None:
    while not met.wait(PAUSE):
        if os.getppid() != parent:
            print(
                "error: the first process of this node ended before all had met; its own message says why",
                file=sys.stderr,
                flush=True,
            )
            os._exit(LOST)
