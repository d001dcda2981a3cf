"""Camera paths in words: what they mean, and what is told where they mean nothing."""

import json
from pathlib import Path

import pytest
import torch

from vdit.camera.moves import CameraMove, trajectory
from vdit.camera.path import PRESETS, read_path
from vdit.camera.pose_file import read_poses
from vdit.types import Cameras, InputError

FRAMES = 17


def cameras(text: str) -> Cameras:
    return read_path(text).cameras(FRAMES, 8.0, 64, 64)


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("pan left 20deg", CameraMove("pan left", 20.0)),
        ("Pan Left 20", CameraMove("pan left", 20.0)),
        ("dolly in 0.5 m", CameraMove("dolly in", 0.5)),
        ("zooming out 1.5x", CameraMove("zoom out", 1.5)),
        ("roll counter-clockwise 30°", CameraMove("roll counter-clockwise", 30.0)),
        ("orbit right", CameraMove("orbit right", 25.0)),
        ("hold", CameraMove("static", 0.0)),
        ("videox:Pan_Left", CameraMove("truck left", 1.48)),  # a translation, whatever it is called
        ("videox:zoom in", CameraMove("dolly in", 2.96)),
        ("recammaster:pan_left", CameraMove("pan left", 17.0)),
    ],
)
def test_one_move_is_that_of_the_world(text: str, move: CameraMove):
    asked, expected = cameras(text), trajectory(move, FRAMES, 64, 64)
    torch.testing.assert_close(asked.c2w, expected.c2w)
    torch.testing.assert_close(asked.intrinsics, expected.intrinsics)


def test_a_part_begins_where_the_one_before_it_ended():
    path = cameras("pan left 90deg, then dolly in 2")
    half = trajectory(CameraMove("pan left", 90.0), 9, 64, 64).c2w
    torch.testing.assert_close(path.c2w[:9], half, atol=1e-6, rtol=0)
    assert path.c2w[-1, :3, 3].tolist() == pytest.approx([-2, 0, 0], abs=1e-6)  # forward is left by then
    torch.testing.assert_close(path.c2w[-1, :3, :3], half[-1, :3, :3], atol=1e-6, rtol=0)
    zoomed = cameras("zoom in 2x; zoom in 2x").intrinsics[:, 0]
    assert (zoomed[[8, 16]] / zoomed[0]).tolist() == pytest.approx([2, 4])


def test_moves_at_once_are_both_made():
    both = cameras("truck right 1 while tilt up 10deg").c2w
    assert both[-1, :3, 3].tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    tilt = trajectory(CameraMove("tilt up", 10.0), FRAMES, 64, 64).c2w
    torch.testing.assert_close(both[:, :3, :3], tilt[:, :3, :3])


def test_durations_are_kept_and_the_rest_is_shared():
    path = cameras("truck right 1 for 0.5s, then hold for 4 frames, then truck right 1").c2w[:, 0, 3]
    assert path[[0, 4, 8, 12, 16]].tolist() == pytest.approx([0, 1, 1, 1.5, 2], abs=1e-6)
    assert path[[2, 6]].tolist() == pytest.approx([0.5, 1], abs=1e-6)
    lone = read_path("truck right 1").cameras(1, 8.0, 64, 64)
    assert torch.equal(lone.c2w[0], torch.eye(4))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_path(preset: str):
    assert not torch.equal(cameras(preset).c2w[-1], torch.eye(4))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "path is empty: say for example"),
        ("pan lft 20", "no camera move 'pan lft': did you mean 'pan left'"),
        (
            "roll left 20",
            "no camera move 'roll left': did you mean 'roll clockwise' or 'roll counter-clockwise'",
        ),
        ("spin", "no camera move 'spin': choose hold, static, pan left"),
        ("pan left 3m", r"pan left counts degrees \(deg\), not m"),
        ("pan left 1.2.3", "'1.2.3' is no number"),
        ("zoom in 0.5", "a zoom of 0.5 times is below 1"),
        ("pan left for 0s", "takes 0 s: give it more than 0"),
        ("pan left for 9s", "takes 72 frames, and the clip has 16 after its first"),
        ("pan left for 2s, then hold", "takes 16 frames and more"),
        ("videox:spin", "no camera preset 'videox:spin': choose videox:pan_left"),
    ],
)
def test_what_means_nothing_is_refused(text: str, told: str):
    with pytest.raises(InputError, match=told):
        cameras(text)


