"""Configurations of encoders that the authors' files come without, read off the shapes of their weights."""

from typing import Any

from vdit.types import InputError
from vdit.weights.keymap import Shapes

__all__ = ["clip_config", "umt5_config"]

CLIP_HEADS = 16
"""Of ViT-H; the shapes do not show them."""


def umt5_config(shapes: Shapes, where: str) -> dict[str, Any]:
    """The Hugging Face configuration of a UMT5 encoder in the authors' layout.

    Raises:
        InputError: weights of something else.
    """
    try:
        words, width = shapes["token_embedding.weight"]
        buckets, heads = shapes["blocks.0.pos_embedding.embedding.weight"]
        inner, hidden = shapes["blocks.0.attn.q.weight"][0], shapes["blocks.0.ffn.fc1.weight"][0]
    except (KeyError, ValueError) as error:
        raise InputError(f"{where} is no UMT5 encoder of Wan: it has no {error}") from error
    depth = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks."))
    return {
        "model_type": "umt5",
        "architectures": ["UMT5EncoderModel"],
        "vocab_size": words,
        "d_model": width,
        "d_kv": inner // heads,
        "d_ff": hidden,
        "num_layers": depth,
        "num_decoder_layers": depth,
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    }


def clip_config(shapes: Shapes, where: str) -> dict[str, Any]:
    """The Hugging Face configuration of a CLIP vision tower in the authors' layout.

    Raises:
        InputError: weights of something else.
    """
    try:
        width, _, patch, _ = shapes["visual.patch_embedding.weight"]
        tokens = shapes["visual.pos_embedding"][1]
        hidden = shapes["visual.transformer.0.mlp.0.weight"][0]
        projection = shapes.get("visual.head", (width, width))[1]
    except (KeyError, ValueError) as error:
        raise InputError(f"{where} is no CLIP of Wan: it has no {error}") from error
    blocks = (name.split(".")[2] for name in shapes if name.startswith("visual.transformer."))
    return {
        "model_type": "clip_vision_model",
        "architectures": ["CLIPVisionModelWithProjection"],
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": 1 + max(map(int, blocks)),
        "num_attention_heads": CLIP_HEADS,
        "image_size": patch * round((tokens - 1) ** 0.5),
        "patch_size": patch,
        "projection_dim": projection,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }
