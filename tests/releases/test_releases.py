"""A release through import, sampling, one step of training and export, in every layout it has."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_release import VARIANTS
from tiny_training import trained

from vdit.codecs.folder import load_codec
from vdit.commands.command import run_command
from vdit.commands.export_weights import main as export
from vdit.commands.import_weights import main as import_
from vdit.commands.sample import main as sample
from vdit.models.experts import SigmaExperts
from vdit.models.folder import read_backbone
from vdit.sample.video_file import read_metadata
from vdit.types import DenoiserInput, Tokens
from vdit.weights.source import open_weights

LAYOUTS = {name: ("original",) if "camera" in name else ("original", "diffusers") for name in VARIANTS}
RECIPE = "frames: 5\nheight: 32\nwidth: 64\nsteps: 3\nguidance: 2.0\nlow_guidance: 1.5\nboundary: 0.9\n"
RECIPE += "shift: 3.0\nsolver: unipc\nfirst: 0.999\nwhole_steps: true\nnegative: red\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    colours = np.linspace(0, 255, 40 * 70 * 3).reshape(40, 70, 3).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "first.png")
    Image.fromarray(255 - colours).save(tmp_path / "last.png")
    row = "0 0.6 1.05 0.5 0.48 0 0 1 0 0 {} 0 1 0 0 0 0 1 0"
    (tmp_path / "poses.txt").write_text("\n".join(row.format(i / 10) for i in range(5)))
    return tmp_path


def asked(variant: str) -> list[str]:
    """What the variant needs beside a prompt."""
    found = ["--first", "first.png"] if "t2v" not in variant else []
    found += ["--last", "last.png"] if "flf2v" in variant else []
    return found + (["--camera-file", "poses.txt"] if "camera" in variant else [])


def taken_in(release: Path, model: Path, out: str) -> int:
    codec = ["--codec", str(model.parent / "codec.yaml")]
    return run_command(import_, ["--from", str(release), "--to", out, "--recipe", "recipe.yaml", *codec])


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_goes_out_and_comes_in_again_is_the_same(variant: str, tiny: Callable[[str], Path], here: Path):
    model = tiny(variant)
    for layout in LAYOUTS[variant]:
        assert run_command(export, ["--from", str(model), "--layout", layout, "--to", layout]) == 0
        assert taken_in(here / layout, model, f"in_{layout}") == 0
        report = json.loads((here / f"in_{layout}/import.json").read_text())
        assert report["variant"] == variant
        assert report["layout"] == layout
        for part in ("backbone", "high", "low", "text", "image", "codec"):
            if (model / part).is_dir():
                ours = dict(open_weights(model / part).tensors())
                back = dict(open_weights(here / f"in_{layout}" / part).tensors())
                ours.pop("vision_model.embeddings.position_ids", None)
                assert all(torch.equal(back[name], ours[name]) for name in back), part
                assert ours.keys() - back.keys() <= {"encoder.embed_tokens.weight"}
        assert run_command(export, ["--from", f"in_{layout}", "--layout", layout, "--to", "again"]) == 0
        for file in sorted((here / layout).rglob("*.safetensors")):
            again = here / "again" / file.relative_to(here / layout)
            theirs, ours = dict(open_weights(file).tensors()), dict(open_weights(again).tensors())
            assert theirs.keys() == ours.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        (here / "again").rename(here / f"again_{layout}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layout_samples_the_same_clip(variant: str, tiny: Callable[[str], Path], here: Path):
    model, clips = tiny(variant), []
    for layout in LAYOUTS[variant]:
        assert run_command(export, ["--from", str(model), "--layout", layout, "--to", layout]) == 0
        assert taken_in(here / layout, model, f"in_{layout}") == 0
        line = ["--model", f"in_{layout}", "--prompt", "a red star", "--out", f"clips_{layout}"]
        assert run_command(sample, [*line, *asked(variant)]) == 0
        clips.append((here / f"clips_{layout}/sheet.png").read_bytes())
    assert len(set(clips)) == 1
    settings = json.loads((here / f"clips_{LAYOUTS[variant][0]}/settings.json").read_text())
    assert settings["sampling"]["negative"] == "red"
    # Which the recipe leaves to that of the variant.
    assert settings["sampling"]["fps"] == (24 if "5b" in variant else 16)


@pytest.mark.parametrize(
    ("options", "scales", "branches"),
    [
        ([], (2.0, 1.5), {2}),
        (["--guidance", "1"], (1.0, 1.0), {1}),
        (["--guidance", "4", "--guidance-low", "1"], (4.0, 1.0), {1, 2}),
        (["--guidance-low", "1"], (2.0, 1.0), {1, 2}),
    ],
)
def test_guidance_reaches_both_experts(
    options: list[str],
    scales: tuple[float, float],
    branches: set[int],
    tiny: Callable[[str], Path],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    model = here / "model"
    shutil.copytree(tiny("wan_2_2_t2v_a14b"), model)
    told = yaml.safe_load((model / "model.yaml").read_text())
    told["sampling"] |= {"low_guidance": 1.5, "boundary": 0.9}
    (model / "model.yaml").write_text(yaml.safe_dump(told))
    rows, forward = [], SigmaExperts.forward

    def counted(self: SigmaExperts, inputs: DenoiserInput) -> torch.Tensor:
        rows.append(len(inputs.latents))
        return forward(self, inputs)

    monkeypatch.setattr(SigmaExperts, "forward", counted)
    line = ["--model", "model", "--prompt", "a red star", "--out", "clips", "--steps", "6", *options]
    assert run_command(sample, line) == 0
    assert set(rows) == branches
    settings = json.loads((here / "clips/settings.json").read_text())["sampling"]
    facts = read_metadata(here / "clips/000000.mp4")
    assert (settings["guidance"], settings["low_guidance"]) == scales
    assert (float(facts["guidance"]), float(facts["low_guidance"])) == scales


def test_one_transformer_has_no_guidance_of_a_second(
    tiny: Callable[[str], Path], here: Path, capsys: pytest.CaptureFixture[str]
):
    line = ["--model", str(tiny("wan_2_1_t2v")), "--prompt", "a red star", "--guidance-low", "2"]
    assert run_command(sample, line) == 2
    assert "--guidance-low 2.0 is of the low-noise one of two experts" in capsys.readouterr().err
    assert not list(here.glob("clips*"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_fine_tuned_and_given_out(variant: str, tiny: Callable[[str], Path], here: Path):
    model = tiny(variant)
    assert trained(model, "run", "--task.init_args.sampling.shift", "7") == 0
    layout = LAYOUTS[variant][-1]
    assert run_command(export, ["--from", "run", "--layout", layout, "--to", "out"]) == 0
    if layout == "diffusers":  # whose scheduler is to step as the samples of the run do
        assert json.loads((here / "out/scheduler/scheduler_config.json").read_text())["flow_shift"] == 7
    assert taken_in(here / "out", model, "again") == 0
    shares = []
    for role in ("backbone", "high", "low"):
        if (model / role).is_dir():
            before = dict(open_weights(model / role).tensors())
            after = dict(open_weights(here / "again" / role).tensors())
            moved = [name for name in before if not torch.equal(before[name], after[name])]
            assert max((before[name] - after[name]).abs().max().item() for name in moved) < 0.01
            shares.append(len(moved) / len(before))
    assert max(shares) > 0.9  # of two experts, one may not have been asked in two steps
    line = ["--run", "run", "--prompt", "a red star", "--out", "clips", *asked(variant)]
    assert run_command(sample, line) == 0


def test_a_model_that_follows_a_camera_is_not_trained_on_clips_without(
    tiny: Callable[[str], Path], here: Path, capsys: pytest.CaptureFixture[str]
):
    flat = {"class_path": "vdit.world.flat.Flat"}
    for part in ("train", "held_out"):
        (here / f"{part}.yaml").write_text(yaml.safe_dump(flat))
    more = [f"--data.{part}.init_args.level={part}.yaml" for part in ("train", "held_out")]
    assert trained(tiny("wan_2_1_fun_camera"), "run", *more) == 2
    assert "give one with --camera, or clips that know theirs" in capsys.readouterr().err
    assert not (here / "run").exists()


def test_bfloat16_trains_near_float32(tiny: Callable[[str], Path], here: Path):
    model, losses = tiny("wan_2_1_i2v"), []
    for precision in ("32-true", "bf16-mixed"):
        assert trained(model, precision, "--parallel.precision", precision, "--optim.lr", "1e-9") == 0
        lines = (here / precision / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines if "loss" in json.loads(line)])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("variant", ["wan_2_1_i2v", "wan_2_2_t2v_a14b"])
def test_a_lora_keeps_nothing_of_the_model_and_is_given_out_merged(
    variant: str, tiny: Callable[[str], Path], here: Path
):
    model = tiny(variant)
    lora = ["--task.init_args.adapter.rank", "2", "--task.init_args.adapter.alpha", "4"]
    assert trained(model, "run", *lora, "--optim.lr", "0.1") == 0
    kept = open_weights(here / "run/checkpoints/step_00000002/model.safetensors").shapes()
    assert all(".lora_" in name for name in kept)
    assert run_command(export, ["--from", "run", "--layout", "original", "--to", "out"]) == 0
    assert taken_in(here / "out", model, "again") == 0
    clips = []
    for source in (["--run", "run"], ["--model", "again"], ["--model", str(model)]):
        out = ["--out", f"clips{len(clips)}", "--prompt", "a red star"]
        assert run_command(sample, [*source, *out, *asked(variant)]) == 0
        clips.append(np.asarray(Image.open(here / f"clips{len(clips)}/sheet.png"), dtype=int))
    assert np.abs(clips[0] - clips[1]).max() <= 2  # added to the weights or computed beside them: rounding
    assert np.abs(clips[0] - clips[2]).max() > 2


def test_diffusers_reads_what_is_given_out_and_computes_the_same(tiny: Callable[[str], Path], here: Path):
    diffusers = pytest.importorskip("diffusers")
    model = tiny("wan_2_1_t2v")
    assert run_command(export, ["--from", str(model), "--layout", "diffusers", "--to", "out"]) == 0
    theirs = diffusers.WanTransformer3DModel.from_pretrained(here / "out/transformer").requires_grad_(False)
    ours = read_backbone(model / "backbone").requires_grad_(False).eval()
    latents, text = torch.randn(1, 4, 2, 4, 8), torch.zeros(1, 512, 16)
    text[:, :3] = torch.randn(1, 3, 16)
    (expected,) = theirs(latents, torch.tensor([613]), text, return_dict=False)
    tokens = Tokens(text[:, :3], torch.ones(1, 3, dtype=torch.bool))
    got = ours(DenoiserInput(latents, torch.full((1, 1, 1, 1), 0.613), tokens))
    torch.testing.assert_close(got, expected, atol=4e-5 * expected.abs().max().item(), rtol=0)
    vae = diffusers.AutoencoderKLWan.from_pretrained(here / "out/vae").requires_grad_(False)
    pixels = torch.rand(1, 3, 5, 16, 24) * 2 - 1
    moments = vae.encode(pixels).latent_dist.mean
    torch.testing.assert_close(load_codec(model / "codec").encode(pixels), moments, atol=1e-4, rtol=1e-4)