def test_poses_in_json_are_told_from_the_first(tmp_path: Path):
    c2w = trajectory(CameraMove("pan left", 20.0), 5, 64, 64).c2w
    away = torch.eye(4)
    away[:3, 3] = torch.tensor([3.0, 1.0, 2.0])
    (tmp_path / "p.json").write_text(json.dumps({"c2w": (away @ c2w)[:, :3].tolist()}))
    found = read_poses(tmp_path / "p.json", 64, 128)
    torch.testing.assert_close(found.c2w.float(), c2w, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.intrinsics[0].float(), torch.tensor([0.45, 0.9, 0.5, 0.5]))
    said = {"c2w": c2w.tolist(), "intrinsics": [0.5, 0.9, 0.5, 0.5]}
    (tmp_path / "p.json").write_text(json.dumps(said))
    assert read_poses(tmp_path / "p.json", 64, 128).intrinsics[4].tolist() == said["intrinsics"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"poses": []}, "it has no 'c2w'"),
        ({"c2w": [[1, 2], [3, 4]]}, r"c2w has the shape \[2, 2\], not frames"),
        ({"c2w": torch.zeros(2, 3, 4).tolist()}, r"the rotation of frame 0 is not orthonormal"),
        (
            {"c2w": [torch.eye(4).tolist(), (-torch.eye(4)).tolist()]},
            "the rotation of frame 1 is not orthonormal",
        ),
        ({"c2w": [torch.eye(4).tolist()], "intrinsics": [1.0]}, r"intrinsics have the shape \[1\]"),
        ([1, 2], "it is no table"),
        ({"c2w": "eye"}, "c2w holds something else than rows of numbers"),
        ({"c2w": None}, "c2w holds something else than rows of numbers"),
        ({"c2w": [torch.eye(4).diag().tolist(), [1]]}, "c2w holds something else than rows of numbers"),
        ({"c2w": [torch.eye(4).tolist()], "intrinsics": [500, 500, 320, 180]}, "not in pixels"),
        ({"c2w": [torch.eye(4).tolist()], "intrinsics": [-1, 1, 0.5, 0.5]}, "are -1, 1, 0.5, 0.5"),
    ],
)
def test_json_that_holds_no_poses_is_refused(tmp_path: Path, said: object, told: str):
    (tmp_path / "p.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=told):
        read_poses(tmp_path / "p.json", 64, 64)


def test_a_row_whose_rotation_is_none_is_refused(tmp_path: Path):
    row = "0 0.6 1.05 0.5 0.48 0 0 1 0 0 0 0 {} 0 0 0 0 1 0"
    (tmp_path / "p.txt").write_text("\n".join(row.format(x) for x in (1, 1.5)))
    with pytest.raises(InputError, match=r"the rotation of frame 1 is not orthonormal \(off by 1.2\)"):
        read_poses(tmp_path / "p.txt", 64, 64)


@pytest.mark.parametrize("lens", ["0 1 0.5 0.5", "nan 1 0.5 0.5", "900 900 640 360"])
def test_a_row_whose_lens_is_none_is_refused(tmp_path: Path, lens: str):
    row = "0 {} 0 0 1 0 0 0 0 1 0 0 0 0 1 0"
    (tmp_path / "p.txt").write_text("\n".join(row.format(some) for some in ("0.6 1 0.5 0.48", lens)))
    with pytest.raises(InputError, match="fx, fy, cx, cy of frame 1 are"):
        read_poses(tmp_path / "p.txt", 64, 64)


def test_a_file_of_poses_may_end_in_capitals(tmp_path: Path):
    (tmp_path / "P.JSON").write_text(json.dumps({"c2w": [torch.eye(4).tolist()]}))
    assert len(read_poses(tmp_path / "P.JSON", 64, 64).c2w) == 1
