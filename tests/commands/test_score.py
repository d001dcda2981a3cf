import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from vdit.commands.command import run_command
from vdit.commands.sample import main as sample
from vdit.commands.score import main as score
from vdit.data.decode import open_video
from vdit.sample.video_file import read_metadata, write_video
from vdit.types import InputError
from vdit.world.flat import Flat
from vdit.world.source import WorldSource

CopiedRun = Callable[[], Path]


def test_a_run_is_judged_from_prompts_to_report(copied_run: CopiedRun, capsys: pytest.CaptureFixture[str]):
    run = copied_run()
    stale = run / "clips" / "held_out_0099.mp4"
    stale.parent.mkdir()
    stale.touch()
    (run / "codec" / "training.jsonl").write_text('{"step": 2, "kind": "validation", "psnr": 9.5}\n')
    assert score([str(run), "--clips", "5", "--batch", "2", "--steps", "3", "--guidance", "2"]) == 0

    record = json.loads((run / "scores.json").read_text())
    assert set(record["scores"]) == {*Flat.attributes, "all"}
    assert record["clips_judged"] == len(record["clips"]) == 5
    assert (record["run"], record["step"], record["seed"], record["level"]) == ("tiny", 2, 1000, "flat")
    assert record["sampling"]["steps"] == 3
    assert record["sampling"]["guidance"] == 2.0
    assert record["seconds"] > 0

    files = [run / clip["file"] for clip in record["clips"]]
    assert sorted(run.glob("clips/*")) == [*files, run / "clips" / "sheet.png"]
    for file, clip in zip(files, record["clips"], strict=True):
        said = read_metadata(file)
        assert (said["prompt"], said["seed"], said["model"]) == (
            clip["prompt"],
            str(clip["seed"]),
            "tiny step 2",
        )
        assert open_video(file).read(0, 5).shape == (3, 5, 32, 32)

    page = (run / "report.html").read_text()
    assert page.count("<video ") == 5
    assert "What tiny learnt" in page
    assert "Codec: reconstruction" in page
    assert "http" not in page
    printed = capsys.readouterr().out
    assert re.search(r"all .*0% to 43%", printed)
    assert "report.html" in printed


def test_prompts_are_held_out_scenes_of_the_given_seed(copied_run: CopiedRun):
    run = copied_run()
    score([str(run), "--clips", "6", "--steps", "1", "--seed", "77"])
    clips = json.loads((run / "scores.json").read_text())["clips"]
    unseen = WorldSource(Flat(), 6, 5, 32, 32, seed=77, held_out=True)
    assert [clip["prompt"] for clip in clips] == [unseen.caption(i) for i in range(6)]
    assert [clip["seed"] for clip in clips] == list(range(77, 83))


def test_a_run_trained_on_dense_captions_is_asked_in_dense_captions(copied_run: CopiedRun):
    run = copied_run()
    configured(run, lambda values: values["data"]["held_out"]["init_args"].update(caption="dense"))
    score([str(run), "--clips", "2", "--steps", "1"])
    unseen = WorldSource(Flat(), 2, 5, 32, 32, seed=1000, held_out=True, caption="dense")
    assert json.loads((run / "scores.json").read_text())["clips"][1]["prompt"] == unseen.caption(1)


def test_an_earlier_checkpoint_is_judged_elsewhere(copied_run: CopiedRun, tmp_path: Path):
    run, out = copied_run(), tmp_path / "at_1"
    before = sorted(run.rglob("*"))
    score([str(run), "--clips", "2", "--steps", "1", "--checkpoint", "1", "--out", str(out)])
    assert sorted(run.rglob("*")) == before
    assert json.loads((out / "scores.json").read_text())["step"] == 1
    assert read_metadata(out / "clips" / "held_out_0000.mp4")["model"] == "tiny step 1"
    assert (out / "report.html").is_file()


def test_sample_repeats_a_judged_clip(copied_run: CopiedRun, tmp_path: Path):
    run = copied_run()
    score([str(run), "--clips", "3", "--steps", "2"])
    clip = json.loads((run / "scores.json").read_text())["clips"][2]
    again = ["--prompt", clip["prompt"], "--seed", str(clip["seed"]), "--steps", "2"]
    sample(["--run", str(run), *again, "--out", str(tmp_path / "again")])
    judged, sampled = (
        open_video(file).read(0, 5).int() for file in (run / clip["file"], next(tmp_path.glob("again/*.mp4")))
    )
    # Batches of another size differ in the last bits, which x264 may turn into other block decisions.
    squared_error = (judged - sampled).float().square().mean()
    assert 10 * torch.log10(255**2 / squared_error.clamp_min(1e-9)) > 40


def configured(run: Path, change: Callable[[dict], None]) -> None:
    values = yaml.safe_load((run / "config.yaml").read_text())
    change(values)
    (run / "config.yaml").write_text(yaml.safe_dump(values))


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--clips", "1"], "--clips is 1, but must be at least 2"),
        (["--batch", "0"], "--batch 0 must be at least 1"),
        (["--steps", "0"], "sampling.steps is 0, but must be at least 1"),
        (["--checkpoint", "7"], "has no checkpoint of step 7: it has 1, 2"),
        (["--seed", "-1"], "seed is -1, but must be at least 0"),
        (["--seed", "1"], "--seed 1 draws the clips this run was validated on"),
    ],
)
def test_options_that_cannot_be_used_are_refused(copied_run: CopiedRun, option: list[str], told: str):
    run = copied_run()
    with pytest.raises(InputError, match=told):
        score([str(run), *option])
    assert not (run / "scores.json").exists()
    assert not (run / "clips").exists()


def test_a_run_without_a_checkpoint_is_refused(copied_run: CopiedRun, capsys: pytest.CaptureFixture[str]):
    run = copied_run()
    shutil.rmtree(run / "checkpoints")
    assert run_command(score, [str(run)]) == 2
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_a_run_on_videos_is_refused_and_told_what_is_needed(copied_run: CopiedRun, tmp_path: Path):
    write_video(tmp_path / "videos" / "one.mp4", WorldSource(Flat(), 1, 5, 32, 32)[0].pixels, 8)
    cut = {"frames": 5, "height": 32, "width": 32, "fps": 8.0}
    folder = {"path": str(tmp_path / "videos"), "cut": cut}
    videos = {"class_path": "vdit.data.folder.FolderSource", "init_args": folder}
    run = copied_run()
    configured(run, lambda values: values["data"].update(held_out=videos))
    with pytest.raises(InputError, match=r"FolderSource, which knows no truth.*WorldSource"):
        score([str(run)])


def test_a_codec_run_is_refused(tiny_runs):
    with pytest.raises(InputError, match="trained a codec"):
        score([str(tiny_runs.codec)])
