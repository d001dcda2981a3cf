"""Files seen are used, skipped or not understood: whatever a folder holds, the report names and counts it."""

import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving_waves import moving_waves
from PIL import Image

from vdit.data.cut import ClipCut
from vdit.data.decode import IMAGE_ENDINGS, VIDEO_ENDINGS
from vdit.data.folder import CAPTION_ENDINGS, POSE_ENDINGS, FolderSource
from vdit.data.report import SourceReport
from vdit.data.rows import LIST_ENDINGS, NAMES
from vdit.sample.video_file import write_video
from vdit.types import InputError

STILL = ClipCut(1, 16, 16)
MOVING = ClipCut(4, 16, 16)


def picture(path: Path, size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(path.name)).integers(0, 255, (*size, 3)).astype(np.uint8)).save(
        path, format="PNG"
    )


def balanced(report: SourceReport) -> SourceReport:
    left_out = [name for name, _ in (*report.skipped, *report.not_understood)]
    assert len(left_out) == len(set(left_out))
    assert report.seen == report.used + len(left_out)
    text = str(report)
    seen = report.of.removesuffix("s") if report.seen == 1 else report.of
    assert f"{report.seen} {seen} seen: {report.used} used, {len(report.skipped)} skipped" in text
    text.encode()
    return report


def below(folder: Path) -> int:
    """Files below a folder and its linked folders, each folder once, by another walk than the one tested."""
    count, seen = 0, set()
    for here, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        count += len(files)
    return count


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 6 frames."""
    file = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(file, moving_waves(6, 32, 32), 12)
    return file


def test_a_folder_of_everything_balances(tmp_path: Path, clip: Path):
    folder, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    for name in ("a.mp4", "B.MP4", "c.mov", "d.mp4", "e.mp4", "f.mp4", "twin.mp4", "twin.mov", "._a.mp4"):
        shutil.copy(clip, folder / name)
    shutil.copy(clip, elsewhere / "linked.mp4")
    (folder / "empty.mp4").touch()
    (folder / "empty.txt").write_text("a caption of no use")
    picture(folder / "still.png")
    picture(folder / "a.reference.png")
    picture(folder / "z.reference.png")
    for name, words in {
        "a.txt": "\ufeffthe first\r\n",
        "B.TXT": "the second",
        "c.mov.txt": "the third",
        "c.caption": "another third",
        "d.caption": "the fourth",
        "e.txt": " \n\t",
        "twin.txt": "both",
        "nobody.txt": "of nothing",
        "README": "?",
        "metadata.csv": "video,caption",
        "notes.docx": "?",
        ".DS_Store": "?",
    }.items():
        (folder / name).write_bytes(words.encode())
    (folder / "f.txt").write_bytes("caf\xe9".encode("latin-1"))
    (folder / "directory.mp4").mkdir()
    (folder / "deep" / "er").mkdir(parents=True)
    picture(folder / "deep" / "er" / "pic.jpg")
    (folder / "away").symlink_to(elsewhere)
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(folder / "pipe.mp4")
    with open(os.fsencode(folder) + b"/caf\xe9.mp4", "wb"):
        pass

    source = FolderSource(folder, MOVING)
    report = balanced(source.report)
    captions = {source[i].id.split("@")[0]: source.caption(i) for i in range(len(source))}
    assert captions == {
        "B.MP4": "the second",
        "a.mp4": "the first",
        "away/linked.mp4": "",
        "c.mov": "the third",
        "d.mp4": "the fourth",
        "e.mp4": "",
        "twin.mov": "both",
        "twin.mp4": "both",
    }
    skipped, unknown = dict(report.skipped), dict(report.not_understood)
    assert skipped.keys() == {
        *("f.mp4", "f.txt", "empty.mp4", "empty.txt", "still.png", "deep/er/pic.jpg", "c.caption"),
        *("gone.mp4", "deep/loop/", r"caf\xe9.mp4"),
    }
    assert "its caption f.txt is not UTF-8 text (byte 3)" in skipped["f.mp4"]
    assert skipped["empty.txt"] == "its video is skipped"
    assert skipped["c.caption"] == "it says something else, and c.mov.txt is the caption of c.mov"
    assert skipped["gone.mp4"].startswith("a link to ")
    assert "read already" in skipped["deep/loop/"]
    assert "not UTF-8" in skipped[r"caf\xe9.mp4"]
    assert unknown.keys() == {
        *("._a.mp4", ".DS_Store", "README", "metadata.csv", "notes.docx", "nobody.txt"),
        *("z.reference.png", "directory.mp4/", "pipe.mp4"),
    }
    remarks = {(name, what) for name, what in report.remarks if "same" not in what}
    assert remarks == {
        ("twin.txt", "it belongs to several videos of its name"),
        ("e.txt", "this caption file has no words"),
    }
    # The other walk counts files alone, the fifo and the link to nothing among them.
    assert report.seen == below(folder) + len({"directory.mp4/", "deep/loop/"})


@given(
    names=st.sets(
        st.tuples(
            st.sampled_from(["", "s/", "s/.t/"]),
            st.sampled_from(["a", "A", "b", "a.png", ".a", "é", "e\u0301", "a.reference", "b.reference.x"]),
            st.sampled_from([".png", ".PNG", ".jpg", ".txt", ".TXT", ".caption", ".srt", ".x", ""]),
        ),
        min_size=1,
        max_size=12,
    ),
    blank=st.booleans(),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_names_there_are_each_is_counted_once(names: set[tuple[str, str, str]], blank: bool):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for number, (folder, stem, ending) in enumerate(sorted(names)):
            file = root / f"{folder}{stem}{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            if ending.lower() in (".png", ".jpg"):
                picture(file)
            else:
                file.write_text("" if blank else f"words {number // 2}")
        picture(root / "whole.png")
        report = balanced(FolderSource(root, STILL).report)
        files = [file for file in root.rglob("*") if file.is_file()]
        hidden = [file for file in files if "s/.t/" in file.as_posix()]
        assert report.seen == len(files) - len(hidden) + bool(list(root.glob("s/.t")))


@contextmanager
def somebody() -> Iterator[Path]:
    """A folder of a user who is not the superuser, as whom the block runs."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    root = os.geteuid() == 0
    try:
        if root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for locked in [path for path in folder.rglob("*") if not path.is_symlink()]:
            locked.chmod(0o700)
        shutil.rmtree(folder)


