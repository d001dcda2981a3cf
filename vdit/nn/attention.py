"""The attention call, and multi-head attention with QK-norm around it.

`Attend` is a module so that it can be replaced from outside: a flash kernel and sequence parallelism
both take its place without the model knowing.
"""

from importlib.util import find_spec

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vdit.nn.rope import Rotation, rotate
from vdit.types import InputError

__all__ = ["Attend", "Attention", "FlashAttend", "merge_heads", "split_heads"]


def split_heads(x: Float[Tensor, "b n width"], heads: int) -> Float[Tensor, "b n heads d"]:
    """The channels of each head, which lie side by side."""
    b, n, width = x.shape
    return x.view(b, n, heads, width // heads)


def merge_heads(x: Float[Tensor, "b n heads d"]) -> Float[Tensor, "b n width"]:
    """The inverse of `split_heads`."""
    return x.flatten(2)


class Attend(nn.Module):
    """softmax(q k^T / sqrt(d)) v by torch's scaled_dot_product_attention.

    Shapes: q `b n heads d`, k and v `b m heads d`; mask `b m`: True where a key may be attended to, or
    numbers that are added to the logits of the keys.
    """

    def forward(
        self,
        q: Float[Tensor, "b n heads d"],
        k: Float[Tensor, "b m heads d"],
        v: Float[Tensor, "b m heads d"],
        mask: Bool[Tensor, "b m"] | Float[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n heads d"]:
        bias = None if mask is None else mask[:, None, None]
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # b heads n d
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)


class FlashAttend(nn.Module):
    """The same by the flash-attn package, for unmasked attention on a CUDA device in half precision.

    Raises:
        InputError: flash-attn is not installed, or a mask is given, which its kernel does not take.
    """

    def __init__(self) -> None:
        super().__init__()
        if find_spec("flash_attn") is None:
            raise InputError(
                "flash-attn is not installed: `pip install flash-attn`, or leave attention to torch"
            )

    def forward(
        self,
        q: Float[Tensor, "b n heads d"],
        k: Float[Tensor, "b m heads d"],
        v: Float[Tensor, "b m heads d"],
        mask: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n heads d"]:
        from flash_attn import flash_attn_func  # pyright: ignore[reportMissingImports]

        if mask is not None:
            raise InputError("flash-attn takes no padding mask: use it for self-attention only")
        return flash_attn_func(q, k, v)


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys.

    Queries come from `x`, keys and values from `context`: the same tensor for self-attention. Queries
    and keys pass a layer norm over the channels of a head (Dehghani et al. 2023, sec. 2), which keeps
    the logits bounded; the projections have no bias.

    Args:
        width: channels of x and of the result.
        heads: number of heads; must divide `width`.
        context_width: channels of the context; `width` if not given.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise InputError(f"width {width} is not divisible by heads {heads}: choose a multiple")
        context_width = width if context_width is None else context_width
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.norm_q = nn.LayerNorm(width // heads, eps=1e-6, bias=False)
        self.norm_k = nn.LayerNorm(width // heads, eps=1e-6, bias=False)
        self.attend = Attend()
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m d_context"],
        rotation: Rotation | None = None,
        mask: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        q = self.norm_q(split_heads(self.to_q(x), self.heads))
        k = self.norm_k(split_heads(self.to_k(context), self.heads))
        v = split_heads(self.to_v(context), self.heads)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return self.to_out(merge_heads(self.attend(q, k, v, mask)))
