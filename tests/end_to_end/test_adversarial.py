"""The second stage of a codec: it goes on from a folder, against a critic."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from vdit.codecs.folder import load_codec
from vdit.commands.train import main as train
from vdit.eval.curves import read_rows
from vdit.train.run_folder import RunFolder

CODEC = "--task.init_args.codec"


@pytest.mark.parametrize("precision", ["32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)])
def test_a_codec_goes_on_with_its_statistics_and_leaves_without_its_critic(
    adversarial_config, codec_run, begin, finish, tmp_path: Path, precision: str
):
    finish(begin(adversarial_config, tmp_path / "run", "--parallel.precision", precision))
    before, after = load_codec(codec_run / "codec"), load_codec(tmp_path / "run/codec")
    assert torch.equal(before.latent_mean, after.latent_mean)
    assert torch.equal(before.latent_std, after.latent_std)
    assert before.state_dict().keys() == after.state_dict().keys()
    moved = [name for name, value in before.state_dict().items() if not value.equal(after.state_dict()[name])]
    assert any(name.startswith("decoder") for name in moved)
    rows = [row for row in read_rows(RunFolder(tmp_path / "run").metrics) if row["kind"] == "train"]
    assert [row["adversary_weight"] > 0 for row in rows] == [False] * 2 + [True] * 10
    held_out = json.loads((tmp_path / "run/codec/codec.json").read_text())["held_out"]
    assert held_out["psnr"] > json.loads((codec_run / "codec/codec.json").read_text())["held_out"]["psnr"] - 3


@pytest.mark.slow
def test_two_processes_train_one_codec_and_one_critic(adversarial_config, begin, finish, tmp_path: Path):
    finish(begin(adversarial_config, tmp_path / "run", "--parallel.devices", "2"))
    rows = [row for row in read_rows(RunFolder(tmp_path / "run").metrics) if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert all(row["critic"] > 0 for row in rows)


def test_images_and_videos_train_one_codec(codec_run, codec_config, begin, finish, tmp_path: Path):
    """A folder of pictures beside clips of a world."""
    for number in range(6):
        Image.new("RGB", (24, 16), (40 * number, 0, 99)).save(tmp_path / f"{number}.png")
    data = yaml.safe_load(codec_config.read_text())["data"]
    images = {
        "class_path": "vdit.data.folder.FolderSource",
        "init_args": {"path": str(tmp_path), "cut": {"frames": 1, "height": 16, "width": 16}},
    }
    parts = [{"source": data["train"], "share": 0.75}, {"source": images, "share": 0.25}]
    data["train"] = {"class_path": "vdit.data.mixture.Mixture", "init_args": {"parts": parts}}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    said = finish(begin(codec_config, tmp_path / "run", "--data", str(tmp_path / "data.yaml")))
    assert "training: 6 clips of 6 videos" in said
    assert "on 30 clips" in said
    assert load_codec(tmp_path / "run/codec").latent_std.min() > 0


def test_what_is_no_number_stops_before_a_step(adversarial_config, command, tmp_path: Path):
    too_much = ["--task.init_args.loss.kl", "1e39"]
    status, said = command(train, "--config", adversarial_config, "--out", tmp_path / "run", *too_much)
    assert status == 4
    assert "non-finite loss or gradient at step 1" in said
    assert "clips with a non-finite loss: " in said
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    assert not (tmp_path / "run/codec").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([CODEC, "nowhere"], "nowhere holds no codec"),
        (["--task.init_args.lengths", "{9: 1.0}"], "lengths has 9 frames, but clips have 5 at most"),
        (["--task.init_args.lengths", "{2: 1.0}"], "2 frames do not fit this codec"),
        (["--task.init_args.lengths", "{1: 0.0}"], "frames and shares must be above 0"),
        (["--task.init_args.adversary.weight", "0"], "the adversary's weight is 0.0"),
        (
            ["--task.init_args.adversary.critic.init_args.widths", "[8, 8, 8, 8, 8]"],
            "the critic needs frames of 32x32 pixels, and clips have 16x16",
        ),
        (
            ["--task.init_args.adversary.critic.init_args.widths", "[7]"],
            "must be one or more multiples of its 8",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_a_run_begins(
    adversarial_config, command, tmp_path: Path, options, says: str
):
    status, said = command(train, "--config", adversarial_config, "--out", tmp_path / "run", *options)
    assert status == 2
    assert says in said
    assert not (tmp_path / "run").exists()
