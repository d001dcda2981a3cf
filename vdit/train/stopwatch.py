"""How long a device computes, measured without waiting for it."""

import time

import torch

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up the time that `with` blocks take on a device; read it later, when the device is done anyway."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    def __enter__(self) -> "Stopwatch":
        if self._cuda:
            self._spans.append((torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)))
            self._spans[-1][0].record()
        else:
            self._since = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self._cuda:
            self._spans[-1][1].record()
        else:
            self._seconds += time.perf_counter() - self._since

    def seconds(self) -> float:
        """All blocks together; it waits for the last of them."""
        if self._spans:
            self._spans[-1][1].synchronize()
        return self._seconds + sum(begin.elapsed_time(end) for begin, end in self._spans) / 1000
