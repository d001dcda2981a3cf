"""decord reads a file where it shows what PyAV shows, and the file is skipped by name where it does not."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numbered import numbered, numbers_of, write

from vdit.data.cut import ClipCut
from vdit.data.decode import UnreadableVideo, open_video, scan
from vdit.data.folder import FolderSource

MEDIA = Path(__file__).parent / "media"
CUT = ClipCut(frames=5, height=32, width=32)


@pytest.fixture
def decord(monkeypatch) -> Callable:
    """Stands in for decord where that is not installed: shows what a function makes of PyAV's frames."""

    def install(change: Callable[[np.ndarray], np.ndarray]) -> None:
        class Reader:
            def __init__(self, path: str, ctx: object, num_threads: int):
                video = open_video(path)
                read = video.read(0, video.table.info.frames)
                self.shown = change(read.permute(1, 2, 3, 0).numpy())

            def __len__(self) -> int:
                return len(self.shown)

            def get_batch(self, indices: list[int]) -> SimpleNamespace:
                return SimpleNamespace(asnumpy=lambda: self.shown[indices])

        module = SimpleNamespace(
            VideoReader=Reader, cpu=lambda _: None, DECORDError=OSError, __spec__=object()
        )
        monkeypatch.setitem(sys.modules, "decord", module)

    return install


@pytest.fixture
def folder(tmp_path) -> Path:
    write(tmp_path / "a.mp4", [numbered(k) for k in range(40)])
    return tmp_path


def darker(frames: np.ndarray) -> np.ndarray:
    return np.maximum(frames, 1) - 1


def test_frames_that_are_rounded_down_are_taken(decord, folder):
    decord(darker)
    source = FolderSource(folder, CUT, decoder="decord")
    assert not source.report.skipped
    assert numbers_of(open_video(folder / "a.mp4", "decord").read(7, 2)) == [7, 8]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frames: frames[3:], "decord shows 37 frames instead of 40"),
        (lambda frames: np.roll(darker(frames), 1, 0), "frame 0 otherwise, by"),
        (lambda frames: frames[:, :, :64], "decord shows 64x96 pixels instead of 128x96"),
        (
            lambda frames: frames - frames // 16,
            r"frame 0 otherwise, by \d+\.\d levels in the mean; read it with decoder: pyav",
        ),
    ],
)
def test_a_file_that_decord_shows_otherwise_is_skipped_by_name(decord, folder, change, reason):
    decord(lambda frames: change(frames) if len(frames) == 40 else frames)
    write(folder / "b.mp4", [numbered(k) for k in range(12)])
    source = FolderSource(folder, CUT, decoder="decord")
    ((name, said),) = source.report.skipped
    assert name == "a.mp4"
    assert "decoder: pyav" in said
    with pytest.raises(UnreadableVideo, match=reason):
        scan(folder / "a.mp4", "decord")


def test_a_neighbour_in_the_place_of_a_frame_is_noticed_where_little_moves(decord, tmp_path):
    still = numbered(0)
    frames = [still.copy() for _ in range(20)]
    for k, frame in enumerate(frames):
        frame[50:54, 4 * k : 4 * k + 4] = 255
    write(tmp_path / "a.mp4", frames, options={"crf": "5"})
    decord(lambda read: darker(np.concatenate([read[1:], read[-1:]])))
    with pytest.raises(UnreadableVideo, match="another frame where frame"):
        scan(tmp_path / "a.mp4", "decord")


def test_decord_itself(tmp_path):
    pytest.importorskip("decord")
    path = write(tmp_path / "a.mp4", 40)
    video = open_video(path, "decord")
    assert numbers_of(video.frames([0, 30, 31, 39, 30])) == [0, 30, 31, 39, 30]
    exact = open_video(path).read(0, 40)
    assert (video.read(0, 40).float() - exact.float()).abs().mean() < 2
    for name in (
        "edit_start_trim.mp4",
        "edit_both_trim.mp4",
        "hdr_pq.mp4",
        "sar_2_1.mp4",
        "sdr709_untagged_720p.mp4",
    ):
        with pytest.raises(UnreadableVideo, match=f"{name}: decord shows .*; read it with decoder: pyav"):
            scan(MEDIA / name, "decord")
    assert torch.equal(
        open_video(MEDIA / "plain.mp4", "decord").read(0, 60)[:, 5],
        open_video(MEDIA / "plain.mp4", "decord").read(5, 1)[:, 0],
    )
