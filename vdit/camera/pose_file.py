"""Camera poses in files: the lines of RealEstate10K, which other camera models read too, and JSON."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.camera.moves import FOCAL
from vdit.types import Cameras, InputError

__all__ = ["cameras_of_rows", "read_poses"]

NUMBERS = 19
"""Time, fx, fy, cx, cy, two zeros, and the 3x4 matrix from world to camera, row by row."""

CROOKED = 1e-2
"""How far R^T R may be from the identity: files have few digits."""


def read_poses(file: Path, height: int, width: int, pose_size: tuple[int, int] | None = None) -> Cameras:
    """The cameras of a pose file for frames of a size.

    Text has one line a frame; a first line without 19 numbers, often the address of a video, is left out.
    JSON has `c2w`, a list of 3x4 or 4x4 matrices in OpenCV's axes, and may have `intrinsics`, fx, fy, cx, cy
    over the size of the frame, once or for each.

    Args:
        file: ends in `.json`, or is text.
        height: rows of the frames.
        width: their columns.
        pose_size: height and width of the frames that the poses were made for, of which the frames asked for
            are a centred crop; None is 720x1280 for lines, and for JSON frames of the shape asked for.

    Raises:
        InputError: the file is missing or is not of this kind, a rotation is none, or a lens is told
            in pixels.
    """
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"pose file {file} cannot be read: {error}") from error
    if file.suffix.lower() == ".json":
        cameras = _of_json(file, text, height, width)
        if pose_size is None:
            return cameras
        return Cameras(_cropped(cameras.intrinsics, height, width, pose_size), cameras.c2w)
    rows = _rows(file, text)
    _check_rotations(file, _square(rows[:, 7:].reshape(-1, 3, 4)))
    _check_lenses(file, rows[:, 1:5])
    return cameras_of_rows(rows, height, width, pose_size or (720, 1280))


def _rows(file: Path, text: str) -> Float[Tensor, "t nineteen"]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if len(words) != NUMBERS:
            if number == 1 or not words:
                continue
            raise InputError(f"line {number} of pose file {file} has {len(words)} numbers, not {NUMBERS}")
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise InputError(f"line {number} of pose file {file} is no row of numbers: {error}") from error
    if not rows:
        raise InputError(f"pose file {file} holds no pose: {NUMBERS} numbers a line are needed")
    return torch.tensor(rows, dtype=torch.float64)


def cameras_of_rows(
    rows: Float[Tensor, "t nineteen"], height: int, width: int, pose_size: tuple[int, int] = (720, 1280)
) -> Cameras:
    """Cameras of rows of 19 numbers. Frames of another shape than the poses' are a centred crop of theirs."""
    c2w = torch.linalg.inv(_square(rows[:, 7:].reshape(-1, 3, 4)))
    return _relative(_cropped(rows[:, 1:5], height, width, pose_size), c2w)


def _cropped(
    intrinsics: Float[Tensor, "t 4"], height: int, width: int, pose_size: tuple[int, int]
) -> Float[Tensor, "t 4"]:
    """Those of the largest centred window of the shape asked for."""
    fx, fy, cx, cy = intrinsics.unbind(1)
    theirs, ours = pose_size[1] / pose_size[0], width / height
    if theirs > ours:
        fx = fx * theirs / ours
    else:
        fy = fy * ours / theirs
    return torch.stack([fx, fy, cx, cy], dim=1)


def _of_json(file: Path, text: str, height: int, width: int) -> Cameras:
    try:
        said: Any = json.loads(text)
        if not isinstance(said, dict):
            raise ValueError('it is no table, like {"c2w": [...], "intrinsics": [...]}')
        c2w = _numbers("c2w", said["c2w"])
        focal = FOCAL * min(height, width)
        usual = [focal / width, focal / height, 0.5, 0.5]
        intrinsics = _numbers("intrinsics", said.get("intrinsics", usual))
        if c2w.ndim != 3 or c2w.shape[1:] not in ((3, 4), (4, 4)) or not len(c2w):
            raise ValueError(f"c2w has the shape {list(c2w.shape)}, not frames of 3x4 or 4x4")
        if intrinsics.shape not in ((4,), (len(c2w), 4)):
            raise ValueError(
                f"intrinsics have the shape {list(intrinsics.shape)}, not 4 numbers, or 4 a frame"
            )
    except (ValueError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"pose file {file} cannot be used: {reason}") from error
    c2w = _square(c2w[:, :3])
    intrinsics = intrinsics.expand(len(c2w), 4)
    _check_rotations(file, c2w)
    _check_lenses(file, intrinsics)
    return _relative(intrinsics, c2w)


def _numbers(name: str, said: Any) -> Tensor:
    try:
        return torch.tensor(said, dtype=torch.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} holds something else than rows of numbers, all of one length") from error


def _square(poses: Float[Tensor, "t 3 4"]) -> Float[Tensor, "t 4 4"]:
    whole = torch.eye(4, dtype=torch.float64).repeat(len(poses), 1, 1)
    whole[:, :3] = poses
    return whole


def _relative(intrinsics: Float[Tensor, "t 4"], c2w: Float[Tensor, "t 4 4"]) -> Cameras:
    """Told from the first camera."""
    return Cameras(intrinsics, torch.linalg.inv(c2w[:1]) @ c2w)


def _check_rotations(file: Path, c2w: Float[Tensor, "t 4 4"]) -> None:
    turn = c2w[:, :3, :3]
    wrong = (turn.mT @ turn - torch.eye(3, dtype=turn.dtype)).abs().amax((1, 2))
    wrong = torch.where(torch.linalg.det(turn) > 0, wrong, torch.inf).nan_to_num(nan=torch.inf)
    if (worst := wrong.max().item()) > CROOKED or not c2w.isfinite().all():
        frame = int(wrong.argmax())
        off = (
            f"off by {worst:.2g}"
            if math.isfinite(worst)
            else "it mirrors, or has numbers that are not finite"
        )
        raise InputError(
            f"pose file {file}: the rotation of frame {frame} is not orthonormal ({off}): "
            "check the order of its numbers"
        )


def _check_lenses(file: Path, intrinsics: Float[Tensor, "t 4"]) -> None:
    """Over the size of the frame a focal length is above 0 and the middle lies inside; pixels would not."""
    focal, middle = intrinsics[:, :2], intrinsics[:, 2:]
    sound = focal.isfinite() & (focal > 0) & (middle >= 0) & (middle <= 1)
    if not (fits := sound.all(dim=1)).all():
        frame = int(fits.int().argmin())
        told = ", ".join(f"{number:g}" for number in intrinsics[frame].tolist())
        raise InputError(
            f"pose file {file}: fx, fy, cx, cy of frame {frame} are {told}; they must be over the size of "
            "the frame, not in pixels: focal lengths above 0, the middle in [0, 1]"
        )
