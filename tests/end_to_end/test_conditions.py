"""One small model on every condition at once: trained, sampled by what stands when, scored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vdit.codecs.folder import load_codec
from vdit.commands.command import run_command
from vdit.commands.sample import main as sample
from vdit.commands.score import main as score
from vdit.commands.train import main as train
from vdit.data.decode import open_video
from vdit.data.given import read_frame

SIZE = {"frames": 9, "height": 32, "width": 32}


def config(folder: Path, name: str, task: dict[str, Any]) -> Path:
    level = {"class_path": "vdit.world.room.Room"}
    world = {"level": level, "clips": 4, "caption": "things", "rates": [8.0, 16.0], **SIZE}
    data = {
        part: {"class_path": "vdit.world.source.WorldSource", "init_args": {**world, "seed": seed}}
        for seed, part in enumerate(("train", "held_out"))
    }
    values = {"out": str(folder / name), "task": task, "data": data}
    values |= {"loop": {"steps": 2, "batch": 4, "save_every": 2}, "parallel": {"accelerator": "cpu"}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder / f"{name}.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("conditions")
    sizes = {"widths": [8, 8, 8], "encoder_blocks": [0, 0, 1], "decoder_blocks": [1, 0, 0]}
    native = {"class_path": "vdit.codecs.native.codec.NativeCodec", "init_args": sizes}
    codec = {"class_path": "vdit.train.codec_task.CodecTask", "init_args": {"codec": native}}
    dit = {
        "text_width": 8,
        "width": 32,
        "depth": 1,
        "heads": 2,
        "camera": [4, 8],
        "vectors": {"motion": 16, "fps": 16},
    }
    places = {"none": 1.0, "first": 1.0, "first_and_last": 1.0, "keyframes": 1.0, "prefix": 1.0}
    video = {
        "backbone": {"class_path": "vdit.models.native.dit.NativeDiT", "init_args": dit},
        "codec": str(folder / "codec" / "codec"),
        "text": {"class_path": "letter_text.LetterText"},
        "cache": str(folder / "cache"),
        "conditions": [
            {"class_path": "vdit.conditions.camera.CameraRays", "init_args": {"drop": 0.2}},
            {"class_path": "vdit.conditions.numbers.MotionScore", "init_args": {"drop": 0.2}},
            {"class_path": "vdit.conditions.numbers.FrameRate", "init_args": {"drop": 0.2}},
            {"class_path": "vdit.conditions.region.KnownRegion", "init_args": {"drop": 0.5}},
            {"class_path": "vdit.conditions.known.KnownFrames", "init_args": {"places": places}},
        ],
        "sampling": {**SIZE, "steps": 2},
    }
    flow = {"class_path": "vdit.train.flow_task.FlowTask", "init_args": video}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "commands"))
        for each in (config(folder, "codec", codec), config(folder, "video", flow)):
            assert run_command(train, ["--config", str(each)]) == 0
        yield folder / "video"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    colours = np.random.default_rng(0).integers(0, 255, (3, 40, 50, 3)).astype(np.uint8)
    for name, image in zip("abc", colours, strict=True):
        Image.fromarray(image).resize((50, 40)).save(tmp_path / f"{name}.png")
    return tmp_path


def drawn(run: Path, out: str, *asked: str, frames: int = 9) -> torch.Tensor:
    assert run_command(sample, ["--run", str(run), "--prompt", "a red cube", "--out", out, *asked]) == 0
    return open_video(Path(out) / "000000.mp4").read(0, frames)


def test_a_clip_shows_what_stands_when(run: Path, here: Path):
    plain = drawn(run, "plain")
    given = drawn(
        run, "all", "--first", "a.png", "--last", "b.png", "--keyframe", "4=c.png", "--camera", "pan left"
    )
    assert not torch.equal(given, plain)
    said = json.loads((here / "all/settings.json").read_text())
    assert said["timeline"] == {
        "first": "a.png",
        "last": "b.png",
        "keyframes": {"4": "c.png"},
        "camera": "pan left",
    }
    frame = read_frame(here / "a.png", 32, 32)
    codec = load_codec(run / "codec")
    with torch.inference_mode():
        seen = codec.decode(codec.encode(frame[None, :, None]))[0, :, 0]
    shown = given[:, 0].float() / 127.5 - 1
    assert (shown - seen.clamp(-1, 1)).abs().mean() < 0.05  # the mp4's loss
    for other in (("--camera", "pan right"), ("--first", "a.png"), ("--keyframe", "0=b.png")):
        assert not torch.equal(drawn(run, "other", *other), plain), other


def test_a_clip_goes_on_from_another_and_repeats_itself(run: Path, here: Path):
    drawn(run, "one", "--first", "a.png")
    first = drawn(run, "two", "--continue", "one/000000.mp4")
    torch.testing.assert_close(drawn(run, "three", "--continue", "one/000000.mp4"), first, rtol=0, atol=0)
    (here / "t.yaml").write_text("continue: one/000000.mp4\n")
    torch.testing.assert_close(drawn(run, "four", "--timeline", "t.yaml"), first, rtol=0, atol=0)
    drawn(run, "five", "--first", "a.png", "--loop")
    assert json.loads((here / "five/settings.json").read_text())["timeline"] == {
        "first": "a.png",
        "loop": True,
    }


def test_a_part_of_a_video_is_painted_anew(run: Path, here: Path):
    before = drawn(run, "one", "--first", "a.png")
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 255
    Image.fromarray(mask).save(here / "mask.png")
    after = drawn(run, "two", "--repaint", "one/000000.mp4", "--mask", "mask.png")
    codec = load_codec(run / "codec")
    with torch.inference_mode():
        seen = codec.decode(codec.encode(before[None].float() / 127.5 - 1))[0].clamp(-1, 1)
    apart = (after.float() / 127.5 - 1 - seen).abs().mean((0, 1, 3))
    assert apart[26:].mean() < 0.7 * apart[:8].mean()  # the bits are compared in test_region.py
    (here / "t.yaml").write_text("repaint: one/000000.mp4\nmask: mask.png\n")
    assert torch.equal(drawn(run, "three", "--timeline", "t.yaml"), after)


def test_a_long_clip_is_sampled_in_parts_with_prompts_of_their_own(run: Path, here: Path):
    asked = ["--length", "21", "--overlap", "5", "--overlap-noise", "0.05", "--camera", "pan left"]
    whole = drawn(run, "long", *asked, frames=21)
    assert whole.shape[1] == 21
    shots = drawn(run, "shots", *asked, "--shot", "9=a blue cone", "--cut", "15=a green cube", frames=21)
    assert torch.equal(shots[:, :5], whole[:, :5])
    said = json.loads((here / "shots/settings.json").read_text())["timeline"]
    assert said["shots"] == {
        "9": {"prompt": "a blue cone", "cut": False},
        "15": {"prompt": "a green cube", "cut": True},
    }
    text = "length: 21\noverlap_noise: 0.05\ncamera: pan left\n"
    (here / "t.yaml").write_text(text + "shots:\n  9: a blue cone\n  15: {prompt: a green cube, cut: true}\n")
    torch.testing.assert_close(drawn(run, "file", "--timeline", "t.yaml", frames=21), shots, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--shot", "3"], "--shot 3 is not FRAME=PROMPT"),
        (["--shot", "3=a", "--cut", "3=b"], "frame 3 has a --shot and a --cut"),
        (["--shot", "9=a"], "a shot at frame 9 lies beyond the clip"),
        (["--length", "30", "--overlap", "9"], "--overlap 9 must be below 9"),
        (["--reference", "a.png"], "this model takes no references"),
        (["--motion", "-1"], "--motion -1.0 must be a number, 0 or more"),
        (["--repaint", "a.mp4"], "--repaint VIDEO and --mask IMAGE go together"),
        (["--repaint", "a.mp4", "--mask", "a.png"], "a.mp4: there is no such file"),
        (["--keyframe", "9=c.png", "--first", "a.png"], "keyframe at frame 9 lies beyond the clip"),
        (["--keyframe", "c.png"], "--keyframe c.png is not FRAME=IMAGE"),
        (["--first", "a.png", "--keyframe", "0=c.png"], "frame 0 is given twice: a.png and c.png"),
        (["--first", "d.png"], "d.png: there is no such file"),
        (["--camera", "pan lft"], "no camera move 'pan lft': did you mean 'pan left'?"),
        (["--overlap", "3"], "--overlap is of a clip to --continue, or of a --length"),
        (["--timeline", "t.yaml", "--first", "a.png"], "a --timeline says what stands when"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    run: Path, here: Path, asked: list[str], told: str, capsys: pytest.CaptureFixture[str]
):
    assert run_command(sample, ["--run", str(run), "--prompt", "a", *asked]) == 2
    error = capsys.readouterr().err
    assert told in " ".join(error.split())
    assert "Traceback" not in error


def test_given_frames_and_cameras_are_scored(run: Path, here: Path, capsys: pytest.CaptureFixture[str]):
    asked = ["--clips", "3", "--seed", "77", "--give", "first", "last", "camera", "--out", "scored"]
    assert run_command(score, [str(run), *asked]) == 0
    record = json.loads((here / "scored/scores.json").read_text())
    assert record["given"] == ["first", "last", "camera"]
    first, last = record["frames"]
    assert (first["frame"], last["frame"]) == (0, 8)
    assert first["psnr"] == pytest.approx(first["ceiling"], abs=0.2)  # kept: what the codec makes of it
    assert "camera" in record["scores"]
    assert "given frames" in capsys.readouterr().out
    assert "--give first last camera" in (here / "scored/report.html").read_text()


def test_a_kept_region_a_prefix_and_a_keyframe_are_scored(run: Path, here: Path):
    asked = ["--clips", "2", "--seed", "77", "--give", "prefix", "last", "region", "--out", "scored"]
    assert run_command(score, [str(run), *asked]) == 0
    record = json.loads((here / "scored/scores.json").read_text())
    prefix, last = record["frames"]
    assert (prefix["frame"], last["frame"]) == (4, 8)
    assert prefix["psnr"] == pytest.approx(prefix["ceiling"], abs=1)
    region = record["region"]
    assert region["kept"] == pytest.approx(region["kept_codec"], abs=1)  # its border sees what is painted
    assert "all but the middle of the picture" in (here / "scored/report.html").read_text()
    assert run_command(score, [str(run), *asked[:4], "--give", "keyframe", "--out", "scored"]) == 0
    [keyframe] = json.loads((here / "scored/scores.json").read_text())["frames"]
    assert keyframe["frame"] == 4


def test_frame_rates_are_scored_by_how_fast_clips_are(
    run: Path, here: Path, capsys: pytest.CaptureFixture[str]
):
    asked = [str(run), "--clips", "2", "--seed", "77", "--out", "scored"]
    paces = []
    for fps in ("8", "16"):
        assert run_command(score, [*asked, "--fps", fps]) == 0
        paces.append(json.loads((here / "scored/scores.json").read_text())["pace"])
    assert [pace["fps"] for pace in paces] == [8, 16]
    assert paces[1]["truth"] == pytest.approx(paces[0]["truth"], rel=0.5)  # as fast a second, in other frames
    assert "pace: sides of the frame" in capsys.readouterr().out
    assert "--fps 16" in (here / "scored/report.html").read_text()
    assert run_command(score, [*asked, "--fps", "4"]) == 2
    assert "rates has 4, but must have 8 or more" in capsys.readouterr().err


def test_long_clips_are_scored_by_how_they_drift(run: Path, here: Path, capsys: pytest.CaptureFixture[str]):
    asked = ["--clips", "2", "--seed", "77", "--length", "17", "--give", "first", "motion", "--out", "scored"]
    assert run_command(score, [str(run), *asked]) == 0
    record = json.loads((here / "scored/scores.json").read_text())
    assert record["length"] == 17
    assert set(record["drift"]["model"]) == {"brightness", "contrast", "colour", "detail"}
    assert record["motion"]["ceiling_codec"] <= 1
    shown = capsys.readouterr().out
    assert "drift: change of the look a second" in shown
    assert "drift: change of the look a second" in (here / "scored/report.html").read_text()
    assert "--length 17 --give first motion" in (here / "scored/report.html").read_text()
    assert open_video(here / "scored/clips/held_out_0001.mp4").read(0, 17).shape[1] == 17