def test_what_may_not_be_read_is_told():
    with somebody() as folder:
        for name in ("a.png", "b.png", "c.png", "shut/d.png"):
            picture(folder / name)
        for stem in "abc":
            (folder / f"{stem}.txt").write_text("words")
        for name in ("b.png", "c.txt", "shut"):
            (folder / name).chmod(0)
        report = balanced(FolderSource(folder, STILL).report)
        assert report.used == 2
        skipped = dict(report.skipped)
        assert skipped.keys() == {"b.png", "b.txt", "c.png", "c.txt", "shut/"}
        for name in ("b.png", "c.png", "shut/"):
            assert "Permission denied" in skipped[name]
        assert "c.txt" in skipped["c.png"]


def test_a_folder_of_no_use_is_refused_with_what_is_in_it(tmp_path: Path):
    (tmp_path / "clips.zip").touch()
    (tmp_path / "sub").mkdir()
    with pytest.raises(
        InputError, match=r"holds no videos; .* \(2 files seen; .*clips.zip: the ending .zip is"
    ):
        FolderSource(tmp_path, STILL)


def test_links_are_followed_once_under_the_name_of_the_real_folder(tmp_path: Path):
    picture(tmp_path / "set" / "real" / "a.png")
    (tmp_path / "set" / "first").symlink_to("real")
    (tmp_path / "set" / "up").symlink_to("..")  # of it only what is not read already
    picture(tmp_path / "beside" / "b.png")
    source = FolderSource(tmp_path / "set", STILL)
    assert [source[i].id for i in range(len(source))] == ["real/a.png@0", "up/beside/b.png@0"]
    assert dict(balanced(source.report).skipped).keys() == {"first/", "up/set/"}


