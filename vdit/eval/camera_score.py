"""Whether clips are seen by the cameras that were asked for, beside what brackets it."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.eval.world_score import derangement
from vdit.types import Cameras
from vdit.world.pose_judge import PoseError, find_poses, pose_error
from vdit.world.raycast import room_depth, view_rays

__all__ = ["CameraScore", "PoseErrors", "score_cameras"]


@dataclass(frozen=True)
class PoseErrors:
    """Errors of many clips, each the mean over its frames.

    Attributes:
        median: over the clips.
        mean: likewise; a few clips in which nothing can be followed weigh much in it.
        found: share of frames in which the camera was found.
    """

    median: PoseError
    mean: PoseError
    found: float


@dataclass(frozen=True)
class CameraScore:
    """Errors of cameras against those that were asked for.

    Attributes:
        model: of sampled clips.
        ceiling_truth: of ground-truth renders.
        ceiling_codec: of the codec's reconstructions of them.
        floor: of sampled clips against the cameras of others.
    """

    model: PoseErrors
    ceiling_truth: PoseErrors
    ceiling_codec: PoseErrors
    floor: PoseErrors


def score_cameras(
    clips: Float[Tensor, "n 3 t h w"],
    truth: Float[Tensor, "n 3 t h w"],
    copies: Float[Tensor, "n 3 t h w"],
    cameras: Sequence[Cameras],
) -> CameraScore:
    """The errors of cameras in the room, whose empty walls are the known depth of the first frame.

    Args:
        clips: sampled.
        truth: the true clips.
        copies: what the codec makes of them.
        cameras: those that were asked for, one path a clip.

    Raises:
        InputError: fewer than two clips, or OpenCV is not installed.
    """
    others = [cameras[i] for i in derangement(len(cameras))]
    found = [_found(clip, one) for clip, one in zip(clips, cameras, strict=True)]
    return CameraScore(
        model=_errors(found, cameras),
        ceiling_truth=_errors([_found(*pair) for pair in zip(truth, cameras, strict=True)], cameras),
        ceiling_codec=_errors([_found(*pair) for pair in zip(copies, cameras, strict=True)], cameras),
        floor=_errors(found, others),
    )


_Found = tuple[Float[Tensor, "t 4 4"], Tensor]


def _found(pixels: Float[Tensor, "3 t h w"], cameras: Cameras) -> _Found:
    depth = room_depth(view_rays(cameras, *pixels.shape[2:]))[0]
    return find_poses(pixels, depth, cameras.intrinsics)


def _errors(found: Sequence[_Found], cameras: Sequence[Cameras]) -> PoseErrors:
    errors = [pose_error(poses, there, path) for (poses, there), path in zip(found, cameras, strict=True)]
    table = torch.tensor([astuple(error) for error in errors])  # n 3
    share = torch.stack([there[1:].float().mean() for _, there in found]).mean().item()
    return PoseErrors(PoseError(*table.median(0).values.tolist()), PoseError(*table.mean(0).tolist()), share)
