"""What stands beside videos: references and poses, in a folder and in a list."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from moving_waves import moving_waves
from PIL import Image

from vdit.camera.moves import CameraMove, trajectory
from vdit.data.cut import ClipCut
from vdit.data.folder import FolderSource
from vdit.data.listing import ListSource
from vdit.data.stack import stack
from vdit.sample.video_file import write_video
from vdit.types import InputError

CUT = ClipCut(frames=5, height=16, width=16, windows="slide", hop=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos of 9 frames of 32x48, one with two references, both with poses of a truck to the left."""
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.mp4", moving_waves(9, 32, 48), 8.0, {})
        path = trajectory(CameraMove("truck left", 0.8), 9, 32, 48)
        said = {"c2w": path.c2w.tolist(), "intrinsics": path.intrinsics.tolist()}
        (tmp_path / f"{name}.poses.json").write_text(json.dumps(said))
    colours = np.random.default_rng(0).integers(0, 255, (20, 10, 3)).astype(np.uint8)
    for ending in (".reference.png", ".reference.side.png"):
        Image.fromarray(colours).save(tmp_path / f"a{ending}")
    return tmp_path


def test_a_folder_has_references_and_poses_by_their_names(folder: Path):
    source = FolderSource(folder, CUT)
    assert [source[i].id for i in range(len(source))] == ["a.mp4@0", "a.mp4@4", "b.mp4@0", "b.mp4@4"]
    batch = stack([source[1], source[2]])
    assert batch.references is not None
    assert batch.references.mask.tolist() == [[True, True], [False, False]]
    assert (batch.references.pixels[0, 0, :, :, :4] == 0).all()  # fitted whole, between grey borders
    assert batch.references.pixels[0, 0, :, :, 6:10].std() > 0.1
    assert batch.cameras is not None
    expected = torch.eye(4).repeat(5, 1, 1)
    expected[:, 0, 3] = -0.1 * torch.arange(5)
    torch.testing.assert_close(batch.cameras.c2w, expected.expand(2, -1, -1, -1), atol=1e-5, rtol=0)
    fx, fy = batch.cameras.intrinsics[0, 0, :2].tolist()
    assert (fx, fy) == pytest.approx((0.9, 0.9))  # the square in the middle of 32x48


def test_a_list_names_them_in_columns(folder: Path):
    rows = [
        {"video": "a.mp4", "references": ["a.reference.png"], "poses": "a.poses.json"},
        {"video": "b.mp4", "poses": "a.poses.json"},
    ]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = ListSource(folder / "list.jsonl", CUT)
    whole = FolderSource(folder, CUT)
    assert torch.equal(source[0].references[0], whole[0].references[0])
    assert torch.equal(source[1].cameras.c2w, whole[1].cameras.c2w)
    (folder / "list.csv").write_text(
        "video,references,poses\na.mp4,a.reference.png; a.reference.side.png,a.poses.json\n"
        "b.mp4,,b.poses.json\n"
    )
    table = ListSource(folder / "list.csv", CUT)
    assert [len(table[i].references) for i in (0, 2)] == [2, 0]
    assert (
        table.fingerprint == whole.fingerprint != source.fingerprint
    )  # the same clips, however they are named
    before = table.fingerprint
    Image.fromarray(np.eye(9, dtype=np.uint8) * 255).save(folder / "a.reference.png")
    assert ListSource(folder / "list.csv", CUT).fingerprint != before


def test_poses_and_references_that_are_not_read_are_told(folder: Path):
    said = json.loads((folder / "a.poses.json").read_text())
    (folder / "a.poses.json").write_text(json.dumps({"c2w": [*said["c2w"], *said["c2w"][:3]]}))
    (folder / "c.poses.txt").write_text("")
    (folder / "A.Reference.png").write_bytes((folder / "a.reference.png").read_bytes())
    source = FolderSource(folder, CUT)
    assert len(source[0].references) == 3
    assert ("a.mp4", "it has 9 frames and 12 poses: the last are unused") in source.report.remarks
    assert source.report.not_understood == (("c.poses.txt", "poses of no video that is here"),)
    (folder / "c.poses.txt").unlink()
    (folder / "a.POSES.JSON").write_text((folder / "b.poses.json").read_text())
    assert ("a.poses.json", "a.POSES.JSON has the poses of a.mp4") in FolderSource(folder, CUT).report.skipped


def test_an_end_behind_the_last_frame_is_told(folder: Path):
    (folder / "list.csv").write_text("video,end,caption\na.mp4,9,nan\nb.mp4,1,x\n")
    assert ListSource(folder / "list.csv", CUT).report.remarks == (
        ("a.mp4", "'end' is 9 s, behind its last frame at 1.12 s"),
        ("a.mp4", "its caption is the word 'nan'"),
    )


def test_without_them_clips_have_none(folder: Path):
    for file in (*folder.glob("*.png"), *folder.glob("*.json")):
        file.unlink()
    clip = FolderSource(folder, CUT)[0]
    assert clip.references is None
    assert clip.cameras is None


BROKEN = {
    "few poses": (
        "poses.json",
        '{"c2w": [[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]]}',
        "1 pose for its 9 frames",
    ),
    "no poses": ("poses.json", "{", "cannot be used: Expecting"),
    "no picture": ("reference.png", "no picture", "Pillow cannot read this image"),
    "nothing to see": ("reference.png", "", "has one colour everywhere"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_video_beside_which_a_file_is_of_no_use_is_skipped_as_a_damaged_one_is(folder: Path, case: str):
    ending, words, reason = BROKEN[case]
    for video in "ab":
        (folder / f"{video}.{ending}").write_text(words)
        if not words:
            Image.new("RGB", (9, 9)).save(folder / f"{video}.{ending}")
        if video == "a":
            report = (source := FolderSource(folder, CUT)).report
            assert {source[i].id for i in range(len(source))} == {"b.mp4@0", "b.mp4@4"}
            skipped = dict(report.skipped)
            assert f"a.{ending}" in skipped.pop("a.mp4")
            assert skipped.keys() == {"a.poses.json", "a.reference.png", "a.reference.side.png"}
            assert (report.seen, report.used) == (6, 2)
    with pytest.raises(InputError, match=f"none of the 2 videos .* can be used; .*{reason}"):
        FolderSource(folder, CUT)


def test_what_does_not_fit_is_refused(folder: Path):
    crops = ClipCut(frames=5, height=16, width=16, random_crop=True)
    with pytest.raises(InputError, match="poses are of centred crops: leave out random_crop"):
        FolderSource(folder, crops)
    (folder / "b.poses.json").unlink()
    with pytest.raises(InputError, match=r"1 of the 2 videos of the folder .* have no poses \(b\.mp4\)"):
        FolderSource(folder, CUT)
    (folder / "list.jsonl").write_text('{"video": "a.mp4", "references": [3]}')
    with pytest.raises(InputError, match="'references' must be paths of images"):
        ListSource(folder / "list.jsonl", CUT)
    (folder / "list.jsonl").write_text('{"video": "a.mp4", "poses": 3}')
    with pytest.raises(InputError, match="'poses' must be the path"):
        ListSource(folder / "list.jsonl", CUT)
