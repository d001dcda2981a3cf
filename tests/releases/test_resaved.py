"""Releases that transformers and diffusers have read and saved again come in with equal values."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from vdit.commands.command import run_command
from vdit.commands.export_weights import main as export
from vdit.commands.import_weights import main as import_
from vdit.text.clip_vision import ClipVision
from vdit.weights.source import open_weights

I2V = "wan_2_1_i2v"


@pytest.fixture
def release(tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    line = ["--from", str(tiny(I2V)), "--layout", "diffusers", "--to", "release"]
    assert run_command(export, line) == 0
    return Path("release")


def check(
    release: Path, model: Path, role: str, dtype: torch.dtype, lacks: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Take a release in and compare a part with that of the model, at a precision; its row of the report."""
    shutil.rmtree("out", ignore_errors=True)
    assert run_command(import_, ["--from", str(release), "--to", "out"]) == 0
    ours, back = dict(open_weights(model / role).tensors()), dict(open_weights(Path("out") / role).tensors())
    assert ours.keys() - back.keys() <= lacks | {"encoder.embed_tokens.weight"}
    assert not back.keys() - ours.keys()
    for name, value in back.items():
        assert torch.equal(value.float(), ours[name].to(dtype).float()), name
    return json.loads(Path("out/import.json").read_text())["parts"][role]


@pytest.mark.parametrize("kind", ["CLIPVisionModel", "CLIPVisionModelWithProjection", "CLIPModel"])
def test_an_image_encoder_however_it_is_saved(kind: str, release: Path, tiny: Callable[[str], Path]):
    import transformers

    model, folder = tiny(I2V), release / "image_encoder"
    wanted = ClipVision(model / "image").encode(torch.linspace(-1, 1, 3 * 28 * 28).view(1, 3, 28, 28))
    if kind == "CLIPModel":
        tower = transformers.CLIPVisionModelWithProjection.from_pretrained(folder)
        text = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1, "vocab_size": 30}
        text |= {"num_attention_heads": 2}
        sizes = {"vision_config": tower.config.to_dict(), "text_config": text, "projection_dim": 8}
        whole = transformers.CLIPModel(transformers.CLIPConfig(**sizes))
        whole.load_state_dict(tower.state_dict(), strict=False)
    else:
        whole = getattr(transformers, kind).from_pretrained(folder)
    shutil.rmtree(folder)
    whole.save_pretrained(folder, max_shard_size="20KB")
    assert (folder / "model.safetensors.index.json").is_file()
    lacks = frozenset({"visual_projection.weight"} if kind == "CLIPVisionModel" else ())
    left = check(release, model, "image", torch.float32, lacks)["left_out"]
    assert ("text_projection.weight" in left) == (kind == "CLIPModel")
    got = ClipVision(Path("out/image")).encode(torch.linspace(-1, 1, 3 * 28 * 28).view(1, 3, 28, 28))
    assert torch.equal(got, wanted)
    for layout in ("diffusers", "original"):
        assert run_command(export, ["--from", "out", "--layout", layout, "--to", f"again_{layout}"]) == 0
    names = open_weights(next(Path("again_original").glob("models_clip_*.pth"))).shapes()
    assert {name.split(".")[0] for name in names} == {"visual", "textual", "log_scale"}
    assert "visual.head" in names


@pytest.mark.parametrize("extras", ["counted places", "projection of another size"])
def test_what_an_image_encoder_may_hold_besides(extras: str, release: Path, tiny: Callable[[str], Path]):
    file = release / "image_encoder/model.safetensors"
    tensors = load_file(file)
    if extras == "counted places":
        tensors["vision_model.embeddings.position_ids"] = torch.arange(5).view(1, 5)
    else:  # its size is not in the configuration of a tower that was saved alone
        config = json.loads((release / "image_encoder/config.json").read_text())
        del config["projection_dim"]
        (release / "image_encoder/config.json").write_text(json.dumps(config))
    save_file(tensors, file, {"format": "pt"})
    check(release, tiny(I2V), "image", torch.float32)


@pytest.mark.parametrize("kind", ["UMT5EncoderModel", "UMT5Model", "UMT5ForConditionalGeneration", "tied"])
def test_a_text_encoder_however_it_is_saved(kind: str, release: Path, tiny: Callable[[str], Path]):
    import transformers

    model, folder = tiny(I2V), release / "text_encoder"
    if kind == "tied":
        tensors = load_file(folder / "model.safetensors")
        tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    else:
        encoder = transformers.UMT5EncoderModel.from_pretrained(folder)
        whole = getattr(transformers, kind)(encoder.config)
        whole.load_state_dict(encoder.state_dict(), strict=False)
        shutil.rmtree(folder)
        whole.bfloat16().save_pretrained(folder, max_shard_size="2KB")
    left = check(release, model, "text", torch.float32 if kind == "tied" else torch.bfloat16)["left_out"]
    assert any(name.startswith("decoder.") for name in left) == (
        kind in ("UMT5Model", "UMT5ForConditionalGeneration")
    )


@pytest.mark.parametrize(
    ("dtype", "more"),
    [(torch.bfloat16, {"max_shard_size": "20KB"}), (torch.float16, {"variant": "fp16"})],
    ids=["shards", "variant"],
)
def test_a_whole_pipeline_that_diffusers_saved_again(
    dtype: torch.dtype, more: dict[str, Any], release: Path, tiny: Callable[[str], Path]
):
    pipeline = DiffusionPipeline.from_pretrained(release).to(dtype)
    pipeline.save_pretrained("resaved", **more)
    for role in ("backbone", "text", "image"):
        lacks = frozenset({"visual_projection.weight"})
        check(Path("resaved"), tiny(I2V), role, dtype, lacks)
