"""UMT5's encoder as Wan publishes it: built from its configuration, with the names of its weights."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from vdit.text.quiet import quiet_transformers
from vdit.types import InputError
from vdit.weights.exchange import import_published
from vdit.weights.foreign import renamed
from vdit.weights.keymap import LAYOUTS, Key, KeyMap
from vdit.weights.source import WeightSource

__all__ = ["LAYOUTS", "as_umt5_encoder", "import_umt5", "umt5_keys", "umt5_of_config"]

# Of a block, in the authors' words and in those of transformers.
_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}


_SHARED, _TIED = "shared.weight", "encoder.embed_tokens.weight"


def umt5_of_config(config: Mapping[str, Any], where: str) -> nn.Module:
    """A UMT5 encoder with random weights. Raises InputError on a configuration of something else."""
    if config.get("model_type") != "umt5":
        raise InputError(f"{where} describes a {config.get('model_type')}, not an umt5")
    with quiet_transformers():
        from transformers import UMT5Config, UMT5EncoderModel

        return UMT5EncoderModel(UMT5Config(**config)).requires_grad_(False).eval()


def as_umt5_encoder(
    config: Mapping[str, Any], source: WeightSource
) -> tuple[Mapping[str, Any], WeightSource]:
    """An encoder under one set of names, whichever of its two names a file keeps its tied embedding by."""
    names = source.entries()
    if _TIED in names and _SHARED not in names:
        source = renamed(source, {_TIED: _SHARED})
    return config, source


def umt5_keys(blocks: int, layout: str) -> KeyMap:
    """The table of an encoder of so many blocks, in one of `LAYOUTS`."""
    ours = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}
    for i in range(blocks):
        ours |= {f"blocks.{i}.{theirs}": f"encoder.block.{i}.{name}" for theirs, name in _BLOCK.items()}
    original = layout == "original"
    table = [Key(f"{a if original else b}.weight", f"{b}.weight") for a, b in ours.items()]
    # transformers writes the tied embedding twice or once; a whole model has a decoder besides.
    return KeyMap(layout, table, ignored=(_TIED, "decoder.*", "lm_head.weight"))


def import_umt5(model: nn.Module, source: WeightSource, layout: str | None = None) -> str:
    """Load published weights into an encoder, all or none of them; the layout they were in.

    Raises:
        InputError: names or shapes that do not fit, all of them listed.
    """
    blocks = len(list(model.get_submodule("encoder.block").children()))
    return import_published(model, source, partial(umt5_keys, blocks), layout)
