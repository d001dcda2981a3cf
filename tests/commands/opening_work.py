"""Opens runs and models in a process of its own and prints how much memory that took, over their weights."""

import ctypes
import gc
import sys
from pathlib import Path

from vdit.commands.trained import Opened, load_model, load_trained

M_MMAP_THRESHOLD = -3
"""As malloc.h has it."""


def opened(folder: Path) -> Opened:
    return (load_model if (folder / "model.yaml").is_file() else load_trained)(folder, device="cpu")


def resident(what: str) -> int:
    """Bytes of this process in memory, now (`VmRSS`) or at most (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def peak(folder: Path) -> float:
    """What opening takes at most, over the bytes of the weights."""
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    model = opened(folder)
    most = resident("VmHWM") - before
    weights = sum(p.numel() * p.element_size() for p in model.task.denoiser.parameters())
    assert weights > 200e6
    return most / weights


if __name__ == "__main__":
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)  # what is freed is given back at once
    folders = [Path(folder) for folder in sys.argv[1:]]
    small, large = folders[: len(folders) // 2], folders[len(folders) // 2 :]
    for folder in small:
        opened(folder)  # what is imported and made once is there now
    print(*(f"{peak(folder):.3f}" for folder in large))
