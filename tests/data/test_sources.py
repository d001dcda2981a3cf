import csv
import json
import os
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from moving_waves import moving_waves

from vdit.data.cut import ClipCut
from vdit.data.folder import FolderSource
from vdit.data.listing import ListSource
from vdit.sample.video_file import write_video
from vdit.types import ClipSource, InputError

CUT = ClipCut(frames=8, height=16, width=16, fps=12)


def ids(source: ClipSource) -> list[str]:
    return [source[i].id for i in range(len(source))]


def write_list(folder: Path, rows: list[dict]) -> Path:
    path = folder / "list.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_folder_gives_clips_and_names_what_it_skips(video_folder):
    source = FolderSource(video_folder, CUT)
    assert isinstance(source, ClipSource)
    assert ids(source) == ["a.mp4@0", "b.mp4@0", "sub/c.mp4@0"]
    clip = source[0]
    assert clip.pixels.shape == (3, 8, 16, 16)
    assert clip.pixels.dtype == torch.float32
    assert -1 <= clip.pixels.min() < clip.pixels.max() <= 1
    assert (clip.fps, clip.caption, source.caption(0)) == (12, "waves that move", "waves that move")
    skipped = dict(source.report.skipped)
    assert set(skipped) == {"short.mp4", "cut.mp4", "empty.mp4", "text.mp4", "still.png"}
    assert "too short: its 5 frames (3 at 12 fps), and a clip needs 8" in skipped["short.mp4"]
    assert "truncated" in skipped["cut.mp4"]
    assert "0 bytes" in skipped["empty.mp4"]
    assert "FFmpeg" in skipped["text.mp4"]
    assert "an image is one frame" in skipped["still.png"]
    assert source.report.uncaptioned == ("b.mp4", "sub/c.mp4")
    assert source.report.kept == 3
    text = str(source.report)
    assert "3 clips of 3 videos" in text
    assert "2 videos have no caption: b.mp4, sub/c.mp4" in text
    assert "  empty.mp4: the file is empty (0 bytes)" in text


def test_a_clip_holds_the_frames_of_its_window(tmp_path):
    pixels = moving_waves(48, 64, 64)
    write_video(tmp_path / "a.mp4", pixels, 24, crf=5)
    source = FolderSource(tmp_path, ClipCut(5, 64, 64, fps=8, windows="slide"))
    assert ids(source) == ["a.mp4@0", "a.mp4@15", "a.mp4@30"]
    for i, first in enumerate((0, 15, 30)):
        errors = [
            (source[i].pixels - pixels[:, first + late : first + late + 13 : 3]).abs().mean()
            for late in (0, 1)
        ]
        assert errors[0] < 0.5 * errors[1]


def test_the_same_index_gives_the_same_clip(video_folder):
    cut = ClipCut(8, 16, 16, fps=12, crops=3, random_crop=True, zoom=1.5)
    source, again = FolderSource(video_folder, cut), FolderSource(video_folder, cut)
    assert ids(source)[:3] == ["a.mp4@0#0", "a.mp4@0#1", "a.mp4@0#2"]
    for i in (0, 1, 8):
        assert torch.equal(source[i].pixels, again[i].pixels)
    assert not torch.equal(source[0].pixels, source[1].pixels)


def test_a_folder_of_images(tmp_path, video_folder):
    shutil.copy(video_folder / "still.png", tmp_path / "hero.png")
    (tmp_path / "hero.txt").write_text("a red field")
    clip = FolderSource(tmp_path, ClipCut(1, 20, 20))[0]
    assert (clip.id, clip.fps, clip.caption) == ("hero.png@0", 1, "a red field")
    assert torch.equal(clip.pixels[:, 0, 3, 3], torch.tensor([1.0, -1, -1]))


def test_the_files_own_rate_is_kept_where_none_is_asked(video_folder):
    source = FolderSource(video_folder, ClipCut(8, 16, 16))
    assert [source[i].fps for i in range(3)] == [24, 12, 24]


def test_a_file_too_slow_for_the_asked_rate_is_skipped(video_folder):
    source = FolderSource(video_folder, ClipCut(8, 16, 16, fps=24))
    assert dict(source.report.skipped)["b.mp4"] == "its 12 fps are too few for clips of 24 fps"


def test_enlarged_videos_are_reported(video_folder):
    assert FolderSource(video_folder, ClipCut(8, 40, 40, fps=12)).report.upscaled == ("sub/c.mp4",)


def test_missing_captions_can_be_refused(video_folder):
    with pytest.raises(InputError, match=r"have no caption \(b.mp4, cut.mp4.*require_captions: false"):
        FolderSource(video_folder, CUT, require_captions=True)


