"""A module whose matrix products are in bfloat16."""

from typing import Any

import torch
from torch import Tensor, nn

from vdit.types import on_tensors

__all__ = ["Autocast"]


class Autocast(nn.Module):
    """Calls a module in mixed precision: what goes in is left as it is, and what comes out is float32.

    Each operation narrows what it reads where that does no harm. To narrow what goes in would: bfloat16 has
    eight bits for sigma, for places and for what is noised, and takes 0.999 for 1.

    Args:
        module: what is called.
        device: the kind of device that it is on.
    """

    def __init__(self, module: nn.Module, device: str) -> None:
        super().__init__()
        self.module, self.device = module, device

    def forward(self, *args: Any) -> Any:
        with torch.autocast(self.device, torch.bfloat16, cache_enabled=False):  # see `Engine`
            out = self.module(*args)
        return on_tensors(out, _widened)


def _widened(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
