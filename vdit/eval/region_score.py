"""Whether clips of which a part was painted anew keep the rest, and show no edge around it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdit.eval.psnr import psnr
from vdit.eval.world_score import derangement

__all__ = ["RegionScore", "middle", "score_region"]


@dataclass(frozen=True)
class RegionScore:
    """The mean over clips of which the same part of the picture was painted anew.

    Attributes:
        kept: decibels of what was kept, against the true clips.
        kept_codec: of what the codec makes of the true clips.
        painted: decibels of what was painted anew, against what had been there.
        painted_codec: of what the codec makes of that.
        painted_floor: of what was painted anew, against the same part of another scene.
        edge: mean difference of pixels on both sides of the border, pixels in [-1, 1].
        edge_truth: the same in the true clips.
        edge_codec: the same in what the codec makes of them.
    """

    kept: float
    kept_codec: float
    painted: float
    painted_codec: float
    painted_floor: float
    edge: float
    edge_truth: float
    edge_codec: float


def middle(height: int, width: int) -> Bool[Tensor, "h w"]:
    """A mask of the middle of a picture, half as high and half as wide."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return mask


def score_region(
    clips: Float[Tensor, "n 3 t h w"],
    truth: Float[Tensor, "n 3 t h w"],
    copies: Float[Tensor, "n 3 t h w"],
    mask: Bool[Tensor, "h w"],
) -> RegionScore:
    """The scores of clips of which the part where `mask` is True was painted anew.

    Args:
        clips: sampled.
        truth: the true clips, of which the rest was kept.
        copies: what the codec makes of the true clips.
        mask: True somewhere, and False somewhere.

    Raises:
        InputError: fewer than two clips.
    """
    others = truth[torch.tensor(derangement(len(truth)))]

    def decibels(a: Tensor, b: Tensor, where: Tensor) -> float:
        return psnr(a[..., where].unsqueeze(-1), b[..., where].unsqueeze(-1)).mean().item()

    return RegionScore(
        *(decibels(x, truth, ~mask) for x in (clips, copies)),
        *(decibels(x, y, mask) for x, y in ((clips, truth), (copies, truth), (clips, others))),
        *(_edge(x, mask) for x in (clips, truth, copies)),
    )


def _edge(clips: Float[Tensor, "n 3 t h w"], mask: Bool[Tensor, "h w"]) -> float:
    """Mean difference of neighbours of which one is in the mask and one is not."""
    across = clips.diff(dim=-1)[..., mask[:, 1:] != mask[:, :-1]]
    down = clips.diff(dim=-2)[..., mask[1:] != mask[:-1]]
    return torch.cat([across, down], dim=-1).abs().mean().item()
