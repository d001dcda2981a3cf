"""Whether clips that were asked to move more do move more."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.data.motion import motion_score
from vdit.eval.world_score import derangement

__all__ = ["MotionRank", "rank_motion"]


@dataclass(frozen=True)
class MotionRank:
    """Rank correlation (Spearman) of motion with what was asked.

    Attributes:
        model: of sampled clips.
        ceiling_codec: of the codec's reconstructions of the clips whose motion was asked.
        floor: of sampled clips with the motion of others.
    """

    model: float
    ceiling_codec: float
    floor: float


def rank_motion(
    clips: Float[Tensor, "n 3 t h w"],
    truth: Float[Tensor, "n 3 t h w"],
    copies: Float[Tensor, "n 3 t h w"],
    fps: float,
) -> MotionRank:
    """How the motion of clips ranks beside that of the true ones, which was asked.

    Raises:
        InputError: fewer than two clips, or OpenCV is not installed.
    """
    rate = torch.full((len(clips),), fps)
    asked, shown, kept = (motion_score(each, rate) for each in (truth, clips, copies))
    others = asked[torch.tensor(derangement(len(clips)))]
    return MotionRank(*(_rank(a, b) for a, b in ((shown, asked), (kept, asked), (shown, others))))


def _rank(a: Float[Tensor, "n"], b: Float[Tensor, "n"]) -> float:
    from torchmetrics.functional import spearman_corrcoef  # loads matplotlib where there is one

    return float(spearman_corrcoef(a, b))
