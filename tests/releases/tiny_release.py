"""Models of a few thousand random weights in the folders of this project, one for each variant of Wan."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from vdit.codecs.folder import save_codec
from vdit.codecs.wan.codec import WanCodec
from vdit.models.folder import save_backbone
from vdit.models.wan.dit import WanDiT
from vdit.releases.variant import conditions_of

TEXT_WIDTH, IMAGE_WIDTH = 16, 32
WORDS = ["a", "large", "blue", "red", "circle", "star", "moving", "left", "on", "white"]
SMALL: dict[str, Any] = {"text_width": TEXT_WIDTH, "width": 24, "hidden": 32, "heads": 2}
SMALL |= {"depth": 2, "sigma_channels": 16, "latent_channels": 4}
TINY_CODEC: dict[str, Any] = {"latent_channels": 4, "encoder_width": 4, "decoder_width": 4}

VARIANTS: dict[str, dict[str, Any]] = {
    "wan_2_1_t2v": {},
    "wan_2_1_i2v": {"extra_channels": 8, "image_width": IMAGE_WIDTH},
    "wan_2_1_flf2v": {"extra_channels": 8, "image_width": IMAGE_WIDTH, "image_places": 10},
    "wan_2_1_fun_camera": {"extra_channels": 4, "image_width": IMAGE_WIDTH, "camera_stride": 8},
    "wan_2_1_vace": {"context_channels": 72, "context_blocks": [0]},
    "wan_2_2_t2v_a14b": {},
    "wan_2_2_i2v_a14b": {"extra_channels": 8},
    "wan_2_2_fun_camera_a14b": {"extra_channels": 8, "camera_stride": 8},
    "wan_2_2_ti2v_5b": {},
    "wan_2_2_fun_camera_5b": {"extra_channels": 8, "camera_stride": 16},
}
SAMPLING = {
    "frames": 5,
    "height": 32,
    "width": 64,
    "fps": 8.0,
    "steps": 3,
    "guidance": 2.0,
    "shift": 3.0,
    "solver": "unipc",
}
SAMPLING |= {"first": 0.999, "whole_steps": True, "negative": "red"}


def model_of(variant: str, folder: Path) -> Path:
    """A folder as `vdit import` writes it, and beside it `codec.yaml`, which the authors' files lack."""
    torch.manual_seed(len(variant))
    settings = SMALL | VARIANTS[variant]
    roles = ("high", "low") if variant.endswith("a14b") else ("backbone",)
    for role in roles:
        model = WanDiT(**settings)
        for value in model.parameters():
            torch.nn.init.normal_(value, std=0.2)
        save_backbone(WanDiT, model.settings, model.state_dict().items(), folder / role)
    codec = TINY_CODEC | ({"patch": 2, "shortcuts": True} if variant.endswith("5b") else {})
    save_codec(WanCodec(**codec), folder / "codec", {})
    described = {"class_path": "vdit.codecs.wan.codec.WanCodec", "init_args": codec}
    (folder.parent / "codec.yaml").write_text(yaml.safe_dump(described))
    _text(folder / "text")
    if settings.get("image_width"):
        _image(folder / "image")
    read = {"class_path": "vdit.models.folder.read_backbone"}
    parts = {role: read | {"init_args": {"folder": f"./{role}"}} for role in roles}
    experts = "vdit.models.experts.SigmaExperts"
    told = {
        "backbone": parts.get("backbone") or {"class_path": experts, "init_args": {**parts, "boundary": 0.9}},
        "codec": "./codec",
        "text": {"class_path": "vdit.text.t5.T5", "init_args": {"model": "./text", "max_tokens": 512}},
        "conditions": conditions_of(variant, WanDiT(**settings).settings, "./image"),
        "sampling": SAMPLING,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(told))
    return folder


def _text(folder: Path) -> None:
    from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=32, d_model=TEXT_WIDTH, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=2
    )
    UMT5EncoderModel(config).save_pretrained(folder)
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -5.0)]
    T5Tokenizer(vocab=[*special, *((f"▁{word}", -3.0) for word in WORDS)], extra_ids=0).save_pretrained(
        folder
    )


def _image(folder: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=IMAGE_WIDTH,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=16,
        projection_dim=8,
    )
    config.image_size, config.patch_size, config.hidden_act = 32, 16, "gelu"
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    saved = json.loads((folder / "config.json").read_text())
    assert saved["image_size"] == 32
