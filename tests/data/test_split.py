"""Videos that are held out of a source: other ones than those that are trained on, whatever clips are cut."""

from pathlib import Path

import pytest
import torch

from vdit.data.cut import ClipCut
from vdit.data.folder import FolderSource
from vdit.data.mixture import Mixture, Part, usual_format, usual_part
from vdit.data.split import split_source
from vdit.sample.video_file import write_video
from vdit.types import ClipFormat, ClipSource, InputError
from vdit.world.flat import Flat
from vdit.world.source import WorldSource

CUT = ClipCut(frames=3, height=16, width=16, windows="slide", hop=1)


def folder(path: Path, names: str, copies: str = "") -> Path:
    """Videos of five frames, each of its own brightness; those of `copies` twice."""
    for shade, name in enumerate(names):
        write_video(path / f"{name}.mp4", torch.full((3, 5, 16, 16), shade / len(names)), fps=8)
    for name in copies:
        (path / f"copy_{name}.mp4").write_bytes((path / f"{name}.mp4").read_bytes())
    return path


def videos(source: ClipSource) -> set[str]:
    return {source.video(i) for i in range(len(source))}


def test_every_clip_is_on_one_side_and_every_video_too(tmp_path: Path):
    place = folder(tmp_path, "abcdefghij", copies="abcdefghij")
    (place / "short.mp4").write_bytes(b"no video")
    whole = FolderSource(place, CUT)
    train, held_out = split_source(whole, 0.3)
    assert isinstance(train, FolderSource)
    assert isinstance(held_out, FolderSource)
    assert len(train) + len(held_out) == len(whole) == 60
    assert videos(train) | videos(held_out) == videos(whole)
    assert not videos(train) & videos(held_out)
    assert len(held_out) == 6 * len(videos(held_out))  # three windows of each, and of its copy
    assert {held_out.id(i) for i in range(len(held_out))} < {whole.id(i) for i in range(60)}
    at = next(i for i in range(60) if whole.id(i) == held_out.id(0))
    assert torch.equal(held_out[0].pixels, whole[at].pixels)
    assert len({train.fingerprint, held_out.fingerprint, whole.fingerprint}) == 3
    for report in (train.report, held_out.report):
        assert report.seen == report.used + len(report.skipped) + len(report.not_understood)
    assert train.report.seen + held_out.report.seen == whole.report.seen
    assert [len(source.report.skipped) for source in (train, held_out)] == [1, 0]


def test_which_videos_depends_on_what_is_in_them_alone(tmp_path: Path):
    first = FolderSource(folder(tmp_path / "first", "abcdefghij"), CUT)
    other = tmp_path / "other"
    other.mkdir()
    for n, file in enumerate(sorted((tmp_path / "first").iterdir(), reverse=True)):
        (other / f"{n}.mp4").write_bytes(file.read_bytes())
    renamed = FolderSource(other, CUT)
    held_out = videos(split_source(first, 0.4)[1])
    assert videos(split_source(renamed, 0.4)[1]) == held_out
    learnt = next(i for i in range(len(renamed)) if renamed.video(i) not in held_out)
    (other / renamed.id(learnt).partition("@")[0]).unlink()
    assert videos(split_source(FolderSource(other, CUT), 0.4)[1]) == held_out


def test_one_is_held_out_of_few_and_none_of_one(tmp_path: Path):
    two = FolderSource(folder(tmp_path / "two", "ab"), CUT)
    train, held_out = split_source(two, 0.05)
    assert (len(train), len(held_out)) == (3, 3)
    one = FolderSource(folder(tmp_path / "one", "a", copies="a"), CUT)
    with pytest.raises(InputError, match=r"one video alone.*name others as data\.held_out"):
        split_source(one, 0.5)
    few, many = (split_source(world(5), share) for share in (1e-9, 0.999_999_999))
    assert [(len(train), len(held_out)) for train, held_out in (few, many)] == [(7, 1), (1, 7)]
    with pytest.raises(InputError, match="held_out_share is 1, but must lie between 0 and 1"):
        split_source(two, 1.0)


def test_no_part_of_a_mixture_learns_from_what_is_measured(tmp_path: Path):
    place = folder(tmp_path, "abcdefgh")
    short, images = FolderSource(place, CUT), FolderSource(place, ClipCut(frames=1, height=16, width=16))
    train, held_out = split_source(Mixture([Part(images, 3.0), Part(short, 1.0)]), 0.25)
    assert isinstance(train, Mixture)
    assert [part.share for part in train.parts] == [3.0, 1.0]
    assert videos(train) | videos(held_out) == videos(short)
    assert not videos(train) & videos(held_out)
    assert {held_out.format(i).frames for i in range(len(held_out))} == {3}


def world(frames: int, rates: tuple[float, ...] = ()) -> WorldSource:
    return WorldSource(Flat(), clips=8, frames=frames, height=16, width=32, rates=rates)


def test_the_usual_clip_of_a_mixture_is_of_the_videos_that_are_seen_most():
    image, short, long = world(1), world(5), world(9)
    assert usual_part(Mixture([Part(image, 5.0), Part(short, 2.0), Part(long, 1.0)])) is short
    assert usual_part(Mixture([Part(short, 1.0), Part(long, 1.0)])) is long
    assert usual_part(Mixture([Part(image, 1.0)])) is image
    assert usual_format(Mixture([Part(image, 5.0), Part(long, 2.0)])) == ClipFormat(9, 16, 32, 8.0)


def test_the_usual_rate_is_that_of_most_clips():
    clips = world(9, rates=(8.0, 16.0, 16.0))
    rates = [clips[i].fps for i in range(8)]
    assert [clips.format(i).fps for i in range(8)] == rates
    assert usual_format(clips).fps == max(set(rates), key=rates.count)