def test_useless_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no folder .*absent; give a folder of videos \(.mp4 .m4v"):
        FolderSource(tmp_path / "absent", CUT)
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(
        InputError, match=rf"{tmp_path} holds no videos; the accepted endings are .mp4 .* .jpeg"
    ):
        FolderSource(tmp_path, CUT)
    (tmp_path / "x.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 1 videos .* x.mp4: the file is empty"):
        FolderSource(tmp_path, CUT)
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match=r"caption .*x.txt is not UTF-8"):
        FolderSource(tmp_path, CUT)


def test_verify_finds_damage_inside(tmp_path):
    noisy = moving_waves(20, 64, 64) + 0.2 * torch.randn(3, 20, 64, 64)
    write_video(tmp_path / "good.mp4", noisy, 24)
    raw = bytearray((tmp_path / "good.mp4").read_bytes())
    middle, end = len(raw) // 2, len(raw) * 9 // 10
    raw[middle:end] = bytes(end - middle)
    (tmp_path / "bad.mp4").write_bytes(raw)
    cut = ClipCut(2, 16, 16)
    assert len(FolderSource(tmp_path, cut)) == 2  # its first frame is whole
    report = FolderSource(tmp_path, cut, verify=True).report
    assert [name for name, _ in report.skipped] == ["bad.mp4"]
    assert re.search("cannot be decoded; the file is damaged|FFmpeg cannot read", report.skipped[0][1])


def test_the_fingerprint_follows_content_alone(video_folder, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(video_folder, folder)
    first = FolderSource(folder, CUT).fingerprint
    assert first == FolderSource(video_folder, CUT).fingerprint  # another place
    os.utime(folder / "a.mp4", (1, 1))
    assert FolderSource(folder, CUT).fingerprint == first  # another time
    assert FolderSource(folder, ClipCut(8, 16, 16, fps=6)).fingerprint != first
    (folder / "a.txt").write_text("other words")
    second = FolderSource(folder, CUT).fingerprint
    assert second != first
    raw = bytearray((folder / "b.mp4").read_bytes())
    raw[-600] ^= 1
    (folder / "b.mp4").write_bytes(raw)
    assert FolderSource(folder, CUT).fingerprint not in (first, second)


def test_the_fingerprint_sees_the_end_of_a_large_file(tmp_path):
    write_video(tmp_path / "a.mp4", moving_waves(9, 32, 32), 12)
    whole = (tmp_path / "a.mp4").read_bytes()
    padding = (3 << 20).to_bytes(4, "big") + b"free" + bytes((3 << 20) - 8)  # an mp4 box that players ignore
    found = set()
    for last in (b"0", b"1"):
        (tmp_path / "a.mp4").write_bytes(whole + padding[:-1] + last)
        found.add(FolderSource(tmp_path, CUT).fingerprint)
    assert len(found) == 2


@pytest.mark.parametrize("megabytes", [4, 20])
def test_the_fingerprint_sees_much_between_the_ends_of_a_large_file(tmp_path, megabytes: int):
    write_video(tmp_path / "a.mp4", moving_waves(9, 32, 32), 12)
    whole, size = (tmp_path / "a.mp4").read_bytes(), megabytes << 20
    raw = bytearray(whole + size.to_bytes(4, "big") + b"free" + bytes(size - 8))

    def seen() -> tuple[str, str]:
        (tmp_path / "a.mp4").write_bytes(raw)
        source = FolderSource(tmp_path, CUT)
        return source.fingerprint, source.video(0)

    found = [seen()]
    for tenth in (4, 5, 6):  # which of 20 MiB is more than lies between two blocks
        first, length = len(raw) * tenth // 10, len(raw) // 10
        raw[first : first + length] = bytes([1]) * length
        found.append(seen())
    assert len({fingerprint for fingerprint, _ in found}) == 4
    assert len({video for _, video in found}) == 1  # which decides what is held out


def test_lists_name_videos_and_parts_of_them(video_folder):
    rows = [
        {"video": "a.mp4", "caption": "all of it", "source": "ignored"},
        {"video": "a.mp4", "caption": "the end", "start": 0.5, "end": 1.5},
        {"video": "a.mp4", "caption": "all of it, in other words"},
        {"video": "absent.mp4", "caption": "?"},
        {"video": "a.mp4", "caption": "too little", "start": 1.5},
    ]
    long = replace(CUT, fps=None, frames=41)
    with pytest.raises(InputError, match="too short: its 40 frames, and a clip needs 41"):
        ListSource(write_list(video_folder, rows[:1]), long)
    with pytest.raises(InputError, match=r"too short: its 40 frames \(24 in the part asked for\), and"):
        ListSource(write_list(video_folder, rows[1:2]), long)
    source = ListSource(write_list(video_folder, rows), CUT)
    assert ids(source) == ["a.mp4@0", "a.mp4@12", "a.mp4@0~2"]
    assert source.caption(2) == "all of it, in other words"
    assert torch.equal(source[0].pixels, source[2].pixels)
    assert source.report.videos == 1
    assert [reason for _, reason in source.report.skipped] == [
        "there is no such file",
        "too short: its 40 frames (2 at 12 fps), and a clip needs 8",
    ]

    table = video_folder / "list.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["video", "caption", "start", "end"])
        writer.writeheader()
        writer.writerow(
            {"video": str(video_folder / "a.mp4"), "caption": "waves, moving", "start": "", "end": ""}
        )
        writer.writerow({"video": "sub/c.mp4", "caption": ""})
    source = ListSource(table, CUT)
    assert (len(source), source.caption(0), source.report.uncaptioned) == (2, "waves, moving", ("sub/c.mp4",))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file": "a.mp4"}, "line 2: no 'video' column .* it has file"),
        ({"video": "a.mp4", "caption": 3}, "line 2: 'caption' must be text, got 3"),
        ({"video": "a.mp4", "start": "soon"}, "line 2: 'start' must be seconds from 0, got 'soon'"),
        ({"video": "a.mp4", "start": -1}, "line 2: 'start' must be seconds from 0, got -1"),
        ({"video": "a.mp4", "start": 2, "end": 1}, r"line 2: 'end' \(1 s\) must come after 'start' \(2 s\)"),
        (["a.mp4"], "line 2: not a JSON object; write"),
    ],
)
def test_bad_rows_are_refused_by_line(video_folder, tmp_path, row, message):
    path = write_list(tmp_path, [{"video": "a.mp4", "caption": "x"}, row])
    with pytest.raises(InputError, match=message):
        ListSource(path, CUT)


