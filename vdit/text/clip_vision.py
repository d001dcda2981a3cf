"""CLIP's vision tower: tokens of an image, as Wan 2.1 conditions its image-to-video models on."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vdit.text.encoder import ImageEncoder
from vdit.text.quiet import quiet_transformers
from vdit.text.source import ModelSource
from vdit.types import InputError
from vdit.weights.exchange import import_published
from vdit.weights.foreign import with_prefix
from vdit.weights.keymap import Form, Key, KeyMap, layer
from vdit.weights.source import WeightSource

__all__ = ["ClipVision", "as_clip_tower", "clip_keys", "clip_of_config", "import_clip", "penultimate"]

# Of pixels in [0, 1], as CLIP was trained (Radford et al. 2021).
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

_TEXT_SIDE = ("textual.*", "log_scale")
"""What the authors' file holds besides: another encoder, which no video model reads."""

_BESIDE = ("*.position_ids", "text_model.*", "text_projection.weight", "logit_scale")
"""What a file of transformers may hold besides: counted places, and that other encoder."""

_TOP = "vision_model."


class ClipVision(ImageEncoder):
    """Images to tokens: the state before the last block of CLIP's vision tower, class token first.

    Images are brought to the tower's own square, whatever their shape.

    Args:
        folder: of a Hugging Face CLIP vision model with its `config.json`; weights load at the first use.
        device: where it runs. Results are on the CPU always.

    Raises:
        InputError: no such folder.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder, self.device = folder, device
        if not (self.folder / "config.json").is_file():
            raise InputError(f"image encoder {folder}: there is no config.json; give a CLIP vision folder")
        self._model: nn.Module | None = None

    @property
    def fingerprint(self) -> str:
        return ModelSource(str(self.folder), self.folder).identity

    @property
    def size(self) -> tuple[int, int]:
        config = json.loads((self.folder / "config.json").read_text())
        return 1 + (config["image_size"] // config["patch_size"]) ** 2, config["hidden_size"]

    @torch.inference_mode()
    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k d"]:
        if self._model is None:
            self._model = self._load().to(self.device)
        side = int(self._model.config.image_size)  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
        seen = F.interpolate(
            images.float().to(self.device), size=(side, side), mode="bicubic", align_corners=False
        )
        mean, std = (seen.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        return penultimate(self._model, (seen / 2 + 0.5 - mean) / std).cpu()

    def _load(self) -> nn.Module:
        with quiet_transformers():
            from transformers import CLIPVisionModelWithProjection

            try:
                model = CLIPVisionModelWithProjection.from_pretrained(str(self.folder), local_files_only=True)
            except Exception as error:  # a damaged file fails in its format's own way
                raise InputError(f"image encoder {self.folder} cannot be read: {error}") from error
        return model.float().requires_grad_(False).eval()


def penultimate(model: nn.Module, pixels: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b k d"]:
    """The tokens before the last block, without the norm that follows it."""
    return model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]


def clip_of_config(config: Mapping[str, Any], where: str) -> nn.Module:
    """A vision tower with random weights. Raises InputError on a configuration of something else."""
    if config.get("model_type") != "clip_vision_model":
        raise InputError(f"{where} describes a {config.get('model_type')}, not a clip_vision_model")
    with quiet_transformers():
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        return CLIPVisionModelWithProjection(CLIPVisionConfig(**config)).requires_grad_(False).eval()


def as_clip_tower(config: Mapping[str, Any], source: WeightSource) -> tuple[Mapping[str, Any], WeightSource]:
    """A vision tower under one configuration and one set of names, however transformers saved it.

    With the layer that joins it to the text side or without, which the tokens of an image do not pass; alone,
    where transformers 5 leaves out the first part of every name; or in a whole CLIP.
    """
    if config.get("model_type") == "clip":
        config = {**config.get("vision_config", {}), "model_type": "clip_vision_model"}
    shapes = source.shapes()
    if (joined := shapes.get("visual_projection.weight")) is not None:
        config = {**config, "projection_dim": joined[0]}
    bare = "embeddings.class_embedding" in shapes
    return config, with_prefix(source, _TOP) if bare else source


def clip_keys(blocks: int, layout: str) -> KeyMap:
    """The table of a tower of so many blocks, in one of `LAYOUTS`."""
    table = [
        Key("visual.cls_embedding", f"{_TOP}embeddings.class_embedding", Form(before=2)),
        Key("visual.pos_embedding", f"{_TOP}embeddings.position_embedding.weight", Form(before=1)),
        Key("visual.patch_embedding.weight", f"{_TOP}embeddings.patch_embedding.weight"),
        Key("visual.head", "visual_projection.weight", Form(transposed=True)),
        *layer("visual.pre_norm", f"{_TOP}pre_layrnorm"),
        *layer("visual.post_norm", f"{_TOP}post_layernorm"),
    ]
    for i in range(blocks):
        theirs, ours = f"visual.transformer.{i}.", f"{_TOP}encoder.layers.{i}."
        for name in ("weight", "bias"):
            fused = tuple(f"{ours}self_attn.{part}_proj.{name}" for part in "qkv")
            table.append(Key(f"{theirs}attn.to_qkv.{name}", fused))
        table += layer(f"{theirs}attn.proj", f"{ours}self_attn.out_proj")
        for number in (1, 2):
            table += layer(f"{theirs}norm{number}", f"{ours}layer_norm{number}")
        table += [*layer(f"{theirs}mlp.0", f"{ours}mlp.fc1"), *layer(f"{theirs}mlp.2", f"{ours}mlp.fc2")]
    if layout == "original":
        return KeyMap(layout, table, _TEXT_SIDE, optional=("visual.head",))
    same = [Key(name, name) for key in table for name in key.parts]
    return KeyMap(layout, same, _BESIDE, optional=("visual_projection.weight",))


def import_clip(model: nn.Module, source: WeightSource, layout: str | None = None) -> str:
    """Load published weights into a tower, all or none of them; the layout they were in.

    Raises:
        InputError: names or shapes that do not fit, all of them listed.
    """
    blocks = len(list(model.get_submodule("vision_model.encoder.layers").children()))
    return import_published(model, source, partial(clip_keys, blocks), layout)
