"""Where the camera of a clip stands in every frame, from its pixels and the depth of its first frame.

A grid of points is followed from frame to frame (Lucas and Kanade 1981, in pyramids), lifted by the depth
that is known in frame 0, and solved for the pose that shows the points where they went: perspective from n
points, with random sampling against points that go their own way. No move degenerates, and the scale is
metric, which an essential matrix between two frames would not give. (Points matched by SIFT instead are more
exact on clean clips, and find nothing to match on what young models sample.)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdit.opencv import grey_picture, opencv
from vdit.types import Cameras

__all__ = ["PoseError", "find_poses", "pose_error"]

_SIDE = 128  # pixels of the shorter side of the frames that points are followed in
_BLUR = 1.0  # of these frames, in pixels
_WINDOW, _STEP = 21, 6  # pixels that are compared around a point, and between points
_BACK = 2.0  # pixels that a point may be off when it is followed back
_LEAST = 8  # points that must agree
_OFF = 3.0  # pixels that an agreeing point may be off


@dataclass(frozen=True)
class PoseError:
    """How far the cameras of a clip are from others, the mean over frames.

    Attributes:
        rotation: angle between the two, in degrees.
        translation: distance between the two, in metres.
        matrix: Frobenius norm of the difference of the two 3x4 poses (CamMC; Zheng et al. 2024, CamI2V, who
            sum over frames).
    """

    rotation: float
    translation: float
    matrix: float


def find_poses(
    pixels: Float[Tensor, "3 t h w"], depth: Float[Tensor, "h w"], intrinsics: Float[Tensor, "t 4"]
) -> tuple[Float[Tensor, "t 4 4"], Bool[Tensor, "t"]]:
    """Camera-to-world poses of all frames, seen from frame 0, and which of them were found.

    Args:
        pixels: the clip, in [-1, 1].
        depth: along the z axis of the camera, of the pixels of frame 0.
        intrinsics: of every frame, as `Cameras` has them.

    Raises:
        InputError: OpenCV is not installed.
    """
    cv2 = opencv()
    lens = intrinsics.double().numpy()
    t = pixels.shape[1]
    poses, found = torch.eye(4).repeat(t, 1, 1), torch.zeros(t, dtype=torch.bool)
    found[0] = True
    for frame, (before, after, size) in enumerate(_followed(cv2, pixels), start=1):
        solid = _lifted(before, size, depth.numpy(), lens[0])
        pose = _solved(cv2, solid, after, size, lens[frame])
        if pose is not None:
            poses[frame], found[frame] = torch.from_numpy(pose), True
    return poses, found


def pose_error(poses: Float[Tensor, "t 4 4"], found: Bool[Tensor, "t"], cameras: Cameras) -> PoseError:
    """How far found poses are from those of one clip's cameras.

    Frames without a pose are left out; where no frame after the first has one, the camera is taken to stand.
    """
    later = found.clone() if found[1:].any() else torch.ones_like(found)
    later[0] = False
    c2w = cameras.c2w.double()
    a, b = poses[later].double(), (torch.linalg.inv(c2w[:1]) @ c2w)[later]
    trace = torch.einsum("kij,kij->k", a[:, :3, :3], b[:, :3, :3])
    rotation = ((trace - 1) / 2).clamp(-1, 1).arccos().rad2deg()
    translation = (a[:, :3, 3] - b[:, :3, 3]).norm(dim=1)
    matrix = (a[:, :3] - b[:, :3]).flatten(1).norm(dim=1)
    return PoseError(*(float(each.mean()) for each in (rotation, translation, matrix)))


def _followed(
    cv2: Any, pixels: Float[Tensor, "3 t h w"]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For every frame after the first: where points were in frame 0, where they are, and the frame's size.

    Points that are lost, or that do not come back when they are followed backwards, are left out from then
    on.
    """
    images = [cv2.GaussianBlur(grey_picture(frame, _SIDE), (0, 0), _BLUR) for frame in pixels.unbind(1)]
    height, width = images[0].shape
    x, y = np.meshgrid(np.arange(_STEP / 2, width, _STEP), np.arange(_STEP / 2, height, _STEP))
    start = np.stack([x, y], axis=-1).reshape(-1, 1, 2).astype(np.float32)
    at, size = start, np.array([width, height], dtype=np.float64)
    settings = {"winSize": (_WINDOW, _WINDOW), "maxLevel": 2}
    for before, after in pairwise(images):
        if len(at):
            there, seen, _ = cv2.calcOpticalFlowPyrLK(before, after, at, None, **settings)
            back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **settings)
            kept = (seen[:, 0] > 0) & (again[:, 0] > 0) & (np.abs(back - at).max((1, 2)) < _BACK)
            kept &= ((there >= 0) & (there < size)).all((1, 2))
            start, at = start[kept], there[kept]
        yield start[:, 0] + 0.5, at[:, 0] + 0.5, size


def _lifted(at: np.ndarray, size: np.ndarray, depth: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """Points n 3 in the axes of the first camera."""
    share, (h, w) = at.astype(np.float64) / size, depth.shape
    column = np.clip((share[:, 0] * w).astype(int), 0, w - 1)
    row = np.clip((share[:, 1] * h).astype(int), 0, h - 1)
    z = depth[row, column].astype(np.float64)
    return np.stack([*((share - lens[2:]) / lens[:2] * z[:, None]).T, z], axis=1)


def _solved(
    cv2: Any, solid: np.ndarray, at: np.ndarray, size: np.ndarray, lens: np.ndarray
) -> np.ndarray | None:
    """The camera-to-world pose that shows `solid` at `at`, or None."""
    if len(at) < _LEAST:
        return None
    at, (fx, fy, cx, cy) = at.astype(np.float64), lens * np.tile(size, 2)
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    cv2.setRNGSeed(0)
    settings = {"iterationsCount": 500, "reprojectionError": _OFF, "confidence": 0.999}
    good, turn, move, inside = cv2.solvePnPRansac(
        solid, at, matrix, None, flags=cv2.SOLVEPNP_SQPNP, **settings
    )
    if not good or inside is None or len(inside) < _LEAST:
        return None
    inside = inside[:, 0]
    turn, move = cv2.solvePnPRefineLM(solid[inside], at[inside], matrix, None, turn, move)
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(turn)[0].T
    pose[:3, 3] = -pose[:3, :3] @ move[:, 0]
    return pose.astype(np.float32)
