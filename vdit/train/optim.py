"""Optimisers and the learning rate as a function of the step."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress
from operator import not_
from typing import Literal

import torch
from torch import nn

from vdit.types import InputError

__all__ = ["Optim", "build_optimizer", "learning_rate", "set_learning_rate"]


@dataclass(frozen=True)
class Optim:
    """AdamW and its schedule.

    Args:
        lr: peak learning rate.
        betas: decay of the first and second moment.
        weight_decay: applied to matrices and kernels, never to norms and biases.
        warmup_steps: steps of linear rise to the peak.
        decay: how the rate falls from there to the last step: not at all, linearly or by half a cosine.
        final: where the rate ends, just after the last step, over the peak.
        clip_norm: gradients are scaled down to this norm.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    warmup_steps: int = 50
    decay: Literal["none", "linear", "cosine"] = "linear"
    final: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.clip_norm <= 0:
            raise InputError(f"lr {self.lr} and clip_norm {self.clip_norm} must be above 0")


def build_optimizer(module: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """AdamW over the trainable weights, decaying matrices only (Loshchilov & Hutter 2019)."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    # A norm's weight may carry axes of length 1 (c 1 1 1), which do not make it a kernel.
    kernels = [p.numel() > max(p.shape, default=1) for p in trainable]
    groups = [
        {"params": list(compress(trainable, kernels)), "weight_decay": optim.weight_decay},
        {"params": list(compress(trainable, map(not_, kernels))), "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)


def learning_rate(optim: Optim, step: int, steps: int) -> float:
    """The rate of step `step` (from 0) of a run of `steps`: a pure function, so resuming needs no state."""
    rise = min(1.0, (step + 1) / max(1, optim.warmup_steps))
    done = max(0.0, (step - optim.warmup_steps) / max(1, steps - optim.warmup_steps))
    fall = {"none": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[optim.decay]
    return optim.lr * rise * (optim.final + (1 - optim.final) * fall)


def set_learning_rate(groups: Iterable[dict], rate: float) -> None:
    """Give every parameter group the same rate."""
    for group in groups:
        group["lr"] = rate
