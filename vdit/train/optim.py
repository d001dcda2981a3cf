"""Optimisers and the learning rate as a function of the step."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import nn

from vdit.train.muon import Muon, MuonAdamW
from vdit.types import InputError

__all__ = ["MuonFor", "Optim", "build_optimizer", "learning_rate", "set_learning_rate"]


@dataclass(frozen=True)
class MuonFor:
    """Which matrices are trained by Muon in place of AdamW, and how.

    An update is the momentum with all its singular values brought near 1 (Jordan et al. 2024), scaled to
    the usual size of AdamW's (Liu et al. 2025, eq. 4), times `lr_scale`.

    Args:
        names: patterns of the names of the matrices, such as `*.blocks.*.mlp.*`: those between hidden
            layers; what reads inputs or writes outputs is AdamW's.
        lr_scale: the learning rate over that of AdamW.
        momentum: decay of the average of gradients.
        iterations: of the polynomial that brings the singular values near 1.
    """

    names: tuple[str, ...]
    lr_scale: float = 1.0
    momentum: float = 0.95
    iterations: int = 5

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("optim.muon.names is empty: name the matrices, or leave muon out")
        if self.lr_scale <= 0 or self.iterations < 1:
            raise InputError(
                f"muon.lr_scale {self.lr_scale} must be above 0, muon.iterations {self.iterations} at least 1"
            )
        if not 0 <= self.momentum < 1:
            raise InputError(f"muon.momentum {self.momentum} must lie in [0, 1): at 1 no gradient is heard")


@dataclass(frozen=True)
class Optim:
    """AdamW, for some matrices Muon, and their schedule.

    Args:
        lr: peak learning rate.
        lr_scales: patterns of names, such as `critic.*`, and what the rate of AdamW is multiplied by there.
        betas: decay of the first and second moment.
        weight_decay: applied to matrices and kernels, never to norms and biases.
        muon: matrices that Muon trains; none if not given.
        warmup_steps: steps of linear rise to the peak.
        decay: how the rate falls from there to the last step: not at all, linearly or by half a cosine.
        final: where the rate ends, just after the last step, over the peak.
        clip_norm: gradients are scaled down to this norm.
    """

    lr: float = 1e-3
    lr_scales: dict[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    muon: MuonFor | None = None
    warmup_steps: int = 50
    decay: Literal["none", "linear", "cosine"] = "linear"
    final: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.clip_norm <= 0:
            raise InputError(f"lr {self.lr} and clip_norm {self.clip_norm} must be above 0")
        for pattern, scale in self.lr_scales.items():
            if not scale > 0:
                raise InputError(f"optim.lr_scales gives {pattern!r} the scale {scale}, but must be above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas {list(self.betas)} must lie in [0, 1)")
        if self.weight_decay < 0 or self.warmup_steps < 0:
            raise InputError(
                f"weight_decay {self.weight_decay} and warmup_steps {self.warmup_steps} must not be negative"
            )
        if self.final < 0:
            raise InputError(f"optim.final {self.final} must not be negative: 0 ends at a rate of zero")


def build_optimizer(module: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """AdamW over the trainable weights, decaying matrices only (Loshchilov & Hutter 2019); Muon where asked.

    Raises:
        InputError: a pattern of `optim.muon` that names no matrix, or of `lr_scales` that names nothing.
    """
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    by_muon = _named(trainable, optim.muon.names) if optim.muon else {}
    rest = {name: p for name, p in trainable.items() if name not in by_muon}
    groups = []
    for scale, weights in _scaled(rest, optim.lr_scales):
        kernels = [p for p in weights if _is_kernel(p)]
        others = [p for p in weights if not _is_kernel(p)]
        groups.append({"params": kernels, "weight_decay": optim.weight_decay, "lr_scale": scale})
        groups.append({"params": others, "weight_decay": 0.0, "lr_scale": scale})
    adamw = torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)
    if optim.muon is None:
        return adamw
    asked = optim.muon
    matrices = [{"params": list(by_muon.values()), "lr_scale": asked.lr_scale}]
    rate = optim.lr * asked.lr_scale
    return MuonAdamW(Muon(matrices, rate, optim.weight_decay, asked.momentum, asked.iterations), adamw)


def _scaled(
    weights: dict[str, nn.Parameter], scales: dict[str, float]
) -> list[tuple[float, list[nn.Parameter]]]:
    """Weights by what their rate is multiplied by: those of the first pattern that names them, then the rest.

    Raises:
        InputError: a pattern that names none.
    """
    left, found = dict(weights), []
    for pattern, scale in scales.items():
        hits = [name for name in left if fnmatchcase(name, pattern)]
        if not hits:
            raise InputError(
                f"optim.lr_scales has {pattern!r}, which names no trainable weight; there are "
                f"{', '.join(list(left)[:6])}, ..."
            )
        found.append((scale, [left.pop(name) for name in hits]))
    return [(1.0, list(left.values())), *found]


def _is_kernel(p: nn.Parameter) -> bool:
    # A norm's weight may carry axes of length 1 (c 1 1 1), which do not make it a kernel.
    return p.numel() > max(p.shape, default=1)


def _named(trainable: dict[str, nn.Parameter], patterns: Iterable[str]) -> dict[str, nn.Parameter]:
    """The matrices any pattern names. Raises InputError on a pattern that names none."""
    matrices = {name: p for name, p in trainable.items() if p.ndim == 2}
    found = {}
    for pattern in patterns:
        hits = {name: p for name, p in matrices.items() if fnmatchcase(name, pattern)}
        if not hits:
            raise InputError(
                f"optim.muon.names has {pattern!r}, which names no trainable matrix; there are "
                f"{', '.join(list(matrices)[:6])}, ..."
            )
        found |= hits
    return found


def learning_rate(optim: Optim, step: int, steps: int) -> float:
    """The rate of step `step` (from 0) of a run of `steps`: a pure function, so resuming needs no state."""
    rise = min(1.0, (step + 1) / max(1, optim.warmup_steps))
    done = max(0.0, (step - optim.warmup_steps) / max(1, steps - optim.warmup_steps))
    fall = {"none": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[optim.decay]
    return optim.lr * rise * (optim.final + (1 - optim.final) * fall)


def set_learning_rate(groups: Iterable[dict], rate: float) -> None:
    """Give every parameter group the rate, times its own `lr_scale` if it has one."""
    for group in groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
