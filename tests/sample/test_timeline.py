"""What stands when: the same in options and files, each contradiction refused in a sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vdit.sample.sampler import Sampling
from vdit.sample.timeline import Timeline, read_timeline
from vdit.sample.video_file import write_video
from vdit.types import InputError

SAMPLING = Sampling(frames=9, height=16, width=32, fps=8)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, grey in (("a", 0), ("b", 100), ("c", 255)):
        Image.fromarray(np.full((20, 20, 3), grey, np.uint8)).save(tmp_path / f"{name}.png")
    ramp = torch.linspace(-1, 1, 20).view(1, 20, 1, 1).expand(3, 20, 32, 64)
    write_video(tmp_path / "clip.mp4", ramp, 8.0, {})
    row = "0 0.6 1.05 0.5 0.48 0 0 1 0 0 {} 0 1 0 0 0 0 1 0"
    (tmp_path / "poses.txt").write_text("\n".join(row.format(i / 10) for i in range(9)))
    return tmp_path


def test_images_stand_where_they_are_put(here: Path):
    wish = Timeline(first="a.png", last="c.png", keyframes={4: "b.png", -2: "b.png"}).wish(SAMPLING)
    assert wish.given is not None
    assert wish.cameras is None
    assert wish.given.mask[0].nonzero()[:, 0].tolist() == [0, 4, 7, 8]
    assert wish.given.pixels.shape == (1, 3, 9, 16, 32)
    shown = wish.given.pixels[0, 0, :, 0, 0].tolist()
    assert shown == pytest.approx([-1, 0, 0, 0, 100 / 127.5 - 1, 0, 0, 100 / 127.5 - 1, 1])
    looped = Timeline(first="c.png", loop=True).wish(SAMPLING).given
    assert looped is not None
    assert torch.equal(looped.pixels[:, :, 0], looped.pixels[:, :, 8])
    assert Timeline().wish(SAMPLING).given is None


def test_a_clip_begins_with_the_end_of_another(here: Path):
    given = Timeline(continued="clip.mp4", last="a.png").wish(SAMPLING).given
    assert given is not None
    assert given.mask[0].tolist() == [True] * 5 + [False] * 3 + [True]
    ramp = torch.linspace(-1, 1, 20)[-5:]
    torch.testing.assert_close(given.pixels[0, :, :5].mean((0, 2, 3)), ramp, atol=0.03, rtol=0)


def test_a_camera_in_words_and_in_a_file(here: Path):
    words = Timeline(camera="truck left 0.8").wish(SAMPLING).cameras
    file = Timeline(camera_file="poses.txt").wish(SAMPLING).cameras
    assert words is not None
    assert file is not None
    assert words.c2w.shape == file.c2w.shape == (1, 9, 4, 4)
    torch.testing.assert_close(words.c2w, file.c2w.float(), atol=1e-6, rtol=0)


def test_a_file_says_the_same_with_paths_beside_it(here: Path, tmp_path_factory: pytest.TempPathFactory):
    (here / "t.yaml").write_text(
        "first: a.png\nkeyframes: {4: b.png}\ncamera: pan left 20deg, then dolly in 0.5\nloop: true\n"
    )
    said = read_timeline(here / "t.yaml")
    assert said == Timeline(
        first=str(here / "a.png"),
        keyframes={4: str(here / "b.png")},
        camera="pan left 20deg, then dolly in 0.5",
        loop=True,
    )
    assert said.said() == {
        "first": str(here / "a.png"),
        "loop": True,
        "keyframes": {4: str(here / "b.png")},
        "camera": "pan left 20deg, then dolly in 0.5",
    }


@pytest.mark.parametrize(
    ("timeline", "told"),
    [
        (Timeline(keyframes={9: "a.png"}), "keyframe at frame 9 lies beyond the clip, .* 0 to 8"),
        (Timeline(keyframes={-10: "a.png"}), "keyframe at frame -10 lies beyond"),
        (Timeline(first="a.png", keyframes={0: "b.png"}), "frame 0 is given twice: a.png and b.png"),
        (Timeline(first="a.png", last="b.png", loop=True), "frame 8 is given twice: b.png and a.png"),
        (Timeline(first="a.png", continued="clip.mp4"), "frame 0 is given twice: a.png and the end of"),
        (Timeline(loop=True), "give one with --first"),
        (Timeline(first="none.png"), "there is no such file"),
        (Timeline(first=""), "there is no such file"),
        (Timeline(continued="a.png"), "a.png is an image: a video is asked for"),
        (Timeline(continued="none.mp4"), "no such file"),
        (Timeline(continued="clip.mp4", overlap=9), "--overlap 9 must be at least 1, and below 9"),
        (Timeline(camera="pan left", camera_file="poses.txt"), "two paths: give one"),
        (Timeline(camera="pan lft"), "did you mean 'pan left'"),
        (Timeline(camera_file="none.txt"), "there is no such file"),
    ],
)
def test_what_cannot_be_is_refused(here: Path, timeline: Timeline, told: str):
    with pytest.raises(InputError, match=told):
        timeline.wish(SAMPLING)


def test_what_is_too_short_is_refused(here: Path):
    longer = Sampling(frames=33, height=16, width=32, fps=8)
    with pytest.raises(
        InputError, match=r"clip\.mp4 has 20 frames at 8 a second, and 25 are to be continued"
    ):
        Timeline(continued="clip.mp4", overlap=25).wish(longer)
    with pytest.raises(InputError, match=r"poses\.txt has 9 poses, and the clip 33 frames"):
        Timeline(camera_file="poses.txt").wish(longer)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("begin: a.png", "says 'begin': known are first, last, loop"),
        ("- a.png", "is no table"),
        ("keyframes: [a.png]", "keyframes are a table from frame numbers to images"),
        ("keyframes: {4: 5}", "5 is no path"),
        ("overlap: many", "overlap is 'many', and no int"),
        ("length: true", "length is True, and no int"),
        ("loop: 1", "loop is 1, and no bool"),
        ("a: [", r"t\.yaml is not YAML: line 1: expected the node content"),
        ("first: a.png\nkeyframes: {4: a.png, 4: b.png}", "line 2: '4' is said twice"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_timeline_is_refused(here: Path, content: str | None, told: str):
    if content is not None:
        (here / "t.yaml").write_text(content)
    with pytest.raises(InputError, match=told):
        read_timeline(here / "t.yaml")


def test_references_are_fitted_whole_between_grey_borders(here: Path):
    half = np.concatenate([np.zeros((10, 20, 3), np.uint8), np.full((10, 20, 3), 255, np.uint8)])
    Image.fromarray(half).save(here / "mika.png")
    references = Timeline(references=("mika.png", "mika.png")).wish(SAMPLING).references
    assert references is not None
    assert references.pixels.shape == (1, 2, 3, 16, 32)
    assert references.mask.tolist() == [[True, True]]
    shown = references.pixels[0, 1, 0]
    assert (shown[:, :8] == 0).all()
    assert (shown[:, 24:] == 0).all()
    assert shown[0, 8:24].tolist() == pytest.approx([-1] * 16)
    assert shown[15, 8:24].tolist() == pytest.approx([1] * 16)
    (here / "t.yaml").write_text("references: [mika.png]\n")
    assert read_timeline(here / "t.yaml").references == (str(here / "mika.png"),)


def test_an_empty_reference_is_refused(here: Path):
    with pytest.raises(InputError, match=r"a\.png has one colour everywhere: a reference shows who"):
        Timeline(references=("a.png",)).wish(SAMPLING)
    (here / "none.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"none\.png: Pillow cannot read this image"):
        Timeline(references=("none.png",)).wish(SAMPLING)
    for said in ("[]", "mika.png"):
        (here / "t.yaml").write_text(f"references: {said}\n")
        with pytest.raises(InputError, match="references are a list of images, of one at least"):
            read_timeline(here / "t.yaml")


@pytest.mark.parametrize(
    ("timeline", "notes"),
    [
        (Timeline(), []),
        (Timeline(camera_file="poses.txt", continued="clip.mp4"), []),  # as long, of this shape and rate
        (Timeline(references=("a.png",)), []),  # fitted whole
        (
            Timeline(first="a.png", keyframes={4: "a.png"}),
            ["a.png is 20x20, and the clip 16x32: 50% of it are cut off, above and below"],
        ),
        (
            Timeline(last="tall.png"),
            ["tall.png is 16x40, and the clip 16x32: 20% of it are cut off, on the left "],
        ),
        (Timeline(first="near.png"), []),  # 1088 rows as 1080
        (
            Timeline(camera_file="poses.txt", length=7),
            ["has 9 poses, and the clip 7 frames: the last 2 are not"],
        ),
        (
            Timeline(repaint="clip.mp4", mask="b.png"),
            [
                "b.png is 20x20, and the clip 16x32",
                "clip.mp4 has 20 frames at 8 a second, and the clip 9: the last 11",
            ],
        ),
        (
            Timeline(continued="fast.mp4"),
            ["fast.mp4 has 24 frames a second, and the clip 8: the nearest in time"],
        ),
    ],
)
def test_what_is_not_shown_of_what_is_given_is_said(here: Path, timeline: Timeline, notes: list[str]):
    for name, size in (("tall", (40, 16)), ("near", (1920, 964))):
        Image.new("RGB", size).save(here / f"{name}.png")
    write_video(here / "fast.mp4", torch.zeros(3, 48, 32, 64), 24.0, {})
    found = timeline.notes(SAMPLING)
    assert len(found) == len(notes)
    for said, part in zip(sorted(found), sorted(notes), strict=True):
        assert part in said
