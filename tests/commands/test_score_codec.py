import json
from pathlib import Path

import pytest

from vdit.commands.command import run_command
from vdit.commands.score import main as score
from vdit.sample.video_file import write_video
from vdit.world.flat import Flat
from vdit.world.source import WorldSource

CODEC = "configs/codec/flat_24"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    source = WorldSource(Flat(), 2, 13, 48, 64, 8.0)
    for i in range(2):
        write_video(folder / f"{i}.mp4", source[i].pixels, 8)
    return folder


def test_a_codec_is_scored_on_a_folder_of_videos(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    options = ["--videos", str(videos), "--frames", "9", "--size", "32x32", "--clips", "2", "--out", str(out)]
    assert score(["codec", "--codec", CODEC, *options, "--judge", "none"]) == 0
    record = json.loads((out / "scores.json").read_text())
    assert len(record["clips"]) == 4
    assert record["clip"] == "9x32x32"
    assert record["mean"]["psnr"] > 20
    assert sorted(path.suffix for path in out.iterdir()) == [".json", *[".mp4"] * 4, ".png"]
    printed = capsys.readouterr().out
    assert "PSNR, dB" in printed
    assert "scores.json" in printed


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--frames", "8"], "8 frames do not fit this codec, which takes 1 + 4n: use 5 or 9"),
        (["--size", "20x32"], "20x32 pixels do not fit this codec"),
        (["--size", "large"], "--size large is not HEIGHTxWIDTH"),
        (["--clips", "0"], "--clips 0 must be at least 1"),
        (["--memory", "0"], "a codec cannot work in 0"),
        (["--videos", "nowhere"], "there is no folder nowhere"),
        (["--codec", "configs/model"], "configs/model holds no codec"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
):
    usual = ["codec", "--codec", CODEC, "--videos", str(videos), "--frames", "9", "--size", "32x32"]
    out = tmp_path / "out"
    assert run_command(score, [*usual, "--judge", "none", *options, "--out", str(out)]) == 2
    assert told in capsys.readouterr().err
    assert not (out / "scores.json").exists()
