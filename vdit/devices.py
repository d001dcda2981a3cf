"""Where a tensor may live on this machine, by name."""

import torch

from vdit.types import InputError

__all__ = ["available_device"]


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
