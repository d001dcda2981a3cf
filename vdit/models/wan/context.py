"""The second video of VACE: blocks of its own, which leave hints for blocks of the first."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.models.wan.blocks import Block
from vdit.models.wan.stream import WanStream

__all__ = ["ContextVideo"]


class ContextBlock(Block):
    """A block of the second video of VACE, which leaves a hint for one block of the first.

    Args:
        first: whether it is the first, where the second video meets the first.
    """

    def __init__(self, width: int, hidden: int, heads: int, first: bool) -> None:
        super().__init__(width, hidden, heads, image=False)
        self.meet = nn.Linear(width, width) if first else None
        self.hint = nn.Linear(width, width)

    def advance(
        self, context: Float[Tensor, "b n d"], x: Float[Tensor, "b n d"], stream: WanStream
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
        """The second video after this block, and its hint; `x` is the first before all its blocks."""
        if self.meet is not None:
            context = self.meet(context) + x
        context = self(context, stream)
        return context, self.hint(context)


class ContextVideo(nn.Module):
    """A second video through blocks of its own (Jiang et al. 2025, sec. 3.3.2).

    Args:
        channels: of its latents.
        width: channels of a token.
        hidden: channels inside the feed-forward.
        heads: attention heads.
        depth: blocks; each leaves a hint.
        patch: frames, rows and columns of latents that make one token.
    """

    def __init__(
        self, channels: int, width: int, hidden: int, heads: int, depth: int, patch: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.patch_in = nn.Conv3d(channels, width, patch, stride=patch)
        self.blocks = nn.ModuleList(ContextBlock(width, hidden, heads, first=i == 0) for i in range(depth))

    def forward(
        self, video: Float[Tensor, "b c t h w"], x: Float[Tensor, "b n d"], stream: WanStream
    ) -> tuple[Float[Tensor, "b n d"], ...]:
        """The hints; `x` is the first video before all its blocks."""
        context, hints = rearrange(self.patch_in(video), "b d t h w -> b (t h w) d"), []
        for block in self.blocks:
            assert isinstance(block, ContextBlock)
            context, hint = block.advance(context, x, stream)
            hints.append(hint)
        return tuple(hints)
