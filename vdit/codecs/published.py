"""Autoencoders that others have published: built from their configuration, with their weights, and back."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.folder import DESCRIPTION
from vdit.codecs.hunyuan import diffusers as hunyuan_config
from vdit.codecs.hunyuan.codec import HunyuanCodec
from vdit.codecs.hunyuan.keys import hunyuan_keys
from vdit.codecs.wan import diffusers as wan_config
from vdit.codecs.wan.codec import WanCodec
from vdit.codecs.wan.keys import wan_keys
from vdit.types import InputError
from vdit.weights.exchange import export_weights, import_published
from vdit.weights.keymap import LAYOUTS, KeyMap
from vdit.weights.source import WeightSource

__all__ = [
    "LAYOUTS",
    "codec_of_config",
    "export_codec",
    "import_codec",
    "import_facts",
    "imported_dtype",
    "keymap_of",
]

DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Family:
    """What is known of one published architecture.

    Attributes:
        codec: its class here.
        keys: the table of names for settings and a layout.
        read_config: settings of a `config.json`.
        write_config: the `config.json` for settings, latent mean and latent deviation.
    """

    codec: type[VideoCodec]
    keys: Callable[[Mapping[str, Any], str], KeyMap]
    read_config: Callable[[Mapping[str, Any]], dict[str, Any]]
    write_config: Callable[[Mapping[str, Any], list[float], list[float]], dict[str, Any]]


_WAN = Family(WanCodec, wan_keys, wan_config.read_config, wan_config.write_config)
_HUNYUAN = Family(HunyuanCodec, hunyuan_keys, hunyuan_config.read_config, hunyuan_config.write_config)

BY_CLASS_NAME = {
    "AutoencoderKLWan": _WAN,
    "AutoencoderKLHunyuanVideo": _HUNYUAN,
    "AutoencoderKLCausal3D": _HUNYUAN,  # the name in the authors' own file
}


def codec_of_config(config: Mapping[str, Any], where: str) -> VideoCodec:
    """A codec with random weights from the `config.json` of a release.

    Raises:
        InputError: an architecture that is not known here, or a configuration that lacks something.
    """
    name = config.get("_class_name")
    if name not in BY_CLASS_NAME:
        raise InputError(f"{where} describes a {name}; known are {', '.join(BY_CLASS_NAME)}")
    family = BY_CLASS_NAME[name]
    try:
        return family.codec(**family.read_config(config))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where} is no whole configuration of a {name}: {error!r}") from error


def keymap_of(codec: VideoCodec, layout: str) -> KeyMap:
    """The names of a codec's weights in one of `LAYOUTS`. Raises InputError where it has none."""
    return _family(codec).keys(codec.settings, layout)


def import_codec(codec: VideoCodec, source: WeightSource, layout: str | None = None) -> str:
    """Load published weights into a codec, all or none of them.

    Args:
        codec: of the size of the weights; keeps the latent statistics it was built with.
        source: the weights.
        layout: one of `LAYOUTS`; None takes the one whose names the source has.

    Returns:
        The layout.

    Raises:
        InputError: names or shapes that do not fit, all of them listed.
    """
    return import_published(codec, source, partial(keymap_of, codec), layout)


def import_facts(source: WeightSource, layout: str) -> dict[str, Any]:
    """Where the weights of a codec are from, for `save_codec`."""
    dtypes = {str(entry.dtype).removeprefix("torch.") for entry in source.entries().values()}
    # A codec is in float32 here, which holds what 16 bits held: the file can be written again as it was.
    dtype = dtypes.pop() if dtypes in ({"bfloat16"}, {"float16"}) else "float32"
    return {"imported": {"file": source.path.name, "layout": layout, "dtype": dtype}}


def imported_dtype(folder: Path) -> torch.dtype:
    """The precision that the weights of the codec in a folder came in; float32 where they did not come."""
    facts = json.loads((folder / DESCRIPTION).read_text())
    return getattr(torch, facts.get("imported", {}).get("dtype", "float32"))


def export_codec(codec: VideoCodec, layout: str, out: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write a codec as others read it.

    Args:
        codec: of a published architecture.
        layout: `diffusers` writes a folder with `config.json`; `original` one file, a pickle of tensors as
            the authors publish it, or safetensors where `out` ends so.
        out: the folder or the file.
        dtype: of the weights in the file.

    Returns:
        The file of weights.

    Raises:
        InputError: a codec that has no such layout, or a disk that cannot take it.
    """
    table = keymap_of(codec, layout)
    if layout == "original":
        return export_weights(codec, table, out, dtype)
    mean, std = (
        _statistics(codec.latent_mean, codec, "latent_mean"),
        _statistics(codec.latent_std, codec, "latent_std"),
    )
    config = _family(codec).write_config(codec.settings, mean, std)
    file = export_weights(codec, table, out / DIFFUSERS_WEIGHTS, dtype)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return file


def _statistics(values: Tensor, codec: VideoCodec, setting: str) -> list[float]:
    """Statistics in the decimals that the codec was built with, where they are still the same."""
    given: list[float] | None = codec.settings.get(setting)
    if given is not None and torch.equal(values, values.new_tensor(given)):
        return given
    return values.tolist()


def _family(codec: VideoCodec) -> Family:
    for family in BY_CLASS_NAME.values():
        if type(codec) is family.codec:
            return family
    raise InputError(f"a {type(codec).__name__} has no published layout: only Wan and HunyuanVideo codecs do")
