"""A training step without its arithmetic: every operation runs on tensors that have shapes and no values."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vdit.draws import Draws
from vdit.nn.rope import grid_rotation
from vdit.parallel.autocast import Autocast
from vdit.plan.ledger import Ledger
from vdit.train.step import StepOutput
from vdit.types import on_tensors

__all__ = ["Blank", "Rehearsal", "rehearse", "rehearse_forward"]


@dataclass(frozen=True)
class Rehearsal:
    """What one step of one micro-batch holds and computes on one device.

    Attributes:
        inputs: bytes of the batch and of what its conditions ask.
        kept: bytes between forward and backward, without `inputs`.
        cast: of these, copies of weights in half precision.
        most: bytes at most, `inputs` among them, without gradients of weights.
        most_with_gradients: bytes at most with those of the gradients that are there by then.
        optimiser_most: bytes at most that the optimiser needs for a moment.
        gradients: bytes of the gradients of weights.
        states: bytes of the optimiser's states.
        forward: operations of the forward pass.
        backward: operations of the backward pass, without those that are computed again.
        again: operations of the forward that the backward pass computes again.
    """

    inputs: int
    kept: int
    cast: int
    most: int
    most_with_gradients: int
    optimiser_most: int
    gradients: int
    states: int
    forward: int
    backward: int
    again: int


class Blank(Draws):
    """Random numbers by which a step is as large as it gets: nothing is hidden, all there can be is shown.

    Noise has a shape and no values.
    """

    def uniform(self, n: int, *shape: int) -> Tensor:
        return torch.full((n, *shape), 0.999)

    def strata(self, n: int) -> Tensor:
        return torch.full((n,), 0.5)

    def order(self, n: int) -> Tensor:
        return torch.arange(n)

    def normal(self, shape: Any, like: Tensor) -> Tensor:
        return torch.empty(tuple(shape), device=like.device, dtype=like.dtype)


Work = Callable[[nn.Module, Any], StepOutput]


def rehearse(
    module: nn.Module,
    inputs: Any,
    work: Work,
    optimizer_of: Callable[[nn.Module], torch.optim.Optimizer],
    half: bool,
    norms_in_full: bool,
    answer: int = 0,
) -> Rehearsal:
    """Forward, backward and optimiser step of a module on `meta`, which is of no use afterwards.

    Args:
        module: arranged as for training.
        inputs: what `work` reads, on `meta`: tensors in tuples and tables.
        work: the step of a module and inputs.
        optimizer_of: makes the optimiser of the module.
        half: whether matrix products are in bfloat16.
        norms_in_full: whether layer norms are in float32 all the same, as autocast has it on CUDA.
        answer: what a number is taken for that is read out of a tensor.
    """
    grid_rotation.cache_clear()  # kept from elsewhere it would not be counted, and from here it has no values
    gc.collect()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            _forget_values(module)
            module.train()
            wrapped = Autocast(module, "cpu") if half else module
            # Around the backward pass too, which computes blocks again.
            with _norms_in_full() if half and norms_in_full else nullcontext():
                return _rehearsed(module, wrapped, inputs, work, optimizer_of, answer)
    finally:
        grid_rotation.cache_clear()


def rehearse_forward(module: Any, inputs: Any, work: Callable[[Any, Any], Any], answer: int = 0) -> int:
    """Bytes that one evaluation of a module on `meta` holds at most, inputs and what it keeps among them.

    The module is of no use afterwards. Arguments as in `rehearse`.
    """
    grid_rotation.cache_clear()
    gc.collect()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            _forget_values(module)
            module.eval()
            ledger = Ledger([*module.parameters(), *module.buffers()], answer)
            with ledger:
                work(module, _made(inputs))
            return ledger.most
    finally:
        grid_rotation.cache_clear()


def _made(inputs: Any) -> Any:
    """The same shapes, as tensors that count."""
    return on_tensors(inputs, lambda value: torch.empty(value.shape, dtype=value.dtype, device="cpu"))


def _rehearsed(
    module: nn.Module,
    wrapped: nn.Module,
    inputs: Any,
    work: Work,
    optimizer_of: Callable[[nn.Module], torch.optim.Optimizer],
    answer: int,
) -> Rehearsal:
    optimizer = optimizer_of(module)
    ledger = Ledger([*module.parameters(), *module.buffers()], answer)
    trained = [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        p.register_post_accumulate_grad_hook(lambda p: ledger.take_gradient(p.grad))  # pyright: ignore
    with ledger:
        given = _made(inputs)
        at_start = ledger.live
        loss = work(wrapped, given).loss.mean()
        kept, cast, forward = ledger.live - at_start, ledger.cast, ledger.flops
        ledger.backward = True
        loss.backward()
        ledger.backward = False
        backward, again = ledger.flops - forward - ledger.flops_again, ledger.flops_again
        most, most_with_gradients, gradients = ledger.most, ledger.most_with_gradients, ledger.gradients
        del loss
        fused: Any = optimizer
        fused.grad_scale, fused.found_inf = torch.ones(()), torch.zeros(())  # as on a GPU
        optimizer.step()  # which makes the states
        ledger.most = before = ledger.live
        optimizer.step()
        optimiser_most = ledger.most - before
    states = sum(_bytes(value) for value in _tensors(_states(optimizer)))
    return Rehearsal(
        at_start, kept, cast, most, most_with_gradients, optimiser_most, gradients, states, forward, backward,
        again,
    )  # fmt: skip


def _forget_values(module: nn.Module) -> None:
    """Give a module new weights and buffers, which inside a `FakeTensorMode` have no values."""
    made: dict[int, Any] = {}
    for part in module.modules():
        for name, p in list(part._parameters.items()):
            if p is not None:
                fresh = nn.Parameter(torch.empty(p.shape, dtype=p.dtype, device="cpu"), p.requires_grad)
                part._parameters[name] = made.setdefault(id(p), fresh)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                fresh = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")
                part._buffers[name] = made.setdefault(id(buffer), fresh)


@contextmanager
def _norms_in_full() -> Iterator[None]:
    """Inside, layer norms under autocast are in float32, also those that a backward pass computes again."""

    def widened(norm: Callable[..., Any]) -> Callable[..., Any]:
        def normed(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            return norm(x.float() if torch.is_autocast_enabled("cpu") else x, *args, **kwargs)

        return normed

    with (
        patch.object(F, "layer_norm", widened(F.layer_norm)),
        patch.object(torch, "native_layer_norm", widened(torch.native_layer_norm)),
    ):
        yield


def _states(optimizer: torch.optim.Optimizer) -> Iterator[Any]:
    """What an optimiser remembers; one made of two has the states of both."""
    saved = optimizer.state_dict()
    for part in [saved] if "state" in saved else saved.values():
        yield part["state"]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, Iterator):
        for part in value:
            yield from _tensors(part)


def _bytes(value: Tensor) -> int:
    return value.untyped_storage().nbytes()
