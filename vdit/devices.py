"""Where a tensor may live on this machine, by name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vdit.types import InputError

__all__ = ["available_device", "free_memory", "has_bfloat16", "out_of_memory", "within_memory"]


def available_device(name: str) -> torch.device:
    """The device called `name`: cpu, cuda, cuda:1, mps ...; auto is the accelerator there is, or the CPU.

    Raises:
        InputError: no kind of device has that name, or this machine has none of the kind.
    """
    there = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return there or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"device {name!r} is not one that torch knows: use cpu, cuda, cuda:1 or auto"
        ) from error
    here = there is not None and device.type == there.type
    if device.type != "cpu" and not (here and (device.index or 0) < torch.accelerator.device_count()):
        raise InputError(
            f"device {name} is not there: this machine has {there or 'no accelerator'}; use auto or cpu"
        )
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself, and does not only imitate it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return True


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of a device or of the machine, did not suffice."""
    said = str(error)
    words = ("out of memory", "not enough memory", "DefaultCPUAllocator", "Cannot allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in said for word in words)


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on a device now; of the CPU, what the system and limits leave."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    about, limits = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if about.is_file():
        lines = dict(line.split(":", 1) for line in about.read_text().splitlines() if ":" in line)
        free = 1024 * int(lines["MemAvailable"].split()[0])
    try:
        most, now = (int((limits / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # another system, or no limit
        return free
    return min(free, most - now)


@contextmanager
def within_memory(work: str, remedy: str) -> Iterator[None]:
    """Inside, want of memory is an InputError: what there is too little for, and the remedy."""
    try:
        yield
        return
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Out here the error no longer holds what was computed.
    raise InputError(f"there is too little memory to {work} ({told}): {remedy}")
