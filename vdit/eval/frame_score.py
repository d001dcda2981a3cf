"""Whether clips show the frames that they were given, and go on from them without a jump."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.eval.psnr import psnr
from vdit.eval.world_score import derangement

__all__ = ["FrameScore", "score_frames"]


@dataclass(frozen=True)
class FrameScore:
    """One given frame, the mean over clips.

    Attributes:
        frame: which.
        psnr: decibels of sampled clips against the frame.
        ceiling: of what the codec makes of the true clip.
        floor: of sampled clips against the frame of another scene.
        seam: mean difference to the next frame inside the clip, pixels in [-1, 1].
        seam_truth: the same in the true clips.
        seam_codec: the same in what the codec makes of them.
    """

    frame: int
    psnr: float
    ceiling: float
    floor: float
    seam: float
    seam_truth: float
    seam_codec: float


def score_frames(
    clips: Float[Tensor, "n 3 t h w"],
    truth: Float[Tensor, "n 3 t h w"],
    copies: Float[Tensor, "n 3 t h w"],
    frames: Sequence[int],
) -> list[FrameScore]:
    """The scores of frames that were given to all clips.

    Args:
        clips: sampled.
        truth: the true clips, of which the frames were given.
        copies: what the codec makes of the true clips.
        frames: which were given.

    Raises:
        InputError: fewer than two clips.
    """
    others = truth[torch.tensor(derangement(len(truth)))]
    last, found = truth.shape[2] - 1, []
    for frame in frames:
        inside = frame + (1 if frame < last else -1)

        def decibels(a: Tensor, b: Tensor, at: int = frame) -> float:
            return psnr(a[:, :, at : at + 1], b[:, :, at : at + 1]).mean().item()

        def seam(x: Tensor, at: int = frame, next_to: int = inside) -> float:
            return (x[:, :, at] - x[:, :, next_to]).abs().mean().item()

        shown = (decibels(clips, truth), decibels(copies, truth), decibels(clips, others))
        found.append(FrameScore(frame, *shown, seam(clips), seam(truth), seam(copies)))
    return found
