"""Muon, and Muon for some matrices with AdamW for everything else as one optimiser."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Muon", "MuonAdamW", "orthogonalised"]

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial a x + b x^3 + c x^5; see `orthogonalised` for where it carries singular values."""

ADAMW_RMS = 0.2
"""The usual root mean square of AdamW's updates over its learning rate."""


@torch.no_grad()
def orthogonalised(
    matrices: Float[Tensor, "k rows columns"], iterations: int
) -> Float[Tensor, "k rows columns"]:
    """Each matrix with its singular vectors kept and its singular values brought near 1.

    By Newton-Schulz iterations: after five, values above a hundredth of the root of the sum of all squares
    lie between 0.5 and 1.3. In bfloat16 on CUDA; elsewhere in float32, as a CPU without bfloat16 arithmetic
    would take twenty times as long.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if x.is_cuda else x.float()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(iterations):
        square = x @ x.mT  # k rows rows
        bend = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, bend, x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Steps along the momentum with its singular values brought near 1, so that no direction is left behind.

    torch has a Muon that works in bfloat16 only, one matrix at a time; this one is for CPUs too, and takes
    matrices of one shape together.

    As torch's fused optimisers do, it divides gradients by `grad_scale` and leaves everything as it is where
    `found_inf` is 1; both are set before a step, and stay on the device.

    Args:
        params: matrices, or groups of them.
        lr: an update has the size of AdamW's at this rate (Liu et al. 2025, eq. 4).
        weight_decay: decoupled, as in AdamW.
        momentum: decay of the average of gradients; the update looks one step ahead (Nesterov).
        iterations: see `orthogonalised`.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float,
        momentum: float,
        iterations: int,
    ) -> None:
        settings = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "iterations": iterations}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every matrix that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for alike in shapes.values():
                self._step(alike, group)
        return loss

    def _step(self, alike: list[Tensor], group: Mapping[str, Any]) -> None:
        gradients = [p.grad for p in alike if p.grad is not None]
        for p in alike:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        averages = [self.state[p]["momentum"] for p in alike]
        found = torch.stack(gradients)
        if self.grad_scale is not None:
            found.div_(self.grad_scale)
        if self.found_inf is not None:  # an average of itself stays what it is
            found = torch.where(self.found_inf > 0, torch.stack(averages), found)
        torch._foreach_lerp_(averages, found.unbind(), 1 - group["momentum"])
        torch._foreach_lerp_(found.unbind(), averages, group["momentum"])
        updates, decay = orthogonalised(found, group["iterations"]), group["lr"] * group["weight_decay"]
        if self.found_inf is not None:
            moves = 1 - self.found_inf
            updates, decay = updates.mul_(moves), moves * decay
        size = ADAMW_RMS * math.sqrt(max(updates.shape[-2:]))
        torch._foreach_mul_(alike, 1 - decay)
        torch._foreach_add_(alike, updates.unbind(), alpha=-group["lr"] * size)


class MuonAdamW(torch.optim.Optimizer):
    """Both as one, so that they step, are saved and have their rates set together.

    `param_groups` are those of Muon, then those of AdamW: the very dictionaries, so that a rate set here is
    a rate set there.

    Args:
        muon: over the matrices between hidden layers.
        adamw: over the rest.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(self, muon: Muon, adamw: torch.optim.AdamW) -> None:
        self._both = {"muon": muon, "adamw": adamw}
        super().__init__([*muon.param_groups, *adamw.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        for optimizer in self._both.values():
            optimizer.grad_scale, optimizer.found_inf = self.grad_scale, self.found_inf  # pyright: ignore
        loss = self._both["muon"].step(closure)
        self._both["adamw"].step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of each by its name."""
        return {name: optimizer.state_dict() for name, optimizer in self._both.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what `state_dict` gave.

        Raises:
            KeyError: a state of another optimiser.
            ValueError: groups of other sizes.
        """
        for name, optimizer in self._both.items():
            optimizer.load_state_dict(state_dict[name])
        self.param_groups = [group for optimizer in self._both.values() for group in optimizer.param_groups]
