"""A module and its optimiser as a run's strategy has them: what one optimiser step is made of."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vdit.parallel.autocast import Autocast
from vdit.parallel.optimizer_state import OptimizerState, joined, parted
from vdit.parallel.weights import Weights, WholeWeights
from vdit.weights.slices import entry_of, whole_slice
from vdit.weights.source import WeightSource

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["FabricStepper", "Stepper"]


class Stepper(ABC):
    """One optimiser step, in pieces that the loop puts together.

    Attributes:
        module: what is called; a wrapper of the module that is trained.
        optimizer: whose groups have the rates.
        weights: what this process holds of them.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    weights: Weights

    @abstractmethod
    def accumulating(self, active: bool) -> AbstractContextManager[None]:
        """Inside, while `active`, gradients are summed and no step follows."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add to the gradients."""

    @abstractmethod
    def gradient_norm(self) -> Tensor:
        """The 2-norm of all gradients together, the mean over ranks of which is stepped along."""

    @abstractmethod
    def update(self, norm: Tensor, stay: Bool[Tensor, ""]) -> None:
        """Step along gradients whose norm is `norm`, scaled down to the limit, and forget them.

        Where `stay` is up, nothing changes. Both are on the device, and are not waited for.
        """

    @abstractmethod
    def optimizer_state(self) -> OptimizerState:
        """The state of the optimiser over whole weights, as one process would save it; nothing is copied."""

    @abstractmethod
    def load_optimizer_state(self, settings: Mapping[str, Any], source: WeightSource) -> None:
        """Put back what `optimizer_state` gave, under whatever strategy it did.

        Args:
            settings: its settings.
            source: has the whole tensors; what this process does not hold is not read.
        """


class FabricStepper(Stepper):
    """One device, or several with a copy of the weights each (DDP).

    Args:
        fabric: launched.
        module: what is trained.
        optimizer: over its weights; a fused one of torch, or one that heeds `grad_scale` and `found_inf` too.
        limit: gradients are scaled down to this norm.
        half: whether matrix products are in bfloat16.
        runs_ahead: whether the host goes on while the device computes, and must read nothing from it.
    """

    def __init__(
        self,
        fabric: "Fabric",
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        limit: float,
        half: bool,
        runs_ahead: bool,
    ) -> None:
        self._limit, self._runs_ahead = limit, runs_ahead
        self._device, self._saves = fabric.device, fabric.is_global_zero
        fabric.to_device(module)
        called = Autocast(module, fabric.device.type) if half else module
        # Not by fabric.setup, whose wrappers walk through all that a module is given.
        self.module, self.optimizer = fabric.strategy.setup_module(called), optimizer
        self._fused: Any = optimizer
        self.weights = WholeWeights(module, saves=self._saves)
        self._trained = [p for group in optimizer.param_groups for p in group["params"]]

    def accumulating(self, active: bool) -> AbstractContextManager[None]:
        if active and isinstance(self.module, DistributedDataParallel):
            return self.module.no_sync()
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def gradient_norm(self) -> Tensor:
        # What get_total_norm does on a GPU alone: on a CPU it would walk over the gradients in Python.
        norms = torch._foreach_norm([p.grad for p in self._trained if p.grad is not None])
        return torch.linalg.vector_norm(torch.stack(norms))

    def update(self, norm: Tensor, stay: Bool[Tensor, ""]) -> None:
        scale, moves = norm / self._limit, True
        if self._runs_ahead:  # fused optimisers clip and stay on the device, in the pass they make anyway
            self._fused.grad_scale, self._fused.found_inf = scale.clamp(min=1), stay.float()
        else:  # the numbers are here: nothing is divided by 1
            over, moves = scale if scale > 1 else None, not stay
            if over is not None and self._device.type != "cpu":  # where torch's fused kernels may not heed it
                torch._foreach_div_([p.grad for p in self._trained if p.grad is not None], over)
                over = None
            self._fused.grad_scale = over
        if moves:
            self.optimizer.step()
        self.optimizer.zero_grad()

    def optimizer_state(self) -> OptimizerState:
        tensors, settings = parted(self.optimizer.state_dict())
        entries = {name: entry_of(tensor) for name, tensor in tensors.items()}
        slices = [whole_slice(name, tensor) for name, tensor in tensors.items()] if self._saves else []
        return OptimizerState(settings, entries, slices)

    def load_optimizer_state(self, settings: Mapping[str, Any], source: WeightSource) -> None:
        # The optimiser would keep tensors that are where it wants them, and these may be a file's own pages.
        own = ((n, t.to(self._device if t.ndim else t.device, copy=True)) for n, t in source.tensors())
        self.optimizer.load_state_dict(joined(own, settings))
