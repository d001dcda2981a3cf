"""Counts the bytes that a piece of work holds, moment by moment, and its arithmetic."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

__all__ = ["Ledger"]

ATEN = torch.ops.aten
CPU_ATTENTION = ATEN._scaled_dot_product_flash_attention_for_cpu
CPU_ATTENTION_BACKWARD = ATEN._scaled_dot_product_flash_attention_for_cpu_backward


class Ledger(TorchDispatchMode):
    """Inside, every storage that is made is written down, and crossed out where it is freed.

    Tensors need no values: those of `meta`, or fake ones, are counted by their sizes. A number that is read
    out of a tensor is then `answer`, and where it matters how many rows are true, half of them are: those of
    one expert, then those of the other.

    Args:
        weights: storages that are there before; what is cast of them is counted apart.
        answer: what `item()` gives.

    Attributes:
        live: bytes that are held now, weights and their gradients left out.
        cast: of these, copies of weights in another precision.
        gradients: bytes of gradients of weights that have been taken in.
        most: largest value that `live` had.
        most_with_gradients: largest value that `live` and `gradients` together had.
        flops: operations of matrix products, convolutions and attention.
        flops_again: of these, those of a forward that the backward pass computes again.
    """

    def __init__(self, weights: Iterable[Tensor], answer: int = 0) -> None:
        super().__init__()
        self.answer = answer
        self._weights = {_key(value): value.untyped_storage().nbytes() for value in weights}
        self._held: dict[int, tuple[weakref.ref[Any], int, bool]] = {}
        self._high = True
        self.live = self.cast = self.gradients = self.most = self.most_with_gradients = 0
        self.flops = self.flops_again = 0
        self.backward = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is ATEN._local_scalar_dense.default and (args[0].is_meta or isinstance(args[0], FakeTensor)):
            return self.answer
        if func is ATEN.nonzero.default:
            return self._some_rows(args[0])
        out = func(*args, **kwargs)
        cast = func is ATEN._to_copy.default and _key(args[0]) in self._weights
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor):
                self._enter(value, cast)
        self._count(func, args, kwargs, out)
        return out

    def take_gradient(self, gradient: Tensor) -> None:
        """From now on this counts as the gradient of a weight."""
        storage = gradient.untyped_storage()
        if self._forget(storage._cdata):
            self.gradients += storage.nbytes()
            self._note()

    def _some_rows(self, flags: Tensor) -> Tensor:
        n = flags.shape[0]
        rows = (n + 1) // 2 if self._high else n // 2
        self._high = not self._high
        return torch.empty(rows, flags.ndim, dtype=torch.long, device=flags.device)

    def _enter(self, value: Tensor, cast: bool) -> None:
        storage = value.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._held or key in self._weights or not size:
            return
        self._held[key] = weakref.ref(storage, lambda _: self._forget(key)), size, cast
        self.live += size
        self.cast += size * cast
        self._note()

    def _note(self) -> None:
        self.most = max(self.most, self.live)
        self.most_with_gradients = max(self.most_with_gradients, self.live + self.gradients)

    def _forget(self, key: int) -> bool:
        found = self._held.pop(key, None)
        if found is None:
            return False
        _, size, cast = found
        self.live -= size
        self.cast -= size * cast
        return True

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        packet = func._overloadpacket
        if packet is CPU_ATTENTION:
            flops = sdpa_flop_count(*(value.shape for value in args[:3]))
        elif packet is CPU_ATTENTION_BACKWARD:
            flops = sdpa_backward_flop_count(*(value.shape for value in args[:4]))
        elif packet in flop_registry:
            flops = flop_registry[packet](*args, **kwargs, out_val=out)
        else:
            return
        self.flops += flops
        if self.backward and torch.is_grad_enabled():  # only what is computed again has gradients there
            self.flops_again += flops


def _key(value: Tensor) -> int:
    return value.untyped_storage()._cdata
