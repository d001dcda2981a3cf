"""A model of this project as a release, in the authors' layout or in that of diffusers."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vdit.codecs.folder import load_codec
from vdit.codecs.published import export_codec
from vdit.models.published import keymap_of, written_config
from vdit.models.wan.dit import WanDiT
from vdit.releases.found import read_table
from vdit.releases.take_in import written_aside
from vdit.text.clip_vision import clip_keys
from vdit.text.umt5 import umt5_keys
from vdit.types import InputError
from vdit.weights.described import build_described
from vdit.weights.keymap import KeyMap
from vdit.weights.shards import save_shards
from vdit.weights.source import WeightSource, open_weights

__all__ = ["give_out"]

WEIGHTS = "diffusion_pytorch_model"
PLACES: Mapping[str, Mapping[str, str]] = {
    "original": {"backbone": ".", "high": "high_noise_model", "low": "low_noise_model"},
    "diffusers": {"backbone": "transformer", "high": "transformer", "low": "transformer_2"},
}
"""Where each transformer stands."""

Progress = Callable[[str, int, int], None]


class _Folder:
    """The parts of a model of this project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roles = [role for role in ("backbone", "high", "low") if (folder / role).is_dir()]
        if not self.roles or not (folder / "text").is_dir():
            raise InputError(f"{folder} holds no imported model: it has no backbone/ and text/")

    def backbone(self, role: str) -> WanDiT:
        with torch.device("meta"):
            return build_described(self.folder / role / "backbone.json", WanDiT)


def give_out(
    folder: Path,
    out: Path,
    layout: str,
    progress: Progress,
    trained: Mapping[str, WeightSource] | None = None,
) -> None:
    """Write a model as others read it. The folder is whole or not there.

    Args:
        folder: an imported model.
        out: must not exist, or be empty.
        layout: `original` or `diffusers`.
        progress: called with (part, tensors done, tensors in all).
        trained: other weights of some of the transformers, by role, under the names of this project.

    Raises:
        InputError: the folder holds no model, or one without this layout; the disk is too small.
    """
    model, trained = _Folder(folder), trained or {}
    backbones = {role: model.backbone(role) for role in model.roles}
    configs = {role: written_config(backbone, layout) for role, backbone in backbones.items()}
    needed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with written_aside(out, needed) as aside:
        for role, backbone in backbones.items():
            place = aside / PLACES[layout][role]
            place.mkdir(parents=True, exist_ok=True)
            source = trained[role] if role in trained else open_weights(folder / role)
            table = keymap_of(backbone, layout)
            save_shards(_theirs(source, table, role, progress), place, WEIGHTS)
            (place / "config.json").write_text(json.dumps(configs[role], indent=2) + "\n")
        _codec(folder / "codec", aside, layout)
        _text(folder / "text", aside, layout, progress)
        if (folder / "image").is_dir():
            _image(folder / "image", aside, layout, progress)
        if layout == "diffusers":
            (aside / "model_index.json").write_text(json.dumps(_index(folder, model), indent=2) + "\n")


def _theirs(
    source: WeightSource, table: KeyMap, name: str, progress: Progress
) -> Iterator[tuple[str, Tensor]]:
    """Tensors under their names in the other layout; several of ours in one of theirs are joined."""
    for done, key in enumerate(table.table, start=1):
        yield key.theirs, key.to_theirs({part: source.tensor(part) for part in key.parts}).contiguous()
        progress(name, done, len(table.table))


def _codec(folder: Path, out: Path, layout: str) -> None:
    codec = load_codec(folder)
    name = "Wan2.2_VAE.pth" if codec.stride_s > 8 else "Wan2.1_VAE.pth"
    export_codec(codec, layout, out / ("vae" if layout == "diffusers" else name))


def _text(folder: Path, out: Path, layout: str, progress: Progress) -> None:
    config = read_table(folder / "config.json")
    table = umt5_keys(config["num_layers"], layout)
    tokenizer = out / ("tokenizer" if layout == "diffusers" else "google/umt5-xxl")
    tokenizer.mkdir(parents=True)
    for file in folder.iterdir():
        if file.suffix != ".safetensors" and file.name not in ("config.json", "model.safetensors.index.json"):
            shutil.copyfile(file, tokenizer / file.name)
    _encoder(folder, out, layout, table, ("text_encoder", "models_t5_umt5-xxl-enc-bf16.pth"), progress)


def _image(folder: Path, out: Path, layout: str, progress: Progress) -> None:
    config = read_table(folder / "config.json")
    table = clip_keys(config["num_hidden_layers"], layout)
    names = ("image_encoder", "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth")
    _encoder(folder, out, layout, table, names, progress)


def _encoder(
    folder: Path, out: Path, layout: str, table: KeyMap, names: tuple[str, str], progress: Progress
) -> None:
    tensors = _theirs(open_weights(folder), table, names[0], progress)
    if layout == "original":
        torch.save(dict(tensors), out / names[1])
        return
    place = out / names[0]
    place.mkdir()
    save_shards(tensors, place, "model")
    shutil.copyfile(folder / "config.json", place / "config.json")


def _index(folder: Path, model: _Folder) -> dict[str, object]:
    """What diffusers asks of a pipeline's folder."""
    return {
        "_class_name": "WanImageToVideoPipeline" if (folder / "image").is_dir() else "WanPipeline",
        "transformer": ["diffusers", "WanTransformer3DModel"],
        **({"transformer_2": ["diffusers", "WanTransformer3DModel"]} if "low" in model.roles else {}),
        "vae": ["diffusers", "AutoencoderKLWan"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    }
