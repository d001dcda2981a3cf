"""A finished run is where others begin: more steps, a next stage, a LoRA, an exported model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from vdit.commands.export_weights import main as export
from vdit.commands.sample import main as sample
from vdit.commands.train import main as train
from vdit.data.decode import open_video
from vdit.train.checkpoint import Checkpoint, Checkpoints
from vdit.weights.files import read_tensors

PROMPT = "a small red circle moving left"

Command = Callable[..., tuple[int, str]]


def last(run: Path) -> Checkpoint:
    latest = Checkpoints(run / "checkpoints", keep=1).latest()
    assert latest is not None
    return latest


def average(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(last(run).average)


def sampled(command: Command, option: str, place: Path, out: Path) -> torch.Tensor:
    asked = ("--prompt", PROMPT, "--seed", 3, "--out", out, "--device", "cpu")
    status, said = command(sample, option, place, *asked)
    assert status == 0, said
    return open_video(out / "000003.mp4").read(0, 5).float()


@pytest.fixture
def base(flow_run: Path, tmp_path: Path) -> Path:
    """A finished run that may be changed, and moved together with those that begin with it."""
    return Path(shutil.copytree(flow_run, tmp_path / "runs/base"))


@pytest.fixture
def begun(flow_config: Path, tmp_path: Path) -> Callable[..., tuple[Path, list[str]]]:
    """`begun(name, base, adapter=...)`: the folder and the options of a run that begins with another."""

    def options(name: str, base: Path, **changes) -> tuple[Path, list[str]]:
        values = yaml.safe_load(flow_config.read_text())
        arguments = values["task"]["init_args"]
        del arguments["codec"], arguments["sampling"]
        arguments |= {"start_from": str(base), **changes}
        values["loop"] |= {"steps": 4, "keep": 5}
        if "adapter" in changes:
            del values["optim"]["muon"]
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump(values))
        out = tmp_path / "runs" / name
        return out, ["--config", str(config), "--out", str(out)]

    return options


def test_a_run_begins_with_the_averaged_weights_of_another(base: Path, begun, command: Command):
    out, options = begun("next", base)
    status, said = command(train, *options, "--optim.lr", "1e-12")
    assert status == 0, said
    assert f"beginning with step 40 of {base}" in said
    began, now = average(base), average(out)
    assert began.keys() == now.keys()
    for name, value in began.items():
        torch.testing.assert_close(now[name], value, rtol=0, atol=1e-6)
    start = json.loads((out / "provenance.json").read_text())["start"]
    assert (start["run"], start["step"], len(start["sha256"])) == (str(base), 40, 64)
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["task"]["init_args"]["start_from"] == str(last(base).path)
    sampling = config["task"]["init_args"]["sampling"]
    assert [sampling[name] for name in ("frames", "height", "width", "fps")] == [5, 16, 16, 8.0]
    shutil.rmtree(last(out).path)
    shutil.rmtree(base)  # which has served
    status, said = command(train, *options, "--optim.lr", "1e-12")
    assert status == 0, said
    assert "continuing" in said


def test_a_run_that_does_not_fit_is_refused_by_its_tensors(base: Path, begun, command: Command):
    _, options = begun("next", base)
    width = "--task.init_args.backbone.init_args.width"
    status, said = command(train, *options, width, "48")
    assert status == 2
    assert "is 32x32 there and 48x48 here" in said
    status, said = command(train, *options, "--task.init_args.start_from", base / "gone")
    assert status == 2
    assert "no run is there" in said
    status, said = command(train, *options, "--task.init_args.start_from", base / "checkpoints/step_00000002")
    assert status == 2
    assert "is no whole checkpoint: there are" in said


def test_latents_of_another_codec_are_refused(base: Path, begun, adversarial_codec: Path, command: Command):
    _, options = begun("next", base, codec=str(adversarial_codec))
    status, said = command(train, *options)
    assert status == 2
    assert "knows the latents of its own codec" in said


@pytest.fixture
def adversarial_codec(codec_run: Path, tmp_path: Path) -> Path:
    """Another codec of the same shapes."""
    from vdit.codecs.folder import load_codec, save_codec

    codec = load_codec(codec_run / "codec")
    codec.latent_mean.add_(0.5)
    save_codec(codec, tmp_path / "codec", {})
    return tmp_path / "codec"


def test_a_codec_run_begins_with_another(
    codec_run: Path, codec_config: Path, command: Command, tmp_path: Path
):
    options = ("--config", codec_config, "--out", tmp_path / "next", "--loop.steps", 2, "--optim.lr", "1e-12")
    status, said = command(train, *options, "--task.init_args.start_from", codec_run)
    assert status == 0, said
    began, now = average(codec_run), average(tmp_path / "next")
    for name, value in began.items():
        torch.testing.assert_close(now[name], value, rtol=0, atol=1e-6)


def test_more_steps_go_on_in_the_same_folder(base: Path, flow_config: Path, command: Command):
    options = ("--config", flow_config, "--out", base)
    status, said = command(train, *options, "--loop.steps", 42)
    assert status == 0, said
    assert "42 steps instead of 40: the learning rate after step 40 is" in said
    assert last(base).step == 42
    assert yaml.safe_load((base / "config.yaml").read_text())["loop"]["steps"] == 42
    status, said = command(train, *options, "--loop.steps", 41)
    assert status == 2
    assert "- steps: 42 + steps: 41" in said


def test_a_lora_of_an_own_run_holds_its_update_alone(base: Path, begun, command: Command, tmp_path: Path):
    out, options = begun("lora", base, adapter={"rank": 2})
    status, said = command(train, *options)
    assert status == 0, said
    assert all(".lora_" in name for name in read_tensors(last(out).weights))
    update = sampled(command, "--run", out, tmp_path / "a")
    status, said = command(export, "--from", out, "--to", tmp_path / "model")
    assert status == 0, said
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    moved = tmp_path / "moved/lora"
    assert torch.equal(sampled(command, "--run", moved, tmp_path / "b"), update)
    shutil.rmtree(tmp_path / "moved/base")
    status, said = command(sample, "--run", moved, "--prompt", PROMPT, "--out", tmp_path / "c")
    assert status == 2
    assert "put back the one that this run began with" in said
    merged = sampled(command, "--model", tmp_path / "model", tmp_path / "d")
    assert (merged - update).abs().mean() < 0.5  # of 255: sums in another order


def test_a_lora_whose_base_has_changed_is_refused(base: Path, begun, command: Command, tmp_path: Path):
    out, options = begun("lora", base, adapter={"rank": 2})
    assert command(train, *options)[0] == 0
    other = last(base)
    manifest = json.loads((other.path / "manifest.json").read_text())
    (other.path / "manifest.json").write_text(json.dumps(manifest, indent=3))
    status, said = command(sample, "--run", out, "--prompt", PROMPT, "--out", tmp_path / "c")
    assert status == 2
    assert "is not that any more: put it back" in said


def test_a_lora_of_random_weights_is_refused(flow_config: Path, command: Command, tmp_path: Path):
    options = ("--config", flow_config, "--out", tmp_path / "out", "--task.init_args.adapter.rank", 2)
    status, said = command(train, *options, "--optim.muon", "null")
    assert status == 2
    assert "those of this backbone were drawn at random" in said
    assert not (tmp_path / "out").exists()


def test_an_exported_run_is_a_model_that_gives_the_same_clips(
    base: Path, flow_config: Path, command: Command, tmp_path: Path
):
    before = sampled(command, "--run", base, tmp_path / "a")
    model = tmp_path / "model"
    status, said = command(export, "--from", base, "--to", model)
    assert status == 0, said
    shutil.rmtree(base)
    assert torch.equal(sampled(command, "--model", model, tmp_path / "b"), before)
    assert str(tmp_path) not in (model / "model.yaml").read_text()
    options = ("--config", flow_config, "--task.init_args", model / "model.yaml", "--out", tmp_path / "next")
    status, said = command(train, *options, "--loop.steps", 2)
    assert status == 0, said
    status, said = command(export, "--from", model, "--to", tmp_path / "again")
    assert status == 2
    assert "is a model already" in said


def test_what_does_not_agree_with_the_clips_is_told(flow_config: Path, command: Command, tmp_path: Path):
    values = yaml.safe_load(flow_config.read_text())
    values["data"]["held_out"] = values["data"]["train"]
    values["task"]["init_args"]["sampling"]["fps"] = 4
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    status, said = command(train, "--config", config, "--out", tmp_path / "run", "--dry-run")
    assert status == 0, said
    assert "samples are 5x16x16 at 4 fps, but most clips that are trained on are 5x16x16 at 8 fps" in said
    assert "leave sampling.fps unset" in said
    assert "24 of 24 held-out clips are of videos that are trained on" in said
    status, said = command(train, "--config", flow_config, "--out", tmp_path / "run", "--dry-run")
    assert status == 0, said
    assert "note:" not in said
