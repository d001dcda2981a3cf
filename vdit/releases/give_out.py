"""A model of this project as a release, in the authors' layout or in that of diffusers."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from vdit.codecs.folder import load_codec
from vdit.codecs.published import export_codec, imported_dtype
from vdit.models.experts import ROLES
from vdit.models.published import keymap_of, written_config
from vdit.models.wan.dit import WanDiT
from vdit.releases.clip_file import CLIP_FILE, write_clip
from vdit.releases.found import read_table
from vdit.releases.pipeline import VERSION, Pipeline, Schedule, write_pipeline
from vdit.releases.published import CLIP_TOKENIZER, PUBLISHED, kept_text_side, with_published
from vdit.releases.settings import CONFIGURATION, RECIPE, authors_settings
from vdit.releases.take_in import DESCRIPTION, written_aside
from vdit.releases.variant import variant_of
from vdit.text.clip_vision import clip_keys
from vdit.text.umt5 import umt5_keys
from vdit.types import InputError
from vdit.weights.described import build_described
from vdit.weights.keymap import KeyMap
from vdit.weights.shards import save_shards
from vdit.weights.source import WeightSource, open_weights
from vdit.yaml_file import read_yaml

__all__ = ["give_out"]

WEIGHTS = "diffusion_pytorch_model"
PLACES: Mapping[str, Mapping[str, str]] = {
    "original": {"backbone": ".", "high": "high_noise_model", "low": "low_noise_model"},
    "diffusers": {"backbone": "transformer", "high": "transformer", "low": "transformer_2"},
}
"""Where each transformer stands."""

TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"

_FILLED = (
    "{file} holds zeros in place of {count} tensors that this model came without: CLIP's text side, which "
    "no release in the layout of diffusers has. The code of Wan's authors loads them and computes nothing "
    "with them."
)
_NO_TOKENIZER = (
    "The code of Wan's authors also opens a folder {folder}, which this model came without: copy it here "
    "from any release of Wan 2.1 I2V or FLF2V in their layout."
)

Progress = Callable[[str, int, int], None]


class _Folder:
    """The parts of a model of this project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roles = [role for role in ("backbone", *ROLES) if (folder / role).is_dir()]
        if not self.roles or not (folder / "text").is_dir():
            raise InputError(f"{folder} holds no imported model: it has no backbone/ and text/")
        self.backbones = {role: self._backbone(role) for role in self.roles}
        self.codec = load_codec(folder / "codec")
        settings = next(iter(self.backbones.values())).settings
        self.variant = variant_of(settings, len(self.roles) > 1, self.codec.stride_s > 8)

    def _backbone(self, role: str) -> WanDiT:
        with torch.device("meta"):
            return build_described(self.folder / role / "backbone.json", WanDiT)

    def config(self, role: str, layout: str) -> dict[str, Any]:
        """The `config.json` of a transformer in another layout."""
        config = {"_diffusers_version": VERSION} | written_config(self.backbones[role], layout)
        # By its sizes alone a transformer of 5B is that of a text-to-video model.
        five = layout == "original" and self.variant == "wan_2_2_ti2v_5b"
        config |= {"model_type": "ti2v"} if five else {}
        return with_published(config, self.folder, f"{PLACES[layout][role]}/config.json")

    @property
    def boundary(self) -> float | None:
        """Sigma from which the first of two experts is asked; None where there is one."""
        return read_yaml(self.folder / DESCRIPTION, "the model")["backbone"]["init_args"].get("boundary")

    def pipeline(self, schedule: Schedule) -> Pipeline:
        """What stands in the files of its pipeline."""
        first, image = self.backbones[self.roles[0]], self.folder / "image/config.json"
        return Pipeline(
            transformer=written_config(first, "diffusers")["_class_name"],
            experts="low" in self.roles,
            extra_channels=first.settings["extra_channels"],
            image_side=read_table(image)["image_size"] if image.is_file() else None,
            boundary=self.boundary,
            sigma_by_token=self.variant == "wan_2_2_ti2v_5b",
            schedule=schedule,
        )


