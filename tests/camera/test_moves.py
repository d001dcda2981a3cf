import math

import pytest
import torch

from vdit.camera.moves import FOCAL, MOVES, PIVOT, CameraMove, trajectory
from vdit.types import InputError

ROOT = math.sqrt(3) / 2
HALF_ORBIT = PIVOT * 0.5
# The last pose of each word: the x, y and z axes of the camera and its place, in the axes of the first frame.
LAST_POSES = {
    ("static", 0): ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]),
    ("pan left", 30): ([ROOT, 0, 0.5], [0, 1, 0], [-0.5, 0, ROOT], [0, 0, 0]),
    ("pan right", 30): ([ROOT, 0, -0.5], [0, 1, 0], [0.5, 0, ROOT], [0, 0, 0]),
    ("tilt up", 30): ([1, 0, 0], [0, ROOT, 0.5], [0, -0.5, ROOT], [0, 0, 0]),
    ("tilt down", 30): ([1, 0, 0], [0, ROOT, -0.5], [0, 0.5, ROOT], [0, 0, 0]),
    ("roll clockwise", 30): ([ROOT, 0.5, 0], [-0.5, ROOT, 0], [0, 0, 1], [0, 0, 0]),
    ("roll counter-clockwise", 30): ([ROOT, -0.5, 0], [0.5, ROOT, 0], [0, 0, 1], [0, 0, 0]),
    ("truck left", 0.5): ([1, 0, 0], [0, 1, 0], [0, 0, 1], [-0.5, 0, 0]),
    ("truck right", 0.5): ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0, 0]),
    ("pedestal up", 0.5): ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, -0.5, 0]),
    ("pedestal down", 0.5): ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.5, 0]),
    ("dolly in", 0.5): ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0.5]),
    ("dolly out", 0.5): ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -0.5]),
    ("zoom in", 2): ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]),
    ("zoom out", 2): ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]),
    # To the left and looking back to the right at the pivot; the other way round.
    ("orbit left", 30): ([ROOT, 0, -0.5], [0, 1, 0], [0.5, 0, ROOT], [-HALF_ORBIT, 0, PIVOT * (1 - ROOT)]),
    ("orbit right", 30): ([ROOT, 0, 0.5], [0, 1, 0], [-0.5, 0, ROOT], [HALF_ORBIT, 0, PIVOT * (1 - ROOT)]),
}


def test_every_word_has_a_golden_pose():
    assert [word for word, _ in LAST_POSES] == list(MOVES)


@pytest.mark.parametrize(("word", "amplitude"), LAST_POSES)
def test_poses(word: str, amplitude: float):
    cameras = trajectory(CameraMove(word, amplitude), 5, 64, 64)
    expected = torch.tensor(LAST_POSES[word, amplitude], dtype=torch.float32).T
    assert torch.equal(cameras.c2w[0], torch.eye(4))
    assert torch.allclose(cameras.c2w[-1, :3], expected, atol=1e-6)
    turns = cameras.c2w[:, :3, :3]
    assert torch.allclose(turns @ turns.mT, torch.eye(3).expand(5, 3, 3), atol=1e-6)


@pytest.mark.parametrize("word", MOVES)
def test_only_a_zoom_changes_the_lens(word: str):
    focal = trajectory(CameraMove(word, 2.0), 3, 64, 64).intrinsics[:, 0] / FOCAL
    root = math.sqrt(2)
    expected = {"zoom in": [1, root, 2], "zoom out": [1, 1 / root, 0.5]}.get(word, [1, 1, 1])
    assert torch.allclose(focal, torch.tensor(expected, dtype=torch.float32))


def test_intrinsics_are_divided_by_width_and_height():
    intrinsics = trajectory(CameraMove("static", 0.0), 1, 48, 96).intrinsics[0]
    assert torch.allclose(intrinsics, torch.tensor([FOCAL / 2, FOCAL, 0.5, 0.5]))


def test_an_orbit_keeps_its_pivot_in_the_middle():
    poses = trajectory(CameraMove("orbit left", 40.0), 7, 64, 64).c2w
    pivot = torch.tensor([0.0, 0.0, PIVOT])
    seen = torch.einsum("t i j, t i -> t j", poses[:, :3, :3], pivot - poses[:, :3, 3])
    assert torch.allclose(seen, pivot.expand(7, 3), atol=1e-5)


def test_refusals_name_the_remedy():
    with pytest.raises(InputError, match="'jib up' is unknown; choose one of static, pan left"):
        CameraMove("jib up", 1.0)
    with pytest.raises(InputError, match="-3 is negative; use the opposite word"):
        CameraMove("pan left", -3.0)
    with pytest.raises(InputError, match=r"zoom of 0\.5 times is below 1; swap"):
        CameraMove("zoom in", 0.5)
    with pytest.raises(InputError, match="0 frames of 64 × 64 is empty"):
        trajectory(CameraMove("static", 0.0), 0, 64, 64)
