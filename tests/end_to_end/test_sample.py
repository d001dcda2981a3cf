"""Sampling from a trained run, and what is refused before anything is written."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from vdit.commands.sample import main as sample
from vdit.data.decode import open_video
from vdit.sample.video_file import read_metadata

ROOT = Path(__file__).parents[2]
PROMPT = "a small red circle moving left"


def frames(file: Path) -> torch.Tensor:
    return open_video(file).read(0, 5)


def test_sample_py_writes_clips_a_sheet_and_the_settings(flow_run, tmp_path: Path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{PROMPT}\n\n  a large blue square  \n")
    options = ["--prompts", str(prompts), "--seed", "7", "--batch", "1", "--out", str(tmp_path / "clips")]
    command = [sys.executable, "sample.py", "--run", str(flow_run), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 clips in" in done.stdout
    clips = tmp_path / "clips"
    assert sorted(file.name for file in clips.iterdir()) == [
        "000007.mp4",
        "000008.mp4",
        "settings.json",
        "sheet.png",
    ]
    assert frames(clips / "000007.mp4").shape == (3, 5, 16, 16)
    told = read_metadata(clips / "000007.mp4")
    assert PROMPT in str(told)
    assert "flow_run step 40" in str(told)
    assert Image.open(clips / "sheet.png").size[0] > 16
    settings = json.loads((clips / "settings.json").read_text())
    assert settings["model"] == "flow_run step 40"
    assert settings["sampling"]["steps"] == 2
    assert settings["clips"] == [
        {"file": "000007.mp4", "prompt": PROMPT, "seed": 7},
        {"file": "000008.mp4", "prompt": "a large blue square", "seed": 8},
    ]


def test_a_clip_depends_on_prompt_and_seed_and_not_on_its_neighbours(flow_run, command, tmp_path: Path):
    def clip(name: str, *options: object) -> bytes:
        status, said = command(sample, "--run", flow_run, "--out", tmp_path / name, *options)
        assert status == 0, said
        return frames(tmp_path / name / "000003.mp4").numpy().tobytes()

    alone = clip("a", "--prompt", PROMPT, "--seed", 3)
    assert clip("b", "--prompt", "a", "--prompt", PROMPT, "--seed", 2) == alone
    assert clip("c", "--prompt", "large square", "--seed", 3, "--guidance", 30) != alone
    assert clip("d", "--prompt", PROMPT, "--seed", 3, "--solver", "heun", "--steps", 3) != alone


def test_a_run_needs_neither_the_codec_nor_the_clips_it_came_from_nor_its_cache(
    flow_run, command, tmp_path: Path
):
    run = tmp_path / "moved"
    shutil.copytree(flow_run, run)
    config = run / "config.yaml"
    text = config.read_text()
    for part in ("codec_run/codec", "cache"):
        text = text.replace(str(flow_run.parent / part), str(tmp_path / "gone"))
    where = {"path": str(tmp_path / "gone"), "cut": {"frames": 5, "height": 16, "width": 16}}
    folder = {"class_path": "vdit.data.folder.FolderSource", "init_args": where}
    text = yaml.safe_dump(yaml.safe_load(text) | {"data": {"train": folder, "held_out": folder}})
    config.write_text(text)
    status, said = command(sample, "--run", run, "--prompt", PROMPT)
    assert status == 0, said
    assert (run / "sampled/000000.mp4").is_file()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--frames", "6"], "6 frames do not fit this codec, which takes 1 + 2n: use 5 or 7"),
        (["--frames", "0"], "0 frames do not fit this codec"),
        (["--size", "18x16"], "18x16 pixels do not fit this codec and the patches: use multiples of 8"),
        (["--size", "0x16"], "--size 0x16 is not HEIGHTxWIDTH, like 64x64"),
        (["--size", "20x16"], "latents of 3x5x4 do not divide into patches of (1, 2, 2)"),
        (["--size", "big"], "--size big is not HEIGHTxWIDTH, like 64x64"),
        (["--steps", "0"], "sampling.steps is 0, but must be at least 1"),
        (["--fps", "0"], "sampling.fps is 0.0, but must be a number above 0"),
        (["--fps", "nan"], "sampling.fps is nan"),
        (["--guidance", "-1"], "sampling.guidance is -1.0, but must be a number 0 or more"),
        (["--seed", "-1"], "--seed -1 must be 0 or more"),
        (["--seed", "99999999999999999999"], "and below 2^63"),
        (["--prompt", " "], "a --prompt is empty: say what to show"),
        (["--device", "gpu"], "device 'gpu' is not one that torch knows"),
        (["--batch", "0"], "--batch 0 must be at least 1"),
        (["--solver", "magic"], "invalid choice: 'magic'"),
        (["--out", __file__], f"File exists: {__file__}"),
        (["--unknown", "1"], "unrecognized arguments: --unknown"),
    ],
)
def test_settings_that_do_not_fit_are_refused(flow_run, command, tmp_path: Path, options, says: str):
    out = tmp_path / "clips"
    status, said = command(sample, "--run", flow_run, "--prompt", PROMPT, "--out", out, *options)
    assert status == 2
    assert says in said
    assert not out.exists()


def test_prompt_files_without_prompts_are_refused(flow_run, command, tmp_path: Path):
    out, prompts = tmp_path / "clips", tmp_path / "prompts.txt"
    for content, says in [
        (None, "does not exist"),
        (b"", "is empty: write one prompt a line"),
        (b" \n\n", "is empty: write one prompt a line"),
        (b"a caf\xe9", "is not UTF-8"),
    ]:
        if content is not None:
            prompts.write_bytes(content)
        status, said = command(sample, "--run", flow_run, "--prompts", prompts, "--out", out)
        assert status == 2
        assert says in said
    status, said = command(sample, "--run", flow_run, "--prompts", tmp_path, "--out", out)
    assert (status, "is a folder: give a text file" in said) == (2, True)
    status, said = command(sample, "--run", flow_run, "--out", out)
    assert (status, "nothing to sample: give --prompt TEXT" in said) == (2, True)
    assert not out.exists()


def test_runs_that_cannot_be_sampled_are_refused(flow_run, codec_run, command, tmp_path: Path):
    def refused(run: Path) -> str:
        out = tmp_path / "clips"
        status, said = command(sample, "--run", run, "--prompt", PROMPT, "--out", out)
        assert status == 2
        assert not out.exists()
        return said

    assert "holds no run: it has no config.yaml" in refused(tmp_path / "absent")
    assert "trained a codec; sampling needs a text-to-video run" in refused(codec_run)
    early = tmp_path / "early"
    early.mkdir()
    shutil.copy(flow_run / "config.yaml", early)
    assert "has no checkpoint yet: train it first" in refused(early)
    damaged = tmp_path / "damaged"
    shutil.copytree(flow_run, damaged)
    average = damaged / "checkpoints/step_00000040/ema.safetensors"
    average.write_bytes(average.read_bytes()[:-1])
    assert "ema.safetensors is damaged or missing" in refused(damaged)
    (damaged / "codec/weights.safetensors").unlink()
    shutil.copy(flow_run / "checkpoints/step_00000040/ema.safetensors", average)
    assert "weights.safetensors does not exist" in refused(damaged)
