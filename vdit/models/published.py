"""Backbones of published architectures: from their configuration, and their weights in every layout."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from vdit.models.wan import diffusers as wan_diffusers
from vdit.models.wan import original as wan_original
from vdit.models.wan.dit import WanDiT
from vdit.models.wan.keys import wan_keys
from vdit.types import InputError
from vdit.weights.exchange import import_published
from vdit.weights.keymap import LAYOUTS, KeyMap, Shapes
from vdit.weights.source import WeightSource

__all__ = [
    "LAYOUTS",
    "backbone_of_config",
    "import_backbone",
    "keymap_of",
    "settings_of_config",
    "written_config",
]

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """What is known of one published architecture.

    Attributes:
        backbone: its class here.
        keys: the table of names for settings and a layout.
        read_config: settings of a `config.json` and the shapes of the weights beside it.
        write_config: the `config.json` for settings, in each layout.
    """

    backbone: type[WanDiT]
    keys: Callable[[Settings, str], KeyMap]
    read_config: Callable[[Mapping[str, Any], Shapes], dict[str, Any]]
    write_config: Mapping[str, Callable[[Settings], dict[str, Any]]]


_WRITE = {"original": wan_original.write_config, "diffusers": wan_diffusers.write_config}
_WAN = Family(WanDiT, wan_keys, wan_original.read_config, _WRITE)
_WAN_DIFFUSERS = Family(WanDiT, wan_keys, lambda config, _: wan_diffusers.read_config(config), _WRITE)

BY_CLASS_NAME = {
    "WanTransformer3DModel": _WAN_DIFFUSERS,
    "WanVACETransformer3DModel": _WAN_DIFFUSERS,
    "WanModel": _WAN,
    "VaceWanModel": _WAN,
}


def settings_of_config(config: Mapping[str, Any], where: str, shapes: Shapes) -> dict[str, Any]:
    """The arguments of a backbone from the `config.json` of a release and the shapes of its weights.

    Raises:
        InputError: an architecture that is not known here, or a configuration that lacks something.
    """
    name = config.get("_class_name", "WanModel" if "model_type" in config and "ffn_dim" in config else None)
    if name not in BY_CLASS_NAME:
        raise InputError(f"{where} describes a {name}; known are {', '.join(BY_CLASS_NAME)}")
    try:
        return BY_CLASS_NAME[name].read_config(config, shapes)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{where} is no whole configuration of a {name}: {error!r}") from error


def backbone_of_config(config: Mapping[str, Any], where: str, shapes: Shapes | None = None) -> WanDiT:
    """A backbone with random weights from the `config.json` of a release. Raises as `settings_of_config`."""
    return WanDiT(**settings_of_config(config, where, shapes or {}))


def keymap_of(backbone: WanDiT, layout: str) -> KeyMap:
    """The names of a backbone's weights in one of `LAYOUTS`."""
    return _family(backbone).keys(backbone.settings, layout)


def written_config(backbone: WanDiT, layout: str) -> dict[str, Any]:
    """The `config.json` of a backbone in one of `LAYOUTS`. Raises InputError where it has none."""
    return _family(backbone).write_config[layout](backbone.settings)


def import_backbone(backbone: WanDiT, source: WeightSource, layout: str | None = None) -> str:
    """Load published weights into a backbone, all or none of them.

    Args:
        backbone: of the size of the weights.
        source: the weights.
        layout: one of `LAYOUTS`; None takes the one whose names the source has.

    Returns:
        The layout.

    Raises:
        InputError: names or shapes that do not fit, all of them listed.
    """
    return import_published(backbone, source, partial(keymap_of, backbone), layout)


def _family(backbone: WanDiT) -> Family:
    for family in BY_CLASS_NAME.values():
        if type(backbone) is family.backbone:
            return family
    raise InputError(f"a {type(backbone).__name__} has no published layout")
