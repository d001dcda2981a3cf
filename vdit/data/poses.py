"""Camera poses in files, in the lines of RealEstate10K, which other camera models read too."""

from pathlib import Path

import torch

from vdit.types import Cameras, InputError

__all__ = ["cameras_of_rows", "read_poses"]

NUMBERS = 19
"""Time, fx, fy, cx, cy, two zeros, and the 3x4 matrix from world to camera, row by row."""


def read_poses(file: Path, height: int, width: int, pose_size: tuple[int, int] = (720, 1280)) -> Cameras:
    """The cameras of a pose file for frames of a size.

    A first line without 19 numbers, often the address of a video, is left out.

    Args:
        file: text, one line a frame.
        height: rows of the frames.
        width: their columns.
        pose_size: height and width of the frames that the poses were made for.

    Raises:
        InputError: the file is missing or is not of this kind.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"pose file {file} cannot be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
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
    return cameras_of_rows(torch.tensor(rows, dtype=torch.float64), height, width, pose_size)


def cameras_of_rows(
    rows: torch.Tensor, height: int, width: int, pose_size: tuple[int, int] = (720, 1280)
) -> Cameras:
    """Cameras of rows of 19 numbers. Frames of another shape than the poses' are a centred crop of theirs."""
    fx, fy, cx, cy = rows[:, 1:5].unbind(1)
    theirs, ours = pose_size[1] / pose_size[0], width / height
    if theirs > ours:
        fx = fx * theirs / ours
    else:
        fy = fy * ours / theirs
    w2c = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1)
    w2c[:, :3] = rows[:, 7:].reshape(-1, 3, 4)
    c2w = torch.linalg.inv(w2c)
    return Cameras(torch.stack([fx, fy, cx, cy], dim=1), torch.linalg.inv(c2w[:1]) @ c2w)
