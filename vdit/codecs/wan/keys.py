"""Names of the Wan autoencoders' weights in the official files and in diffusers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vdit.weights.keymap import Form, Key, KeyMap, keys, layer

__all__ = ["LAYOUTS", "wan_keys"]

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """A part of a stage.

    Attributes:
        side: encoder or decoder.
        stage: which stage, from its entry.
        part: which part of the stage, blocks first.
        flat: which part of all stages of the side.
        resample: whether it is the change of size at the end of the stage.
    """

    side: str
    stage: int
    part: int
    flat: int
    resample: bool


@dataclass(frozen=True)
class Words:
    """How one layout calls the parts of the network.

    Attributes:
        residual: norm, convolution, norm, convolution, shortcut of a residual block.
        conv_in: the first convolution of either side.
        middle: the three blocks in the middle.
        head: norm and convolution at the end of either side.
        moments: the convolutions between encoder, latents and decoder.
        place: where a part of a stage is found.
    """

    residual: tuple[str, str, str, str, str]
    conv_in: str
    middle: tuple[str, str, str]
    head: tuple[str, str]
    moments: tuple[str, str]
    place: Callable[[Settings, Place], str]


def _original_place(settings: Settings, at: Place) -> str:
    folder = "downsamples" if at.side == "encoder" else "upsamples"
    inside = f"{at.stage}.{folder}.{at.part}" if settings["shortcuts"] else f"{at.flat}"
    return f"{at.side}.{folder}.{inside}."


def _diffusers_place(settings: Settings, at: Place) -> str:
    if at.side == "encoder":
        if not settings["shortcuts"]:
            return f"encoder.down_blocks.{at.flat}."
        inside = "downsampler" if at.resample else f"resnets.{at.part}"
        return f"encoder.down_blocks.{at.stage}.{inside}."
    upsampler = "upsampler" if settings["shortcuts"] else "upsamplers.0"
    return f"decoder.up_blocks.{at.stage}.{upsampler if at.resample else f'resnets.{at.part}'}."


LAYOUTS: Mapping[str, Words] = {
    "original": Words(
        residual=("residual.0", "residual.2", "residual.3", "residual.6", "shortcut"),
        conv_in="conv1",
        middle=("middle.0.", "middle.1.", "middle.2."),
        head=("head.0", "head.2"),
        moments=("conv1", "conv2"),
        place=_original_place,
    ),
    "diffusers": Words(
        residual=("norm1", "conv1", "norm2", "conv2", "conv_shortcut"),
        conv_in="conv_in",
        middle=("mid_block.resnets.0.", "mid_block.attentions.0.", "mid_block.resnets.1."),
        head=("norm_out", "conv_out"),
        moments=("quant_conv", "post_quant_conv"),
        place=_diffusers_place,
    ),
}


def wan_keys(settings: Settings, layout: str) -> KeyMap:
    """The table of a `WanCodec` of these settings, in one of `LAYOUTS`."""
    words = LAYOUTS[layout]
    table = [*layer(words.moments[0], "to_moments"), *layer(words.moments[1], "from_latent")]
    for side in ("encoder", "decoder"):
        ends = [*layer(words.conv_in, "conv_in.conv")]
        first, attention, second = words.middle
        ends += keys(first, "middle.0.", _residual(words, differ=False))
        ends += keys(attention, "middle.1.", _ATTENTION)
        ends += keys(second, "middle.2.", _residual(words, differ=False))
        norm, conv = words.head
        ends += [
            Key(f"{norm}.gamma", "head.norm.weight", form=Form(behind=3)),
            *layer(conv, "head.conv.conv"),
        ]
        table += keys(f"{side}.", f"{side}.", ends)
        table += _stages(settings, words, side)
    return KeyMap(layout, table)


def _stages(settings: Settings, words: Words, side: str) -> list[Key]:
    up = side == "decoder"
    order = -1 if up else 1
    multipliers, strides = settings["multipliers"][::order], [*settings["strides_t"][::order], None]
    blocks = settings["blocks"] + (1 if up else 0)
    halved = up and not settings["shortcuts"]
    table: list[Key] = []
    before, flat = multipliers[0], 0
    for i, (multiplier, stride) in enumerate(zip(multipliers, strides, strict=True)):
        parts = [_residual(words, differ=j == 0 and multiplier != before) for j in range(blocks)]
        if stride is not None:
            parts.append(_resample(stride, up))
        for j, part in enumerate(parts):
            resample = j == blocks
            ours = f"{side}.stages.{i}." + ("resample." if resample else f"blocks.{j}.")
            table += keys(words.place(settings, Place(side, i, j, flat, resample)), ours, part)
            flat += 1
        before = multiplier / 2 if halved else multiplier
    return table


def _residual(words: Words, differ: bool) -> list[Key]:
    norm1, conv1, norm2, conv2, shortcut = words.residual
    table = [Key(f"{norm1}.gamma", "norm1.weight", form=Form(behind=3)), *layer(conv1, "conv1.conv")]
    table += [Key(f"{norm2}.gamma", "norm2.weight", form=Form(behind=3)), *layer(conv2, "conv2.conv")]
    return [*table, *(layer(shortcut, "shortcut") if differ else [])]


def _resample(stride_t: int, up: bool) -> list[Key]:
    time = layer("time_conv", "time.conv" if up else "time") if stride_t == 2 else []
    return [*layer("resample.1", "space"), *time]


_ATTENTION = [
    Key("norm.gamma", "norm.weight", form=Form(behind=2)),
    Key("to_qkv.weight", "to_qkv.weight", form=Form(behind=2)),
    Key("to_qkv.bias", "to_qkv.bias"),
    Key("proj.weight", "to_out.weight", form=Form(behind=2)),
    Key("proj.bias", "to_out.bias"),
]
