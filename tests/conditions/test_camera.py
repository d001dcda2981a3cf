"""Cameras as a condition: heard, hidden, and left out in sampling where training left it out too."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from vdit.camera.moves import CameraMove, trajectory
from vdit.conditions.camera import CameraCondition, CameraPoses, CameraRays
from vdit.conditions.rays import grouped, plucker
from vdit.types import Cameras, ClipBatch, DenoiserInput, InputError

NO_CODEC = cast(Any, None)


def batch(cameras: Cameras | None) -> ClipBatch:
    latents = torch.zeros(2, 4, 3, 2, 3)
    return ClipBatch(("a", "b"), ("", ""), torch.ones(2), latents=latents, cameras=cameras)


def paths() -> Cameras:
    both = [trajectory(CameraMove(word, 10), 9, 16, 24) for word in ("pan left", "tilt up")]
    return Cameras(torch.stack([one.intrinsics for one in both]), torch.stack([one.c2w for one in both]))


def told(condition: CameraCondition, asked: ClipBatch) -> torch.Tensor:
    features = {condition.name: condition.feature(asked, NO_CODEC)}
    return condition.signal(replace(asked, features=features))


def test_the_signal_is_the_rays_of_each_latent_frame():
    rays = told(CameraRays(), batch(paths()))
    torch.testing.assert_close(rays, grouped(plucker(paths(), 16, 24), 4))
    inputs = CameraRays().fill(DenoiserInput(torch.zeros(2, 4, 3, 2, 3), torch.ones(2, 1, 1, 1)), rays)
    assert inputs.added is rays


def test_no_camera_is_what_training_hid_cameras_behind():
    condition = CameraRays(drop=0.2)
    condition.check(batch(None))
    missing = told(condition, batch(None))
    assert torch.equal(missing, condition.null(told(condition, batch(paths()))))
    assert missing.isfinite().all()
    with pytest.raises(InputError, match="give one with --camera"):
        CameraRays(drop=0.0).check(batch(None))
    with pytest.raises(InputError, match="or clips that know theirs"):
        condition.check(replace(batch(None), pixels=torch.zeros(2, 3, 9, 16, 24)))


def test_a_path_of_another_length_is_refused():
    condition = CameraRays()
    short = Cameras(paths().intrinsics[:, :5], paths().c2w[:, :5])
    with pytest.raises(InputError, match="the camera has 5 frames, and the clip 9"):
        told(condition, batch(short))


def test_poses_are_numbers_of_each_latent_frame_seen_from_the_first():
    turned = Cameras(paths().intrinsics, paths().c2w[:, 3:4] @ paths().c2w)
    numbers = told(CameraPoses(), batch(turned))
    assert numbers.shape == (2, 3, 56)
    torch.testing.assert_close(numbers, told(CameraPoses(), batch(paths())), atol=1e-5, rtol=0)
    each = numbers.unflatten(-1, (14, 4)).mT  # b t frame number
    torch.testing.assert_close(each[:, 2, 1, :12], paths().c2w[:, 6, :3].flatten(1))
    torch.testing.assert_close(each[:, 0, :, 12:], paths().intrinsics[:, :1, :2].expand(-1, 4, -1))
    assert not told(CameraPoses(drop=0.2), batch(None)).any()
    inputs = DenoiserInput(torch.zeros(2, 4, 3, 2, 3), torch.ones(2, 1, 1, 1))
    assert CameraPoses().fill(inputs, numbers).vectors["camera"] is numbers