def test_an_accent_written_in_two_ways_is_one(tmp_path: Path):
    picture(tmp_path / unicodedata.normalize("NFC", "café.png"))
    (tmp_path / unicodedata.normalize("NFD", "café.txt")).write_text("coffee")
    picture(tmp_path / "Bar.png")
    (tmp_path / "bar.txt").write_text("a bar")
    source = FolderSource(tmp_path, STILL)
    assert [source.caption(i) for i in range(len(source))] == ["a bar", "coffee"]
    # Where capitals tell videos apart, they tell captions apart.
    picture(tmp_path / "bar.png")
    source = FolderSource(tmp_path, STILL)
    assert [source.caption(i) for i in range(len(source))] == ["", "a bar", "coffee"]
    balanced(source.report)


def test_the_caption_whose_capitals_are_the_video_s_stands_before_others(tmp_path: Path):
    picture(tmp_path / "tea.png")
    (tmp_path / "TEA.txt").write_text("another")
    (tmp_path / "tea.txt").write_text("a cup of tea")
    source = FolderSource(tmp_path, STILL)
    assert source.caption(0) == "a cup of tea"
    assert [name for name, _ in balanced(source.report).skipped] == ["TEA.txt"]


def test_names_that_a_terminal_would_obey_are_shown(tmp_path: Path):
    picture(tmp_path / "a\x1b[31m\nb.png")
    text = str(balanced(FolderSource(tmp_path, STILL).report))
    assert r"a\x1b[31m\nb.png" in text


def test_many_names_are_shortened_on_the_terminal_and_whole_in_the_report(tmp_path: Path):
    picture(tmp_path / "a.png")
    for i in range(300):
        (tmp_path / f"{i:03d}.xyz").touch()
    report = balanced(FolderSource(tmp_path, STILL).report)
    assert len(report.not_understood) == 300
    assert "  000.xyz, 001.xyz, 002.xyz, 003.xyz, 004.xyz and 295 more: the ending .xyz is not known" in str(
        report
    )


def test_a_picture_of_which_little_is_left_is_told(tmp_path: Path):
    picture(tmp_path / "tall.png", (40, 20))
    picture(tmp_path / "wide.png", (24, 32))
    report = FolderSource(tmp_path, STILL).report
    assert report.cropped == ("tall.png",)
    assert "1 video is cropped to less than two thirds of the picture: tall.png" in str(report)


def test_a_file_that_is_there_twice_is_told(tmp_path: Path):
    picture(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "copy.png")
    report = balanced(FolderSource(tmp_path, STILL).report)
    assert report.remarks == (("copy.png", "it is the same, with its caption, as a.png"),)


