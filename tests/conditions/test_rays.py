"""Rays of cameras, against what is known of lines in space, and against the cameras of the built-in world."""

from pathlib import Path

import pytest
import torch

from vdit.camera.moves import CameraMove, trajectory
from vdit.camera.pose_file import read_poses
from vdit.conditions.rays import grouped, plucker
from vdit.eval.import_case import ImportCase, compare
from vdit.types import Cameras, InputError
from vdit.world.raycast import view_rays

CASE = Path(__file__).parents[1] / "oracle/wan_fun_camera"
MOVES = (
    ("pan left", 15.0),
    ("dolly in", 1.0),
    ("roll clockwise", 20.0),
    ("orbit right", 25.0),
    ("zoom in", 1.5),
)


def moving(word: str, amplitude: float, frames: int = 5) -> Cameras:
    return trajectory(CameraMove(word, amplitude), frames, 12, 16)


@pytest.mark.parametrize(("word", "amplitude"), MOVES)
def test_rays_are_those_that_the_world_is_drawn_with(word: str, amplitude: float):
    cameras = moving(word, amplitude)
    moment, direction = plucker(cameras, 12, 16).split(3, dim=1)
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(5, 12, 16))
    torch.testing.assert_close((moment * direction).sum(1), torch.zeros(5, 12, 16), atol=1e-5, rtol=0)
    rays = view_rays(cameras, 12, 16)
    drawn = rays.direction / rays.direction.norm(dim=0)  # 3 t h w
    torch.testing.assert_close(direction.movedim(1, 0), drawn, atol=1e-5, rtol=1e-5)


def test_a_ray_is_the_same_from_wherever_on_it_one_looks():
    """Along the middle ray of a dolly nothing changes, though the camera moves."""
    cameras = moving("dolly in", 2.0)
    middle = plucker(cameras, 1, 1)[:, :, 0, 0]
    torch.testing.assert_close(middle, torch.tensor([0.0, 0, 0, 0, 0, 1]).expand(5, 6), atol=1e-6, rtol=0)


def test_rays_are_seen_from_the_first_camera():
    cameras = moving("orbit left", 20.0)
    elsewhere = torch.eye(4)
    elsewhere[:3, :3] = cameras.c2w[3, :3, :3]
    elsewhere[:3, 3] = torch.tensor([5.0, -2.0, 1.0])
    moved = Cameras(cameras.intrinsics, elsewhere @ cameras.c2w)
    torch.testing.assert_close(plucker(moved, 6, 8), plucker(cameras, 6, 8), atol=1e-5, rtol=0)


def test_the_first_frame_fills_its_group():
    frames = torch.arange(5.0).view(1, 5, 1, 1, 1) + torch.tensor([0.0, 0.1]).view(1, 1, 2, 1, 1)
    channels = grouped(frames, stride_t=4)[0, :, :, 0, 0]
    assert channels[:, 0].tolist() == pytest.approx([0, 0, 0, 0, 0.1, 0.1, 0.1, 0.1])
    assert channels[:, 1].tolist() == pytest.approx([1, 2, 3, 4, 1.1, 2.1, 3.1, 4.1])


def test_rays_and_adapter_are_those_of_the_published_models():
    case = ImportCase.open(CASE)
    assert case.layouts == ["original"]
    found = compare("original", case.compute("original"), case.expected())
    assert found.passed, found


LINE = "0 0.6 1.05 0.5 0.48 0 0 1 0 0 {x} 0 1 0 0 0 0 1 0"


def test_a_pose_file_is_read_with_and_without_an_address(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\n".join(LINE.format(x=-x) for x in (0, 1, 2)))
    (tmp_path / "b.txt").write_text("https://video\n" + (tmp_path / "a.txt").read_text() + "\n\n")
    for name in ("a.txt", "b.txt"):
        cameras = read_poses(tmp_path / name, 72, 128)
        assert cameras.c2w[:, 0, 3].tolist() == [
            0,
            1,
            2,
        ]  # the file says where the world is; this, the camera
        assert cameras.intrinsics[0].tolist() == pytest.approx([0.6, 1.05, 0.5, 0.48])
    square = read_poses(tmp_path / "a.txt", 64, 64).intrinsics[0]
    assert square.tolist() == pytest.approx([0.6 * 16 / 9, 1.05, 0.5, 0.48])
    wide = read_poses(tmp_path / "a.txt", 64, 256).intrinsics[0]
    assert wide.tolist() == pytest.approx([0.6, 1.05 * 4 * 9 / 16, 0.5, 0.48])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        ("https://video\n", "holds no pose"),
        (LINE.format(x=0) + "\n1 2 3\n", "line 2 .* has 3 numbers, not 19"),
        (LINE.format(x="much"), "line 1 .* is no row of numbers"),
    ],
)
def test_what_is_no_pose_file_is_refused(tmp_path: Path, content: str | None, told: str):
    if content is not None:
        (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=told):
        read_poses(tmp_path / "a.txt", 64, 64)
