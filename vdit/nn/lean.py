"""Layers that keep less for the backward pass: what is cheap to compute again is not kept.

Between forward and backward most memory of a transformer holds results of norms, of modulations and of
activations, each as large as the tokens and each a few operations away from something that is kept anyway.
Matrix products are never computed twice. Without gradients, and under a compiler, which makes such choices
itself, these are the plain layers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vdit.nn.mlp import MLP

__all__ = [
    "LeanMLP",
    "LeanRMSNorm",
    "computed_again",
    "gated_sum",
    "lean_branch",
    "norm_modulate",
    "nothing_kept",
]

_others_see_to_it: ContextVar[bool] = ContextVar("others_see_to_it", default=False)


SMALL = 2**18
"""Values of a tensor, below which a hook to compute it again costs more time than its memory is worth."""


@contextmanager
def nothing_kept() -> Iterator[None]:
    """Inside, layers leave what is kept to whoever computes whole blocks again."""
    token = _others_see_to_it.set(True)
    try:
        yield
    finally:
        _others_see_to_it.reset(token)


@contextmanager
def computed_again(value: Tensor, compute: Callable[[], Tensor]) -> Iterator[None]:
    """Inside, where `value` would be kept for the backward pass, `compute` is instead.

    Args:
        value: what layers inside read.
        compute: gives it again, from what is kept anyway; called once, however many layers read it.
    """
    place, size, dtype = _place(value), value.numel(), value.dtype
    readers, ready = 0, None

    def keep(saved: Tensor) -> Tensor | torch.Size:
        nonlocal readers
        if saved.numel() != size or saved.dtype != dtype or _place(saved) != place:
            return saved
        readers += 1
        return saved.shape

    def give(kept: Tensor | torch.Size) -> Tensor:
        nonlocal readers, ready
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad():
            found = compute().to(dtype) if ready is None else ready  # autocast has ended by now
        readers -= 1
        ready = found if readers > 0 else None
        return found.view(kept)

    with torch.autograd.graph.saved_tensors_hooks(keep, give):
        yield


def _place(tensor: Tensor) -> tuple[Any, Any]:
    """Where the values of a tensor lie. By its storage, since tensors without values all lie at address 0."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset()


def lean_branch(x: Tensor, norm: Callable[[Tensor], Tensor], layers: Callable[[Tensor], Tensor]) -> Tensor:
    """`layers(norm(x))`, of which the result of the norm is not kept.

    Under autocast that result has its precision, so that all layers that read it share one copy.
    """
    y = _lowered(norm(x))
    if y.numel() < SMALL or _plain(y) or _others_see_to_it.get():
        return layers(y)
    with computed_again(y, lambda: _lowered(norm(x))):
        return layers(y)


def _lowered(x: Tensor) -> Tensor:
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def norm_modulate(
    x: Float[Tensor, "b n d"], shift: Float[Tensor, "b #n d"], scale: Float[Tensor, "b #n d"], eps: float
) -> Float[Tensor, "b n d"]:
    """Layer norm without weights, times 1 + scale, plus shift (adaLN; Peebles & Xie 2023, sec. 3.2)."""
    if _plain(x, shift, scale):
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)
    return _NormModulate.apply(x, shift, scale, eps)  # pyright: ignore[reportReturnType]


def gated_sum(
    x: Float[Tensor, "b n d"], gate: Float[Tensor, "b #n d"], made: Float[Tensor, "b n d"]
) -> Float[Tensor, "b n d"]:
    """x + gate * made, of which `made` is kept in the precision it has.

    Autocast on CUDA would widen it to that of x before, and keep that: twice the bytes.
    """
    with torch.autocast(x.device.type, enabled=False):
        return torch.addcmul(x, gate, made)


class LeanRMSNorm(nn.RMSNorm):
    """RMS norm over the last axis that keeps its input alone."""

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        assert self.weight is not None
        assert self.eps is not None
        if _plain(x, self.weight):
            if x.device.type == "cpu" and not torch.is_grad_enabled():  # torch has no kernel for it there
                return _rms(x, self.weight, self.eps)[0]
            return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)
        return _RMSNorm.apply(x, self.weight, self.eps)  # pyright: ignore[reportReturnType]


class LeanMLP(MLP):
    """`MLP` that keeps what enters its activation, and not what leaves it."""

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        hidden = self.up(x)
        active = self.act(hidden)
        if active.numel() < SMALL or _plain(active) or _others_see_to_it.get():
            return self.down(active)
        with computed_again(active, lambda: self.act(hidden)):
            return self.down(active)


class _NormModulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
        normal, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        ctx.save_for_backward(x, scale, mean, rstd)
        ctx.of_shift = shift.shape
        return torch.addcmul(shift, normal, 1 + scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, mean, rstd = ctx.saved_tensors
        wants_x, wants_shift, wants_scale, _ = ctx.needs_input_grad
        to_x = to_shift = to_scale = None
        if wants_x:
            inner = g * (1 + scale)
            to_x, _, _ = torch.ops.aten.native_layer_norm_backward(
                inner, x, x.shape[-1:], mean, rstd, None, None, [True, False, False]
            )
        if wants_shift:
            to_shift = g.sum_to_size(ctx.of_shift)
        if wants_scale:
            to_scale = (x - mean).mul_(rstd).mul_(g).sum_to_size(scale.shape)
        return to_x, to_shift, to_scale, None


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        y, rstd = _rms(x, weight, eps)
        ctx.save_for_backward(x, weight, rstd)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rstd = ctx.saved_tensors
        g = g.to(rstd.dtype)
        normal = x * rstd
        both = g * normal
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            along = (both @ weight.to(both.dtype))[..., None] / x.shape[-1]
            to_x = torch.addcmul(g * weight, normal, along, value=-1).mul_(rstd).to(x.dtype)
        if ctx.needs_input_grad[1]:
            to_weight = both.flatten(0, -2).sum(0).to(weight.dtype)
        return to_x, to_weight, None


def _rms(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The normalised tokens, and what each was multiplied by."""
    wide = torch.promote_types(x.dtype, torch.float32)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    rstd = torch.addcmul(length.new_full((), eps), length, length, value=1 / x.shape[-1]).rsqrt_()
    return (x * rstd).mul_(weight).to(x.dtype), rstd


def _plain(*tensors: Tensor) -> bool:
    """Whether nothing is kept at all, or a compiler sees to it."""
    needed = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return not needed or torch.compiler.is_compiling()
