"""The judge of poses: exact cameras of renders, and what it does with clips that show nothing."""

import numpy as np
import pytest
import torch

from vdit.camera.moves import CameraMove, trajectory
from vdit.eval.camera_score import score_cameras
from vdit.types import Cameras, InputError
from vdit.world.pose_judge import find_poses, pose_error
from vdit.world.raycast import room_depth, view_rays
from vdit.world.room import Room

MOVES = (
    "pan left",
    "tilt up",
    "roll clockwise",
    "truck right",
    "dolly in",
    "orbit left",
    "zoom in",
    "static",
)


def render(move: str, frames: int = 9) -> tuple[torch.Tensor, Cameras]:
    level = Room(moves=[move])
    drawn = level.render(level.scene(np.random.default_rng(3), False), frames, 64, 64)
    assert drawn.cameras is not None
    return drawn.pixels, drawn.cameras


@pytest.mark.parametrize("move", MOVES)
def test_cameras_of_renders_are_found(move: str):
    pixels, cameras = render(move)
    depth = room_depth(view_rays(cameras, 64, 64))[0]
    poses, found = find_poses(pixels, depth, cameras.intrinsics)
    assert found.all()
    error = pose_error(poses, found, cameras)
    assert error.rotation < 1.5
    assert error.translation < 0.15


def test_errors_are_angles_distances_and_their_norm():
    asked = trajectory(CameraMove("pan left", 8), 5, 64, 64)
    still = torch.eye(4).repeat(5, 1, 1)
    all_found = torch.ones(5, dtype=torch.bool)
    error = pose_error(still, all_found, asked)
    assert error.rotation == pytest.approx(5, abs=1e-3)  # 2, 4, 6, 8 degrees
    assert error.translation == 0
    assert error.matrix == pytest.approx(
        np.mean([2 * 2**0.5 * np.sin(np.radians(a) / 2) for a in (2, 4, 6, 8)])
    )
    half = torch.tensor([True, True, False, False, False])
    assert pose_error(still, half, asked).rotation == pytest.approx(2, abs=1e-3)
    none = torch.tensor([True, False, False, False, False])
    assert pose_error(still, none, asked).rotation == pytest.approx(5, abs=1e-3)  # as a camera that stands
    moved = trajectory(CameraMove("truck left", 0.8), 5, 64, 64)
    assert pose_error(still, all_found, moved).translation == pytest.approx(0.5)


def test_a_clip_that_shows_nothing_has_no_cameras():
    _, cameras = render("static")
    depth = room_depth(view_rays(cameras, 64, 64))[0]
    _, found = find_poses(torch.zeros(3, 9, 64, 64), depth, cameras.intrinsics)
    assert (
        found.tolist() == [True] + [False] * 8 or found.all()
    )  # flat frames: nothing moves, or nothing is seen
    noise = torch.rand(3, 9, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    _, found = find_poses(noise, depth, cameras.intrinsics)
    assert found.float().mean() < 0.5


def test_the_table_has_the_truth_at_its_ceiling_and_others_at_the_floor():
    clips = [render(move) for move in ("pan left", "pan right", "tilt up", "truck left")]
    pixels, cameras = torch.stack([clip for clip, _ in clips]), [path for _, path in clips]
    score = score_cameras(pixels, pixels, pixels + 0.02, cameras)
    assert score.model == score.ceiling_truth
    assert score.model.found == 1
    assert score.model.median.rotation < 1.5
    assert score.floor.median.rotation > 5 * score.model.median.rotation
    assert score.ceiling_codec.median.rotation < 2
    with pytest.raises(InputError, match="score at least 2"):
        score_cameras(pixels[:1], pixels[:1], pixels[:1], cameras[:1])
