"""Names of the HunyuanVideo autoencoder's weights; the official files and diffusers use the same."""

from collections.abc import Mapping
from typing import Any

from vdit.weights.keymap import Key, KeyMap, keys, layer

__all__ = ["LAYOUTS", "hunyuan_keys"]

LAYOUTS = ("original", "diffusers")


def hunyuan_keys(settings: Mapping[str, Any], layout: str) -> KeyMap:
    """The table of a `HunyuanCodec` of these settings, in one of `LAYOUTS`."""
    table = [*layer("quant_conv", "to_moments"), *layer("post_quant_conv", "from_latent")]
    for side in ("encoder", "decoder"):
        part = [*layer("conv_in.conv", "conv_in.conv"), *_stages(settings, side)]
        part += keys("mid_block.resnets.0.", "middle.0.", _residual(differ=False))
        part += keys("mid_block.attentions.0.", "middle.1.", _attention())
        part += keys("mid_block.resnets.1.", "middle.2.", _residual(differ=False))
        part += [*layer("conv_norm_out", "head.norm"), *layer("conv_out.conv", "head.conv.conv")]
        table += keys(f"{side}.", f"{side}.", part)
    return KeyMap(layout, table)


def _stages(settings: Mapping[str, Any], side: str) -> list[Key]:
    down = side == "encoder"
    widths = settings["widths"] if down else settings["widths"][::-1]
    blocks = settings["blocks"] + (0 if down else 1)
    folder, resample = ("down_blocks", "downsamplers") if down else ("up_blocks", "upsamplers")
    own = "resample.conv" if down else "resample.conv.conv"
    table: list[Key] = []
    before = widths[0]
    for i, width in enumerate(widths):
        part: list[Key] = []
        for j in range(blocks):
            differ = j == 0 and width != before
            part += keys(f"resnets.{j}.", f"blocks.{j}.", _residual(differ))
        if i < len(widths) - 1:
            part += layer(f"{resample}.0.conv.conv", own)
        table += keys(f"{folder}.{i}.", f"stages.{i}.", part)
        before = width
    return table


def _residual(differ: bool) -> list[Key]:
    layers = ["norm1", "conv1.conv", "norm2", "conv2.conv"]
    table = [key for name in layers for key in layer(name, name)]
    return [*table, *(layer("conv_shortcut.conv", "shortcut.conv") if differ else [])]


def _attention() -> list[Key]:
    table = [*layer("group_norm", "norm"), *layer("to_out.0", "to_out")]
    return [*table, *(key for name in ("to_q", "to_k", "to_v") for key in layer(name, name))]
