"""What every encoder is: prompts or images in, tokens out, and a name for all that the tokens depend on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vdit.types import Tokens

__all__ = ["CutPrompts", "DType", "ImageEncoder", "TextEncoder", "pad", "unpad"]

DType = Literal["float32", "bfloat16", "float16"]


class CutPrompts(UserWarning):
    """Prompts have more tokens than an encoder takes."""


class TextEncoder(ABC):
    """A frozen map from prompts to token embeddings.

    Attributes:
        max_tokens: of a prompt; None where there is no limit.
        kept: the precision in which its embeddings are kept; float16 has 11 bits of a normalised state.
    """

    max_tokens: int | None = None
    kept: DType = "float16"

    @property
    @abstractmethod
    def width(self) -> int:
        """Size of the axis `d` of the tokens; known without loading any weights."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Names all that an embedding depends on: weights, tokenizer, layer, template, length limit.

        Equal fingerprints mean equal embeddings, so caches are addressed by it. It is known without
        loading any weights.
        """

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Tokens:
        """The tokens of each prompt, `b n d`, float32 on the CPU, without gradient.

        The real tokens of a prompt do not depend on which other prompts are in the batch. Every prompt has
        at least one token: "" is the null prompt of guidance.

        Raises:
            InputError: there are no prompts, or the encoder's files cannot be used.
        """

    def cut(self, prompts: Sequence[str]) -> list[str]:
        """What `encode` leaves out of each prompt because it is too long, "" where nothing.

        It needs no weights, and is the same whether embeddings are kept or not: callers that must say what
        a model does not read ask here.

        Raises:
            InputError: the encoder's files cannot be used.
        """
        return [""] * len(prompts)

    def release(self) -> None:  # noqa: B027
        """Let go of the memory of weights; they are read again where a prompt needs them."""


class ImageEncoder(ABC):
    """A frozen map from images to token embeddings."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Names all that an embedding depends on; known without loading any weights."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Tokens of an image and their channels; known without loading any weights."""

    @abstractmethod
    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k d"]:
        """The tokens of images in [-1, 1], of any size; float32 on the CPU, without gradient."""


def pad(sequences: Sequence[Float[Tensor, "_ d"]]) -> Tokens:
    """Sequences of different lengths as one batch, zeros on the right."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    values = pad_sequence(list(sequences), batch_first=True)
    return Tokens(values, torch.arange(values.shape[1]) < lengths[:, None])


def unpad(tokens: Tokens) -> list[Float[Tensor, "_ d"]]:
    """The real tokens of each prompt; the reverse of `pad`."""
    return [values[mask] for values, mask in zip(tokens.values, tokens.mask, strict=True)]
