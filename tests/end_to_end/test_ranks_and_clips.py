"""What one process does with clips and runs of before, two do together, and end alike."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

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


@pytest.mark.parametrize("kept", [(), range(1, VIDEOS)], ids=["all damaged", "the first damaged"])
def test_two_processes_leave_together_where_clips_are_damaged(
    kept: range, videos: Path, folder_config: Callable[[Path], Path], begin, finish, tmp_path: Path
):
    config, run = folder_config(videos), tmp_path / "run"
    finish(begin(config, run, *TWO))
    for number in set(range(VIDEOS)) - set(kept):
        (videos / f"{number}.mp4").write_bytes(b"no video")
    said = finish(begin(config, run, *TWO, "--loop.steps", "4"), status=2)
    assert "Traceback" not in said
    assert ("can be used" if not kept else "0.mp4") in " ".join(said.split())
    assert len(losses(run)) == 2


def test_two_processes_begin_with_a_run_as_one_does(
    flow_run: Path, flow_config: Path, begin, finish, tmp_path
):
    values = yaml.safe_load(flow_config.read_text())
    arguments = values["task"]["init_args"]
    del arguments["codec"], arguments["sampling"]
    arguments["start_from"] = str(flow_run)
    values["loop"]["steps"] = 4
    (tmp_path / "next.yaml").write_text(yaml.safe_dump(values))
    ended = []
    for name, options in {"one": (), "two": TWO, "zero3": (*TWO, "--parallel.strategy", "zero3")}.items():
        said = finish(begin(tmp_path / "next.yaml", tmp_path / name, *options))
        assert f"beginning with step 40 of {flow_run}" in " ".join(said.split())
        ended.append(losses(tmp_path / name))
    for other in ended[1:]:
        assert other == pytest.approx(ended[0], rel=1e-4)