def test_bad_lists_are_refused(tmp_path):
    with pytest.raises(InputError, match="no list"):
        ListSource(tmp_path / "absent.jsonl", CUT)
    for name, text, message in [
        ("a.xlsx", "", r"the accepted endings are .jsonl .csv"),
        ("a.jsonl", "\n", "has no rows"),
        ("b.jsonl", "{oops", "line 1: not a JSON object"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message):
            ListSource(tmp_path / name, CUT)


@given(
    available=st.integers(0, 200), frames=st.integers(1, 50), hop=st.integers(1, 60), many=st.integers(1, 9)
)
def test_windows_fit_and_cover(available, frames, hop, many):
    def starts(windows, **settings):
        return ClipCut(frames, 8, 8, windows=windows, **settings).starts(available)

    for found in (
        starts("head"),
        starts("slide"),
        starts("slide", hop=hop),
        starts("even", windows_per_video=many),
    ):
        assert bool(found) == (available >= frames)
        assert all(0 <= start <= available - frames for start in found)
        assert len(set(found)) == len(found)
    assert all(b - a == frames for a, b in pairwise(starts("slide")))
    assert len(starts("slide")) == available // frames
    even = starts("even", windows_per_video=many)
    if available >= frames and many > 1:
        assert (even[0], even[-1]) == (0, available - frames)
        assert len(even) == min(many, available - frames + 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"fps": -1}, "fps must be above 0"),
        ({"windows": "all"}, "'head', 'slide' or 'even', got 'all'"),
        ({"hop": 4}, "goes with windows 'slide'"),
        ({"windows_per_video": 3}, "goes with windows 'even'"),
        ({"crops": 2}, "together with random_crop: true; got 2"),
        ({"zoom": 2.0}, "together with random crops; got 2"),
        ({"height": 0}, "at least 1 pixel, got 0 x 16"),
    ],
)
def test_impossible_cuts_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ClipCut(**({"frames": 8, "height": 16, "width": 16} | settings))


def test_many_clips_from_few_real_videos(real_videos):
    cut = ClipCut(9, 32, 32, fps=12.5, windows="slide", crops=4, random_crop=True, zoom=1.3)
    source = FolderSource(real_videos, cut)
    assert len(source) == 4 * (13 + 7 + 5 + 5)
    assert len(set(ids := [window.id for window in source._windows])) == len(ids)
    assert "bikes.mp4@0#3" in ids
    assert source[40].pixels.std() > 0.05
    assert source.report.seconds_covered > 0.85 * source.report.seconds
