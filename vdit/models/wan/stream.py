"""What the blocks of Wan's transformers share: everything but the tokens they rewrite."""

from dataclasses import dataclass, replace
from typing import Self

from jaxtyping import Float
from torch import Tensor

from vdit.models.backbone import Stream, rows_of

__all__ = ["WanStream"]


@dataclass(frozen=True)
class WanStream(Stream):
    """What Wan's blocks share besides.

    Attributes:
        rows: shift, scale and gate of self-attention, then of the feed-forward, before a block adds its own.
        image: tokens of given images, or None.
        hints: of the context blocks, one for each `HintedBlock`.
    """

    rows: Float[Tensor, "b #n six d"]
    image: Float[Tensor, "b k d"] | None
    hints: tuple[Float[Tensor, "b n d"], ...] = ()

    def part(self, start: int, stop: int) -> Self:
        hints = tuple(rows_of(hint, start, stop) for hint in self.hints)
        return replace(super().part(start, stop), rows=rows_of(self.rows, start, stop), hints=hints)
