"""Wan's attention: queries and keys are normalised over the whole width, before it is cut into heads."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.nn.attention import Attend
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
        self.norm_q = nn.RMSNorm(width, eps=eps)
        self.norm_k = nn.RMSNorm(width, eps=eps)
        self.attend = Attend()
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"], rotation: Rotation) -> Float[Tensor, "b n d"]:
        q, k, v = self.norm_q(self.to_q(x)), self.norm_k(self.to_k(x)), self.to_v(x)
        q, k, v = (rearrange(y, "b n (heads d) -> b n heads d", heads=self.heads) for y in (q, k, v))
        out = self.attend(rotate(q, rotation), rotate(k, rotation), v)
        return self.to_out(rearrange(out, "b n heads d -> b n (heads d)"))


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
        self.norm_q = nn.RMSNorm(width, eps=eps)
        self.norm_k = nn.RMSNorm(width, eps=eps)
        self.to_k_image = nn.Linear(width, width) if image else None
        self.to_v_image = nn.Linear(width, width) if image else None
        self.norm_k_image = nn.RMSNorm(width, eps=eps) if image else None
        self.attend = Attend()
        self.to_out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        text: Float[Tensor, "b m d"],
        bias: Float[Tensor, "b m"],
        image: Float[Tensor, "b k d"] | None,
    ) -> Float[Tensor, "b n d"]:
        q = self.cut(self.norm_q(self.to_q(x)))
        out = self.attend(q, self.cut(self.norm_k(self.to_k(text))), self.cut(self.to_v(text)), bias)
        if self.to_k_image is not None and self.to_v_image is not None and self.norm_k_image is not None:
            k, v = self.norm_k_image(self.to_k_image(image)), self.to_v_image(image)
            out = out + self.attend(q, self.cut(k), self.cut(v))
        return self.to_out(rearrange(out, "b n heads d -> b n (heads d)"))

    def cut(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n heads d_head"]:
        return rearrange(x, "b n (heads d) -> b n heads d", heads=self.heads)
