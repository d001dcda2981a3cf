"""The tokens of a clip over ranks: each has a part of them, and attends to all by a part of the heads.

    embed ── all tokens ── a part each ── block ── block ── ... ── all tokens ── unembed
                                            │
                    attention: all tokens, a part of the heads (two exchanges)

Ranks of a group see the same clip, noise and sigma. What comes before the blocks and after them is computed
by each of them in full. Gradients may be averaged over all ranks as if each had clips of its own.
Source: Jacobs et al. 2023 (DeepSpeed Ulysses).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vdit.models.backbone import Stream, Transformer
from vdit.nn.attention import Attend
from vdit.parallel.blocks import transformers_of
from vdit.parallel.mesh import Mesh
from vdit.types import InputError

__all__ = ["SequenceGroup", "sequence_group", "spread_tokens"]


@dataclass(frozen=True)
class SequenceGroup:
    """Ranks that share the tokens of a clip.

    Attributes:
        group: as torch.distributed has it; None is a group that is not there, for one who only wants to know
            shapes: what others would send is undefined.
        rank: this process in it.
        size: how many there are.
    """

    group: Any
    rank: int
    size: int

    def parts(self, n: int) -> list[int]:
        """How many of `n` tokens each rank has: as even as can be, the first ones one more."""
        return [n // self.size + (rank < n % self.size) for rank in range(self.size)]

    def span(self, n: int) -> tuple[int, int]:
        """Where this rank's tokens begin and end."""
        parts = self.parts(n)
        start = sum(parts[: self.rank])
        return start, start + parts[self.rank]


def sequence_group(mesh: Mesh, patience: timedelta | None = None) -> SequenceGroup:
    """The group of this process; all processes must ask for theirs.

    Args:
        mesh: of the run.
        patience: how long a process waits for the others of its group.
    """
    group, _ = dist.new_subgroups(mesh.sequence, timeout=patience)  # of neighbours
    return SequenceGroup(group, mesh.sequence_rank, mesh.sequence)


def spread_tokens(backbone: nn.Module, group: SequenceGroup) -> None:
    """Have every transformer in `backbone` share its tokens over a group, in training and evaluation.

    The ranks of a group compute together, always: none can evaluate alone.

    Raises:
        InputError: there is no transformer, or the ranks do not divide its heads.
    """
    for transformer in transformers_of(backbone, "parallel.sequence"):
        _Spread(transformer, group)


class _Spread:
    """Hooks that give the blocks of one transformer their part of the tokens."""

    def __init__(self, transformer: Transformer, group: SequenceGroup) -> None:
        self.transformer, self.group = transformer, group
        self.whole = 0  # tokens of the clip in the forward that is going on
        self.stream: Stream | None = None
        attentions: list[Any] = [
            part for name, part in transformer.blocks.named_modules() if name.endswith("self_attention")
        ]
        for attention in attentions:
            attention.attend = _SpreadAttend(self, attention.heads)
        blocks = list(transformer.blocks)
        for block in blocks:
            block.register_forward_pre_hook(self.give)
        blocks[0].register_forward_pre_hook(self.split, prepend=True)
        blocks[-1].register_forward_hook(self.join)

    def split(self, block: nn.Module, args: tuple[Tensor, Stream]) -> tuple[Tensor, Stream]:
        x, stream = args
        self.whole = x.shape[1]
        start, stop = self.group.span(self.whole)
        if start == stop:
            raise InputError(f"{self.whole} tokens cannot be shared by {self.group.size} ranks: use fewer")
        self.stream = stream.part(start, stop)
        return x[:, start:stop], stream

    def give(self, block: nn.Module, args: tuple[Tensor, Stream]) -> tuple[Tensor, Stream] | None:
        if self.stream is None:
            return None
        return args[0], self.stream

    def join(self, block: nn.Module, args: Any, x: Tensor) -> Tensor:
        self.stream = None
        return _Join.apply(x, self.group, self.group.parts(self.whole))


class _SpreadAttend(Attend):
    """Self-attention of all tokens, of which each rank has a part, by a part of the heads on each rank."""

    def __init__(self, spread: _Spread, heads: int) -> None:
        super().__init__()
        self.spread = spread
        if heads % spread.group.size:
            raise InputError(
                f"parallel.sequence {spread.group.size} does not divide {heads} heads: choose a divisor"
            )

    def forward(
        self,
        q: Float[Tensor, "b n heads d"],
        k: Float[Tensor, "b n heads d"],
        v: Float[Tensor, "b n heads d"],
        mask: Bool[Tensor, "b m"] | Float[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n heads d"]:
        spread = self.spread
        group, parts = spread.group, spread.group.parts(spread.whole)
        own = parts[group.rank]
        sent = rearrange(torch.stack([q, k, v]), "three b n (p h) d -> (p n) three b h d", p=group.size)
        heads = _Exchange.apply(sent, group, [own] * group.size, parts)
        q, k, v = rearrange(heads, "n three b h d -> three b n h d")
        out = rearrange(super().forward(q, k, v, mask), "b n h d -> n b h d")
        back = _Exchange.apply(out, group, parts, [own] * group.size)
        return rearrange(back, "(p n) b h d -> b n (p h) d", p=group.size)


class _Exchange(torch.autograd.Function):
    """Rows to every rank of the group, and rows from every rank, one after the other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: SequenceGroup, sent: list[int], got: list[int]) -> Tensor:
        ctx.group, ctx.sent, ctx.got = group, sent, got
        return _exchanged(x, group, sent, got)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _exchanged(grad, ctx.group, ctx.got, ctx.sent), None, None, None


def _exchanged(x: Tensor, group: SequenceGroup, sent: Sequence[int], got: Sequence[int]) -> Tensor:
    out = x.new_empty(sum(got), *x.shape[1:])
    x = x.contiguous()
    if group.group is not None:
        dist.all_to_all_single(out, x, list(got), list(sent), group=group.group)
    return out


class _Join(torch.autograd.Function):
    """All tokens from everyone's part.

    Every rank computes the same loss from them. What comes back is a rank's own part, as many times as there
    are ranks, so that the mean over ranks is the sum over parts.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: SequenceGroup, parts: list[int]) -> Tensor:
        ctx.group, ctx.parts = group, parts
        b, longest = x.shape[0], max(parts)
        padded = x.new_zeros(b, longest, *x.shape[2:])
        padded[:, : x.shape[1]] = x
        gathered = [torch.empty_like(padded) for _ in parts]
        if group.group is not None:
            dist.all_gather(gathered, padded, group=group.group)
        return torch.cat([part[:, :n] for part, n in zip(gathered, parts, strict=True)], dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        start, stop = ctx.group.span(grad.shape[1])
        return grad[:, start:stop] * ctx.group.size, None, None
