"""Wan's attention: queries and keys are normalised over the whole width, before it is cut into heads."""

from functools import partial
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from vdit.models.wan.stream import WanStream
from vdit.nn.attention import Attend, merge_heads, split_heads
from vdit.nn.lean import LeanRMSNorm
from vdit.nn.rope import Rotation, rotate

__all__ = ["CrossAttention", "SelfAttention"]


class SelfAttention(nn.Module):
    """Every token attends to every token.

    Shapes: `b n d` -> `b n d`.
    """

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.norm_q = LeanRMSNorm(width, eps=eps)
        self.norm_k = LeanRMSNorm(width, eps=eps)
        self.attend = Attend()
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"], rotation: Rotation) -> Float[Tensor, "b n d"]:
        q, k, v = self.norm_q(self.to_q(x)), self.norm_k(self.to_k(x)), self.to_v(x)
        q, k, v = split_heads(q, self.heads), split_heads(k, self.heads), split_heads(v, self.heads)
        return self.to_out(merge_heads(self.attend(rotate(q, rotation), rotate(k, rotation), v)))


class Heard(NamedTuple):
    """Keys and values of what a block attends to beside its own tokens, each `b m heads d`.

    Attributes:
        text: of the text.
        image: of the image, or None.
    """

    text: tuple[Tensor, Tensor]
    image: tuple[Tensor, Tensor] | None


class CrossAttention(nn.Module):
    """Every token attends to the text and, by keys and values of its own, to the image; the two are added.

    Args:
        width: channels of a token.
        heads: attention heads.
        eps: of the norms.
        image: whether there are image tokens.
    """

    def __init__(self, width: int, heads: int, eps: float, image: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.norm_q = LeanRMSNorm(width, eps=eps)
        self.norm_k = LeanRMSNorm(width, eps=eps)
        self.to_k_image = nn.Linear(width, width) if image else None
        self.to_v_image = nn.Linear(width, width) if image else None
        self.norm_k_image = LeanRMSNorm(width, eps=eps) if image else None
        self.attend = Attend()
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"], stream: WanStream) -> Float[Tensor, "b n d"]:
        q = split_heads(self.norm_q(self.to_q(x)), self.heads)
        heard = stream.once(self, lambda: self.heard(stream))
        out = self.attend(q, *heard.text, stream.text_mask)
        if heard.image is not None:
            out = out + self.attend(q, *heard.image)
        return self.to_out(merge_heads(out))

    def heard(self, stream: WanStream) -> Heard:
        """Keys and values of text and image: the same in every step of a sample."""
        cut, text, image = partial(split_heads, heads=self.heads), stream.text, None
        if self.to_k_image is not None and self.to_v_image is not None and self.norm_k_image is not None:
            k, v = self.norm_k_image(self.to_k_image(stream.image)), self.to_v_image(stream.image)
            image = cut(k), cut(v)
        return Heard((cut(self.norm_k(self.to_k(text))), cut(self.to_v(text))), image)