VIDEOS = {
    ".avi": ("avi", "mpeg4"),
    ".wmv": ("asf", "wmv2"),
    ".asf": ("asf", "wmv2"),
    ".flv": ("flv", "flv1"),
    ".f4v": ("f4v", "libx264"),
    ".ts": ("mpegts", "libx264"),
    ".mts": ("mpegts", "mpeg2video"),
    ".m2ts": ("mpegts", "libx264"),
    ".mpg": ("mpeg", "mpeg1video"),
    ".mpeg": ("mpeg", "mpeg2video"),
    ".vob": ("vob", "mpeg2video"),
    ".mxf": ("mxf", "mpeg2video"),
    ".ogv": ("ogg", "libvpx"),
    ".3gp": ("3gp", "libx264"),
    ".3g2": ("3g2", "libx264"),
    ".qt": ("mov", "libx264"),
    ".mov": ("mov", "libx264"),
    ".mp4": ("mp4", "libx264"),
    ".m4v": ("mp4", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
    ".apng": ("apng", "apng"),
    ".gif": ("gif", "gif"),
}


def test_every_ending_that_is_accepted_is_read(tmp_path: Path):
    assert VIDEOS.keys() == set(VIDEO_ENDINGS)
    shades = np.linspace(20, 230, 12).astype(np.uint8)
    for ending, (container, codec) in VIDEOS.items():
        with av.open(str(tmp_path / f"v{ending}"), "w", format=container) as file:
            stream = file.add_stream(codec, rate=Fraction(25))
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height = 48, 32
            stream.pix_fmt = {"apng": "rgb24", "gif": "gray"}.get(codec, "yuv420p")
            for shade in shades:
                frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), shade), format="rgb24")
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    for ending in IMAGE_ENDINGS:
        Image.new("RGB", (48, 32), (128, 128, 128)).save(tmp_path / f"i{ending}")
    source = FolderSource(tmp_path, ClipCut(12, 32, 48))
    assert {source[i].id for i in range(len(source))} == {f"v{ending}@0" for ending in VIDEOS}
    expected = torch.from_numpy(shades / 127.5 - 1).float()
    for i in range(len(source)):
        assert (source[i].pixels.mean((0, 2, 3)) - expected).abs().max() < 0.06, source[i].id
    images = FolderSource(tmp_path, ClipCut(1, 32, 48))
    assert {f"i{ending}@0" for ending in IMAGE_ENDINGS} <= {images[i].id for i in range(len(images))}
    balanced(source.report)


def test_the_two_sides_of_a_split_balance(tmp_path: Path):
    picture(tmp_path / "kept.png")
    picture(tmp_path / "held.png", (20, 20))
    (tmp_path / "held.jpg").write_bytes(b"no picture")  # shares its caption with one that is held out
    for name in ("held.txt", "kept.txt", "notes.xyz"):
        (tmp_path / name).write_text("words")
    source = FolderSource(tmp_path, STILL)
    assert balanced(source.report).seen == 6
    rest, apart = source.split([source.video(0)])
    assert [source[0].id, apart[0].id, rest[0].id] == ["held.png@0", "held.png@0", "kept.png@0"]
    assert (balanced(rest.report).seen, balanced(apart.report).seen) == (4, 2)


def test_a_second_video_in_a_file_is_told(tmp_path: Path):
    with av.open(str(tmp_path / "two.mkv"), "w") as file:
        streams = [file.add_stream("libx264", rate=Fraction(25)) for _ in range(2)]
        for stream in streams:
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for stream in streams:
            for shade in range(0, 240, 40):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), shade, np.uint8), format="rgb24")
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    report = balanced(FolderSource(tmp_path, MOVING).report)
    assert report.remarks == (("two.mkv", "it holds 2 videos: the one that a player shows is used"),)


def test_the_guide_promises_what_is_read():
    guide = (Path(__file__).parents[2] / "docs/guides/data.md").read_text()
    for ending in (*VIDEO_ENDINGS, *IMAGE_ENDINGS, *LIST_ENDINGS, *CAPTION_ENDINGS, *POSE_ENDINGS):
        assert re.search(rf"{re.escape(ending)}(?![a-z0-9])", guide), ending
    for names in NAMES.values():
        assert " ".join(names) in guide


def test_an_image_that_moves_is_not_taken_for_its_first_frame(tmp_path: Path):
    frames = [Image.new("RGB", (16, 16), (i * 90, 0, 0)) for i in range(3)]
    picture(tmp_path / "still.png")
    for name in ("moves.webp", "moves.png", "pages.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    report = balanced(FolderSource(tmp_path, STILL).report)
    assert report.used == 1
    assert len(report.skipped) == 3
    for _, reason in report.skipped:
        assert reason == "it holds 3 pictures; save them as a video, or one as an image"
