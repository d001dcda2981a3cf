"""What is done to the blocks of a transformer for training: computed again in the backward pass, compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from vdit.models.backbone import Transformer
from vdit.nn.lean import nothing_kept
from vdit.types import InputError

__all__ = ["Recompute", "compile_blocks", "recompute_blocks", "transformers_of"]

Recompute = Literal["none", "selective", "full"]

ATTENTION = frozenset(
    {
        torch.ops.aten._scaled_dot_product_flash_attention.default,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
        torch.ops.aten._scaled_dot_product_efficient_attention.default,
        torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    }
)
"""What costs most to compute again: its results are kept where recomputing is selective."""


def transformers_of(module: nn.Module, setting: str) -> list[Transformer]:
    """The transformers in a module. Raises InputError, naming the setting, where there is none."""
    found = [part for part in module.modules() if isinstance(part, Transformer)]
    if not found:
        raise InputError(f"{setting} is about a transformer, and this task has none: leave it out")
    return found


def recompute_blocks(module: nn.Module, what: Recompute) -> None:
    """Keep of every block its input alone, or also what attention gave; compute the rest again when needed.

    Gradients are the same. Source: Chen et al. 2016; selective as Korthikanti et al. 2022, sec. 5.

    Raises:
        InputError: there is no transformer.
    """
    for transformer in transformers_of(module, f"parallel.recompute {what}"):
        for block in transformer.blocks:
            block.forward = partial(_recomputed, block.forward, what)


def compile_blocks(module: nn.Module) -> None:
    """Compile each block, of which a transformer has many alike, and nothing around them.

    Raises:
        InputError: there is no transformer.
    """
    for transformer in transformers_of(module, "parallel.compile"):
        for block in transformer.blocks:
            block.forward = torch.compile(block.forward)


def _recomputed(forward: Callable[..., Tensor], what: Recompute, x: Tensor, stream: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(x, stream)
    contexts = {"context_fn": partial(create_selective_checkpoint_contexts, _policy)}
    more: dict[str, Any] = contexts if what == "selective" else {}
    return checkpoint(  # pyright: ignore[reportReturnType]
        _without_lean_layers, forward, x, stream, use_reentrant=False, preserve_rng_state=False, **more
    )


def _without_lean_layers(forward: Callable[..., Tensor], x: Tensor, stream: Any) -> Tensor:
    """Layers that see themselves to what is kept would keep what is thrown away here."""
    with nothing_kept():
        return forward(x, stream)


def _policy(_: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in ATTENTION else CheckpointPolicy.PREFER_RECOMPUTE
