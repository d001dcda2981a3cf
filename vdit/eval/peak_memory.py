"""How much memory a piece of work needs at most, in a process of its own."""

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TypeVar

__all__ = ["peak_memory"]

_STATM = Path("/proc/self/statm")
_PAGE = 4096

Argument = TypeVar("Argument")


def peak_memory(build: Callable[[Argument], Callable[[], object]], argument: Argument) -> int | None:
    """Bytes that the work which `build` returns adds to its process at most; None where this is not Linux.

    Args:
        build: importable by name; runs in a new process, unmeasured.
        argument: what it is given.
    """
    if not _STATM.exists():
        return None
    context = multiprocessing.get_context("spawn")
    answers: Queue[int] = context.Queue()
    process = context.Process(target=_measure, args=(build, argument, answers))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the process that measures memory ended with {process.exitcode}")
    return answers.get()


def _measure(
    build: Callable[[Argument], Callable[[], object]], argument: Argument, answers: "Queue[int]"
) -> None:
    work = build(argument)
    before, peaks, over = _resident(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.0005):
            peaks.append(max(peaks.pop(), _resident()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    over.set()
    watcher.join()
    answers.put(max(0, peaks[0] - before))


def _resident() -> int:
    return int(_STATM.read_text().split()[1]) * _PAGE
