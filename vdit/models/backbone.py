"""What every backbone has in common, and every transformer among them: embed, blocks, unembed."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vdit.nn.rope import Rotation
from vdit.types import DenoiserInput, InputError, Kept, Slot

__all__ = ["Stream", "Transformer", "VideoBackbone", "rows_of"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Stream:
    """What the blocks share: everything but the tokens they rewrite.

    Attributes:
        grid: patches along frames, rows and columns; n is their product.
        vector: the embedding of sigma, one row a clip or one a token, or as `row` has it.
        rotation: the rotary positions of the tokens.
        text: tokens to attend to.
        text_mask: True where a text token is real.
        row: which row of `vector` is whose, where few rows serve many tokens; None where each has its own.
        mask: True where a token is one; None where all are.
        kept: what earlier evaluations with the same signals left, or None.
    """

    grid: tuple[int, int, int]
    vector: Float[Tensor, "b #n d"]
    rotation: Rotation
    text: Float[Tensor, "b m d"]
    text_mask: Bool[Tensor, "b m"]
    row: Int64[Tensor, "n"] | None = field(default=None, kw_only=True)
    mask: Bool[Tensor, "b n"] | None = field(default=None, kw_only=True)
    kept: Kept | None = field(default=None, kw_only=True)

    def once(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """What `compute` gives, from an earlier evaluation if there was one."""
        return compute() if self.kept is None else self.kept.once(key, compute)

    def part(self, start: int, stop: int) -> Self:
        """What blocks share for the tokens from `start` to `stop`; what says of all keys stays whole."""
        return replace(
            self,
            vector=self.vector if self.row is not None else rows_of(self.vector, start, stop),
            rotation=rows_of(self.rotation, start, stop),
            row=None if self.row is None else self.row[start:stop],
        )


def rows_of(values: Tensor, start: int, stop: int) -> Tensor:
    """The rows of some tokens, `b n ...`; the one row, `b 1 ...`, that serves them all."""
    return values if values.shape[1] == 1 else values[:, start:stop]


class VideoBackbone(nn.Module, ABC):
    """A network from noisy latents to velocity, and what it can be told.

    Attributes:
        slots: the kinds of conditions it accepts.
        latent_channels: channels of the latents it works on.
        text_width: channels of the text tokens it reads.
        patch: latent frames, rows and columns that it takes for one token.
        read: whether its weights were read from a folder; else they were drawn at random.
        arithmetic: of its matrix products outside training; in it, the stepper sees to them.
    """

    slots: frozenset[Slot]
    latent_channels: int
    text_width: int
    patch: tuple[int, int, int] = (1, 1, 1)
    read: bool = False
    arithmetic: torch.dtype = torch.float32

    @abstractmethod
    def forward(self, inputs: DenoiserInput) -> Float[Tensor, "b c t h w"]:
        """The velocity noise - x0 at x_sigma = `inputs.latents`."""

    @abstractmethod
    def check_shape(self, t: int, h: int, w: int) -> None:
        """Refuse latent sizes the patches do not divide. Raises InputError."""

    @abstractmethod
    def lower(self, dtype: torch.dtype) -> None:
        """Compute matrix products in `dtype` from now on, with weights of it where most of them are."""

    def check_slots(self, wanted: frozenset[Slot]) -> None:
        """Refuse conditions this family has no place for. Raises InputError."""
        if missing := wanted - self.slots:
            raise InputError(
                f"{type(self).__name__} does not accept {', '.join(sorted(missing))}; "
                f"it accepts {', '.join(sorted(self.slots))}"
            )


class Transformer(VideoBackbone):
    """A backbone of tokens: embed, blocks, unembed.

    A family writes `embed` and `unembed`, fills `blocks`, and declares the slots it accepts. The rest
    of the system reaches into it only through `blocks`, the `attend` modules and `nn.Linear` names.
    """

    blocks: nn.ModuleList

    def lower(self, dtype: torch.dtype) -> None:
        self.arithmetic = dtype
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                layer.to(dtype)

    @abstractmethod
    def embed(self, inputs: DenoiserInput) -> tuple[Float[Tensor, "b n d"], Stream]:
        """Turn the inputs into tokens and what all blocks share."""

    @abstractmethod
    def unembed(self, x: Float[Tensor, "b n d"], stream: Stream) -> Float[Tensor, "b c t h w"]:
        """Turn tokens into the network's output."""

    def velocity(
        self, output: Float[Tensor, "b c t h w"], inputs: DenoiserInput
    ) -> Float[Tensor, "b c t h w"]:
        """The velocity that an output stands for; a family whose output is another quantity converts here."""
        return output

    def forward(self, inputs: DenoiserInput) -> Float[Tensor, "b c t h w"]:
        x, stream = self.embed(inputs)
        for block in self.blocks:
            x = block(x, stream)
        return self.velocity(self.unembed(x, stream), inputs)
