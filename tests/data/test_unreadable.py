"""Whose fault it is that a clip cannot be read: by files really gone, closed, or failing."""

import os
from pathlib import Path

import pytest
import torch

from vdit.data import unreadable
from vdit.data.cut import ClipCut
from vdit.data.folder import FolderSource
from vdit.data.media import UnreadableVideo
from vdit.data.unreadable import UnreadableClip, first_readable, read_clip, readable
from vdit.sample.video_file import write_video
from vdit.types import InputError
from vdit.weights.files import DiskError

FAILING = Path("/proc/self/mem")
"""A file whose first byte is an input/output error."""


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    noise = torch.Generator().manual_seed(0)
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", torch.rand(3, 6, 32, 32, generator=noise) * 2 - 1, 8)
    return FolderSource(tmp_path, ClipCut(5, 16, 16))


def test_a_file_that_has_gone_is_the_clip_s(source: FolderSource, tmp_path: Path):
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(UnreadableClip, match="clip b: No such file or directory"):
        read_clip(source, 1, "clip b")
    assert [clip.id for clip in readable(source, range(3))] == ["a.mp4@0", "c.mp4@0"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_the_clip_s(source: FolderSource, tmp_path: Path):
    (tmp_path / "b.mp4").chmod(0)
    with pytest.raises(UnreadableClip, match="clip b: Permission denied"):
        read_clip(source, 1, "clip b")


def test_a_file_that_became_a_folder_or_text_is_the_clip_s(source: FolderSource, tmp_path: Path):
    (tmp_path / "a.mp4").write_text("no video")
    (tmp_path / "b.mp4").unlink()
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(UnreadableClip, match="FFmpeg cannot read it"):
        read_clip(source, 0, "clip a")
    with pytest.raises(UnreadableClip, match="Is a directory"):
        read_clip(source, 1, "clip b")
    assert first_readable(source).id == "c.mp4@0"
    (tmp_path / "c.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"none of 3 clips can be read, .*a\.mp4: FFmpeg cannot read it"):
        first_readable(source)


def test_a_long_video_that_is_damaged_leaves_others_to_be_found():
    class Windows:
        def __len__(self) -> int:
            return 90

        def __getitem__(self, index: int) -> int:
            if index < 60:
                raise UnreadableVideo("long.mp4", "it is damaged")
            return index

    assert first_readable(Windows()) >= 60


@pytest.mark.skipif(not FAILING.exists(), reason="needs a file that fails when it is read")
def test_an_error_of_the_disk_is_not_the_clip_s(source: FolderSource, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(unreadable, "PAUSES", (0.01, 0.02))
    whole = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").unlink()
    (tmp_path / "b.mp4").symlink_to(FAILING)
    with pytest.raises(DiskError, match=r"the disk does not give clip b: .*Input/output error"):
        read_clip(source, 1, "clip b")

    def mend(_: float) -> None:
        (tmp_path / "b.mp4").unlink()
        (tmp_path / "b.mp4").write_bytes(whole)

    monkeypatch.setattr(unreadable.time, "sleep", mend)
    assert read_clip(source, 1, "clip b").id == "b.mp4@0"


def test_what_a_source_of_one_s_own_raises_is_the_clip_s_but_for_want_of_memory():
    class Own:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> None:
            raise self.error

    with pytest.raises(UnreadableClip, match="clip 1: KeyError: 'frames'"):
        read_clip(Own(KeyError("frames")), 1, "clip 1")
    with pytest.raises(MemoryError):
        read_clip(Own(MemoryError()), 1, "clip 1")
    with pytest.raises(InputError, match=r"none of 20 clips can be read, .*: clip 0: no"):
        first_readable(Own(InputError("no")))
