"""Backbones of published architectures: from their configuration, and their weights in every layout."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from vdit.models.wan import diffusers as wan_config
from vdit.models.wan.dit import WanDiT
from vdit.models.wan.keys import wan_keys
from vdit.types import InputError
from vdit.weights.exchange import import_published
from vdit.weights.keymap import LAYOUTS, KeyMap
from vdit.weights.source import WeightSource

__all__ = ["LAYOUTS", "backbone_of_config", "import_backbone", "keymap_of"]


@dataclass(frozen=True)
class Family:
    """What is known of one published architecture.

    Attributes:
        backbone: its class here.
        keys: the table of names for settings and a layout.
        read_config: settings of a `config.json`.
        write_config: the `config.json` for settings.
    """

    backbone: type[WanDiT]
    keys: Callable[[Mapping[str, Any], str], KeyMap]
    read_config: Callable[[Mapping[str, Any]], dict[str, Any]]
    write_config: Callable[[Mapping[str, Any]], dict[str, Any]]


BY_CLASS_NAME = {
    "WanTransformer3DModel": Family(WanDiT, wan_keys, wan_config.read_config, wan_config.write_config)
}


def backbone_of_config(config: Mapping[str, Any], where: str) -> WanDiT:
    """A backbone with random weights from the `config.json` of a release.

    Raises:
        InputError: an architecture that is not known here, or a configuration that lacks something.
    """
    name = config.get("_class_name")
    if name not in BY_CLASS_NAME:
        raise InputError(f"{where} describes a {name}; known are {', '.join(BY_CLASS_NAME)}")
    family = BY_CLASS_NAME[name]
    try:
        return family.backbone(**family.read_config(config))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where} is no whole configuration of a {name}: {error!r}") from error


def keymap_of(backbone: WanDiT, layout: str) -> KeyMap:
    """The names of a backbone's weights in one of `LAYOUTS`."""
    for family in BY_CLASS_NAME.values():
        if type(backbone) is family.backbone:
            return family.keys(backbone.settings, layout)
    raise InputError(f"a {type(backbone).__name__} has no published layout")


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
