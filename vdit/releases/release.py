"""A release, looked through: all its parts recognised and checked, nothing written yet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vdit.codecs.codec import VideoCodec
from vdit.codecs.published import codec_of_config, import_codec
from vdit.models.published import settings_of_config
from vdit.models.wan.dit import WanDiT
from vdit.models.wan.keys import wan_keys
from vdit.releases.found import Found, read_table
from vdit.releases.sizes import clip_config, umt5_config
from vdit.releases.variant import variant_of
from vdit.text.clip_vision import as_clip_tower, clip_keys, clip_of_config
from vdit.text.umt5 import as_umt5_encoder, umt5_keys, umt5_of_config
from vdit.types import InputError
from vdit.weights.foreign import as_published
from vdit.weights.keymap import KeyMap, Shapes
from vdit.weights.source import WeightSource, open_weights

__all__ = ["Part", "Release", "read_release"]


@dataclass(frozen=True)
class Part:
    """Weights that are known to fit a table of names.

    Attributes:
        config: what the part is: settings of a backbone, or a Hugging Face configuration.
        source: the weights.
        table: their names here.
        shapes: the shapes of what is made of them.
    """

    config: Mapping[str, Any]
    source: WeightSource
    table: KeyMap
    shapes: Shapes


@dataclass(frozen=True)
class Release:
    """All of a release, ready to be taken in.

    Attributes:
        found: where it stands.
        variant: which model it is, by `variant_of`.
        backbones: by role.
        codec: with its weights.
        text: the text encoder.
        image: the image encoder, where the model has use for one.
    """

    found: Found
    variant: str
    backbones: Mapping[str, Part]
    codec: VideoCodec
    text: Part
    image: Part | None


def read_release(found: Found, codec_of: Callable[[Shapes], VideoCodec]) -> Release:
    """Look through a release. Of large parts names and shapes are read, not values.

    Args:
        found: its parts.
        codec_of: the codec of these shapes, for the authors' layout, whose codec has no configuration.

    Raises:
        InputError: a part that is damaged, that is of another model, or that does not fit the others.
    """
    backbones = {role: _backbone(file, found.layout) for role, file in found.backbones.items()}
    settings = [part.config for part in backbones.values()]
    if any(other != settings[0] for other in settings):
        apart = sorted(key for key in settings[0] if any(s[key] != settings[0][key] for s in settings))
        raise InputError(
            f"the two experts in {found.folder} are of different models: {', '.join(apart)} differ"
        )
    codec = _codec(found, codec_of)
    text = _encoder(found.text, found.layout, umt5_config, as_umt5_encoder, umt5_of_config, umt5_keys)
    image = None
    if settings[0]["image_width"] is not None:
        if found.image is None:
            raise InputError(
                f"{found.folder} lacks its image encoder (models_clip_*.pth, or image_encoder/): "
                "its transformer reads tokens of images"
            )
        image = _encoder(found.image, found.layout, clip_config, as_clip_tower, clip_of_config, clip_keys)
    variant = variant_of(settings[0], len(backbones) > 1, codec.stride_s > 8)
    release = Release(found, variant, backbones, codec, text, image)
    _check_fit(release)
    return release


def _check_fit(release: Release) -> None:
    settings = next(iter(release.backbones.values())).config
    image = release.image.config["hidden_size"] if release.image else settings["image_width"]
    pairs = {
        "latent channels": (settings["latent_channels"], release.codec.latent_channels, "codec"),
        "channels of a text token": (settings["text_width"], release.text.config["d_model"], "text encoder"),
        "channels of an image token": (settings["image_width"], image, "image encoder"),
    }
    for what, (reads, gives, who) in pairs.items():
        if reads != gives:
            raise InputError(
                f"the parts in {release.found.folder} are of different models: the transformer reads {reads} "
                f"{what}, and the {who} gives {gives}"
            )


def _backbone(file: Path, layout: str) -> Part:
    source = as_published(open_weights(file))
    config = file.parent / "config.json"
    settings = settings_of_config(read_table(config), str(config), source.shapes())
    with torch.device("meta"):
        model = WanDiT(**settings)
    return _fitting(model.settings, source, wan_keys(model.settings, layout), _shapes(model))


def _codec(found: Found, codec_of: Callable[[Shapes], VideoCodec]) -> VideoCodec:
    source = open_weights(found.codec)
    if found.layout == "diffusers":
        config = found.codec / "config.json"
        codec = codec_of_config(read_table(config), str(config))
    else:
        codec = codec_of(source.shapes())
    import_codec(codec, source, found.layout)
    return codec


def _encoder(
    place: Path,
    layout: str,
    config_of: Callable[[Shapes, str], dict[str, Any]],
    as_saved: Callable[[Mapping[str, Any], WeightSource], tuple[Mapping[str, Any], WeightSource]],
    model_of: Callable[[Mapping[str, Any], str], torch.nn.Module],
    keys_of: Callable[[int, str], KeyMap],
) -> Part:
    source = open_weights(place)
    if layout == "diffusers":
        config, source = as_saved(read_table(place / "config.json"), source)
    else:
        config = config_of(source.shapes(), str(place))
    with torch.device("meta"):
        model = model_of(config, str(place))
    blocks = config.get("num_layers") or config["num_hidden_layers"]
    return _fitting(config, source, keys_of(blocks, layout), _shapes(model))


def _fitting(config: Mapping[str, Any], source: WeightSource, table: KeyMap, shapes: Shapes) -> Part:
    table.check(source.shapes(), shapes, str(source.path))
    return Part(config, source, table, shapes)


def _shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}
