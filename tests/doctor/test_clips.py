"""Files that a run names are opened before it starts."""

import json
from pathlib import Path

import pytest
import torch
from machine import only

from configs import videos, write_config
from vdit.config import load_run
from vdit.data.sources import VideoSource
from vdit.doctor.clips import ClipsFound, check_clips
from vdit.doctor.launch import planned
from vdit.sample.video_file import write_video
from vdit.types import Clip


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    """A list of three videos."""
    for i in range(3):
        write_video(tmp_path / f"{i}.mp4", torch.rand(3, 6, 32, 32) * 2 - 1, fps=8)
    file = tmp_path / "list.jsonl"
    file.write_text("".join(json.dumps({"video": f"{i}.mp4", "caption": "a"}) + "\n" for i in range(3)))
    return file


def found(listing: Path) -> ClipsFound:
    return check_clips(planned(load_run(write_config(listing.parent, videos(listing)))))


def test_clips_that_are_there_are_well(listing: Path):
    well = found(listing)
    assert [finding.state for finding in well.findings] == ["ok", "ok"]
    assert only(well.findings, "clips").sentence == "3 clips of 5 frames of 32x32; first and last read"
    assert well.fingerprint == found(listing).fingerprint


def test_a_file_that_is_named_and_missing_is_wrong(listing: Path):
    before = found(listing).fingerprint
    (listing.parent / "1.mp4").unlink()
    missing = found(listing)
    [wrong] = [finding for finding in missing.findings if finding.state == "wrong"]
    assert wrong.sentence == "named and not there: 1.mp4"
    assert missing.fingerprint != before


def test_a_file_that_gives_no_clip_is_told(listing: Path):
    write_video(listing.parent / "1.mp4", torch.zeros(3, 3, 32, 32), fps=8)
    (listing.parent / "2.mp4").write_bytes(b"")
    [warning] = [finding for finding in found(listing).findings if finding.state == "warning"]
    assert "left out, because they give no clip: 1.mp4: too short" in warning.sentence
    assert "2.mp4: the file is empty" in warning.sentence


def test_a_list_that_is_missing_is_wrong(listing: Path):
    listing.unlink()
    [wrong] = found(listing).findings
    assert wrong.state == "wrong"
    assert f"there is no list {listing}" in wrong.sentence


def test_a_clip_that_cannot_be_decoded_is_wrong(listing: Path, monkeypatch: pytest.MonkeyPatch):
    real = VideoSource.__getitem__

    def get(self: VideoSource, index: int) -> Clip:
        if index == 2:
            (listing.parent / "2.mp4").write_bytes(b"damaged after it was listed")
        return real(self, index)

    monkeypatch.setattr(VideoSource, "__getitem__", get)
    [wrong] = [finding for finding in found(listing).findings if finding.state == "wrong"]
    assert wrong.sentence.startswith("clip 2 of 3 cannot be read: ")