def give_out(
    folder: Path,
    out: Path,
    layout: str,
    sampling: Mapping[str, Any],
    progress: Progress,
    trained: Mapping[str, WeightSource] | None = None,
) -> list[str]:
    """Write a model as others read it. The folder is whole or not there.

    Args:
        folder: an imported model.
        out: must not exist, or be empty.
        layout: `original` or `diffusers`.
        sampling: how it is sampled, the arguments of `Sampling`.
        progress: called with (part, tensors done, tensors in all).
        trained: other weights of some of the transformers, by role, under the names of this project.

    Returns:
        What a user should know of the folder, in sentences.

    Raises:
        InputError: the folder holds no model, or one without this layout; the disk is too small.
    """
    model, trained, notes = _Folder(folder), trained or {}, []
    configs = {role: model.config(role, layout) for role in model.roles}
    schedule = Schedule(sampling["solver"], sampling["shift"])
    pipeline = model.pipeline(schedule) if layout == "diffusers" else None
    needed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with written_aside(out, needed) as aside:
        for role, backbone in model.backbones.items():
            place = aside / PLACES[layout][role]
            place.mkdir(parents=True, exist_ok=True)
            source = trained[role] if role in trained else open_weights(folder / role)
            table = keymap_of(backbone, layout)
            save_shards(_theirs(source, table, role, progress), place, WEIGHTS)
            _write(place / "config.json", configs[role])
        name = "vae" if layout == "diffusers" else f"Wan2.{2 if model.codec.stride_s > 8 else 1}_VAE.pth"
        export_codec(model.codec, layout, aside / name, imported_dtype(folder / "codec"))
        _text(folder / "text", aside, layout, progress)
        if (folder / "image").is_dir():
            notes += _image(folder, aside, layout, progress)
        if pipeline is not None:
            config = aside / "vae/config.json"
            _write(config, with_published(read_table(config), folder, "vae/config.json"))
            write_pipeline(pipeline, aside, folder / PUBLISHED)
        else:
            _write(aside / CONFIGURATION, authors_settings(sampling, model.boundary))
        (aside / RECIPE).write_text(
            yaml.safe_dump(dict(sampling), sort_keys=False, allow_unicode=True), "utf-8"
        )
    return notes


def _theirs(
    source: WeightSource, table: KeyMap, name: str, progress: Progress
) -> Iterator[tuple[str, Tensor]]:
    """Tensors under their names in the other layout; several of ours in one of theirs are joined."""
    keys = table.held(source.entries())
    for done, key in enumerate(keys, start=1):
        yield key.theirs, key.to_theirs({part: source.tensor(part) for part in key.parts}).contiguous()
        progress(name, done, len(keys))


def _text(folder: Path, out: Path, layout: str, progress: Progress) -> None:
    config = read_table(folder / "config.json")
    tensors = _theirs(open_weights(folder), umt5_keys(config["num_layers"], layout), "text", progress)
    tokenizer = out / ("tokenizer" if layout == "diffusers" else "google/umt5-xxl")
    tokenizer.mkdir(parents=True)
    for file in folder.iterdir():
        if file.suffix != ".safetensors" and file.name not in ("config.json", "model.safetensors.index.json"):
            shutil.copyfile(file, tokenizer / file.name)
    if layout == "original":
        torch.save(dict(tensors), out / TEXT_FILE)
    else:
        _encoder(folder, tensors, out / "text_encoder")


def _image(model: Path, out: Path, layout: str, progress: Progress) -> list[str]:
    folder = model / "image"
    table = clip_keys(read_table(folder / "config.json")["num_hidden_layers"], layout)
    tensors = _theirs(open_weights(folder), table, "image", progress)
    if layout == "diffusers":
        _encoder(folder, tensors, out / "image_encoder")
        return []
    kept = kept_text_side(model)
    filled = write_clip(tensors, kept.tensors() if kept else (), out / CLIP_FILE)
    notes = [_FILLED.format(file=CLIP_FILE, count=len(filled))] if filled else []
    tokenizer = model / PUBLISHED / CLIP_TOKENIZER
    if tokenizer.is_dir():
        shutil.copytree(tokenizer, out / CLIP_TOKENIZER)
    else:
        notes.append(_NO_TOKENIZER.format(folder=CLIP_TOKENIZER))
    if notes:
        (out / "README.md").write_text("\n\n".join(notes) + "\n")
    return notes


def _write(file: Path, table: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(table, indent=2) + "\n")


def _encoder(folder: Path, tensors: Iterator[tuple[str, Tensor]], out: Path) -> None:
    out.mkdir()
    save_shards(tensors, out, "model")
    shutil.copyfile(folder / "config.json", out / "config.json")
