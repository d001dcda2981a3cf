"""What one process does with clips that have changed, two do together, and end alike."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vdit.eval.curves import read_rows
from vdit.sample.video_file import write_video

pytestmark = pytest.mark.slow
VIDEOS = 6
TWO = ("--parallel.devices", "2")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder, noise = tmp_path / "videos", torch.Generator().manual_seed(0)
    folder.mkdir()
    for number in range(VIDEOS):
        write_video(folder / f"{number}.mp4", torch.rand(3, 5, 16, 16, generator=noise) * 2 - 1, 8)
        (folder / f"{number}.txt").write_text(f"noise {number}")
    return folder


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_rows(run / "metrics.jsonl") if row["kind"] == "train"]


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "captions": (
        lambda folder: (folder / "1.txt").write_text("other"),
        "1 training clip has another caption",
    ),
    "video": (
        lambda folder: write_video(folder / "2.mp4", torch.zeros(3, 5, 16, 16), 8),
        "1 training clip shows something else",
    ),
    "removed": (lambda folder: (folder / "0.mp4").unlink(), "1 training clip is gone"),
    "added": (lambda folder: shutil.copy(folder / "5.mp4", folder / "6.mp4"), "1 training clip is new"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_two_processes_tell_changed_clips_and_go_on_once_they_may(
    what: str, videos: Path, folder_config: Callable[[Path], Path], begin, finish, tmp_path: Path
):
    config, run = folder_config(videos), tmp_path / "run"
    finish(begin(config, run, *TWO))
    change, said = CHANGES[what]
    change(videos)
    more = ("--loop.steps", "4")
    for _ in range(2):
        refused = finish(begin(config, run, *TWO, *more), status=2)
        assert said in " ".join(refused.split())
        assert "Traceback" not in refused
        assert len(losses(run)) == 2
    finish(begin(config, run, *TWO, *more, "--accept-changed-data"))
    assert len(losses(run)) == 4
    finish(begin(config, run, *TWO, "--loop.steps", "6"))
    assert len(losses(run)) == 6


def test_two_processes_go_on_where_the_folder_has_moved(
    videos: Path, folder_config: Callable[[Path], Path], begin, finish, tmp_path: Path
):
    config, run = folder_config(videos), tmp_path / "run"
    finish(begin(config, run, *TWO))
    moved = videos.rename(tmp_path / "moved")
    finish(begin(folder_config(moved), run, *TWO, "--loop.steps", "4"))
    assert len(losses(run)) == 4


def test_two_processes_leave_together_where_all_clips_are_damaged_and_go_on_without_one(
    videos: Path, folder_config: Callable[[Path], Path], begin, finish, tmp_path: Path
):
    config, run = folder_config(videos), tmp_path / "run"
    finish(begin(config, run, *TWO))
    whole = shutil.copytree(videos, tmp_path / "whole")
    for video in videos.glob("*.mp4"):
        video.write_bytes(b"no video")
    said = finish(begin(config, run, *TWO, "--loop.steps", "4"), status=2)
    assert "Traceback" not in said
    assert "none of the 6 videos" in " ".join(said.split())
    assert len(losses(run)) == 2
    for number in range(1, VIDEOS):
        shutil.copyfile(whole / f"{number}.mp4", videos / f"{number}.mp4")
    said = finish(begin(config, run, *TWO, "--loop.steps", "4"))
    assert "data.max_unreadable allows 1" in said
    assert len(losses(run)) == 4
