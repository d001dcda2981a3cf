"""Names of the Wan transformers' weights in the official files and in diffusers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vdit.weights.keymap import Key, KeyMap, keys, layer

__all__ = ["CAMERA_KEYS", "LAYOUTS", "wan_keys"]


@dataclass(frozen=True)
class Words:
    """How one layout calls the parts of the network.

    Attributes:
        text: the two layers that read the text.
        sigma: the two layers that read sigma, and the one that makes the six rows.
        image: norm, layer, layer, norm that read image tokens, and their positions.
        attention: self- and cross-attention of a block.
        projections: queries, keys, values and result of an attention.
        image_keys: keys, values and their norm for image tokens.
        norm_text: the norm before cross-attention, the only one of a block with weights.
        feed_forward: its two layers.
        block_rows: the modulation of a block.
        meet: the layer by which the second video of VACE meets the first.
        hint: the layer that makes a hint.
        last_rows: the modulation at the end.
        last: the last layer.
    """

    text: tuple[str, str]
    sigma: tuple[str, str, str]
    image: tuple[str, str, str, str, str]
    attention: tuple[str, str]
    projections: tuple[str, str, str, str]
    image_keys: tuple[str, str, str]
    norm_text: str
    feed_forward: tuple[str, str]
    block_rows: str
    meet: str
    hint: str
    last_rows: str
    last: str


LAYOUTS: Mapping[str, Words] = {
    "original": Words(
        text=("text_embedding.0", "text_embedding.2"),
        sigma=("time_embedding.0", "time_embedding.2", "time_projection.1"),
        image=("img_emb.proj.0", "img_emb.proj.1", "img_emb.proj.3", "img_emb.proj.4", "img_emb.emb_pos"),
        attention=("self_attn.", "cross_attn."),
        projections=("q", "k", "v", "o"),
        image_keys=("k_img", "v_img", "norm_k_img"),
        norm_text="norm3",
        feed_forward=("ffn.0", "ffn.2"),
        block_rows="modulation",
        meet="before_proj",
        hint="after_proj",
        last_rows="head.modulation",
        last="head.head",
    ),
    "diffusers": Words(
        text=("condition_embedder.text_embedder.linear_1", "condition_embedder.text_embedder.linear_2"),
        sigma=(
            "condition_embedder.time_embedder.linear_1",
            "condition_embedder.time_embedder.linear_2",
            "condition_embedder.time_proj",
        ),
        image=(
            "condition_embedder.image_embedder.norm1",
            "condition_embedder.image_embedder.ff.net.0.proj",
            "condition_embedder.image_embedder.ff.net.2",
            "condition_embedder.image_embedder.norm2",
            "condition_embedder.image_embedder.pos_embed",
        ),
        attention=("attn1.", "attn2."),
        projections=("to_q", "to_k", "to_v", "to_out.0"),
        image_keys=("add_k_proj", "add_v_proj", "norm_added_k"),
        norm_text="norm2",
        feed_forward=("ffn.net.0.proj", "ffn.net.2"),
        block_rows="scale_shift_table",
        meet="proj_in",
        hint="proj_out",
        last_rows="scale_shift_table",
        last="proj_out",
    ),
}


CAMERA_KEYS = {
    "conv": "camera_in.conv",
    "residual_blocks.0.conv1": "camera_in.up",
    "residual_blocks.0.conv2": "camera_in.down",
}
"""The camera adapter, whose names are the same in every file that has one."""


def wan_keys(settings: Mapping[str, Any], layout: str) -> KeyMap:
    """The table of a `WanDiT` of these settings, in one of `LAYOUTS`."""
    words = LAYOUTS[layout]
    table = [*layer("patch_embedding", "patch_in")]
    table += [*layer(words.text[0], "text_in.up"), *layer(words.text[1], "text_in.down")]
    for theirs, ours in zip(words.sigma, ("sigma_up", "sigma_down", "sigma_rows"), strict=True):
        table += layer(theirs, ours)
    if settings["image_width"] is not None:
        for theirs, ours in zip(words.image[:4], ("norm_in", "up", "down", "norm_out"), strict=True):
            table += layer(theirs, f"image_in.{ours}")
    if settings["image_places"] is not None:
        table.append(Key(words.image[4], "image_in.position"))
    if settings["camera_stride"] is not None:
        table += [
            key for theirs, ours in CAMERA_KEYS.items() for key in layer(f"control_adapter.{theirs}", ours)
        ]
    if settings["context_channels"] is not None:
        table += _context(words, len(settings["context_blocks"]))
    block = _block(words, settings["image_width"] is not None)
    for i in range(settings["depth"]):
        table += keys(f"blocks.{i}.", f"blocks.{i}.", block)
    table.append(Key(words.last_rows, "modulation_out"))
    # Some files of diffusers hold a norm that no model reads.
    return KeyMap(
        layout, [*table, *layer(words.last, "patch_out")], ignored=("blocks.*.attn2.norm_added_q.*",)
    )


def _context(words: Words, blocks: int) -> list[Key]:
    table = layer("vace_patch_embedding", "context.patch_in")
    for i in range(blocks):
        own = [*_block(words, image=False), *layer(words.hint, "hint")]
        if i == 0:
            own += layer(words.meet, "meet")
        table += keys(f"vace_blocks.{i}.", f"context.blocks.{i}.", own)
    return table


def _block(words: Words, image: bool) -> list[Key]:
    table = [Key(words.block_rows, "modulation"), *layer(words.norm_text, "norm_text")]
    for theirs, ours in zip(words.attention, ("self_attention.", "text_attention."), strict=True):
        table += keys(theirs, ours, _attention(words))
    if image:
        k, v, norm = words.image_keys
        given = [*layer(k, "to_k_image"), *layer(v, "to_v_image")]
        given.append(Key(f"{norm}.weight", "norm_k_image.weight"))
        table += keys(words.attention[1], "text_attention.", given)
    up, down = words.feed_forward
    return [*table, *layer(up, "mlp.up"), *layer(down, "mlp.down")]


def _attention(words: Words) -> list[Key]:
    q, k, v, out = words.projections
    table = [*layer(q, "to_q"), *layer(k, "to_k"), *layer(v, "to_v"), *layer(out, "to_out")]
    return [*table, Key("norm_q.weight", "norm_q.weight"), Key("norm_k.weight", "norm_k.weight")]
