"""The configuration of a Wan transformer as diffusers writes it (`WanTransformer3DModel`)."""

from collections.abc import Mapping
from typing import Any

from vdit.types import InputError

__all__ = ["read_config", "write_config"]


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `WanDiT` that a `config.json` stands for. Raises KeyError where it lacks one."""
    heads = config["num_attention_heads"]
    return {
        "latent_channels": config["out_channels"],
        "extra_channels": config["in_channels"] - config["out_channels"],
        "text_width": config["text_dim"],
        "width": heads * config["attention_head_dim"],
        "hidden": config["ffn_dim"],
        "heads": heads,
        "depth": config["num_layers"],
        "sigma_channels": config["freq_dim"],
        "image_width": config.get("image_dim"),
        "image_places": config.get("pos_embed_seq_len"),
        "context_channels": config.get("vace_in_channels"),
        "context_blocks": config.get("vace_layers") or (),
        "patch": tuple(config["patch_size"]),
    }


def write_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the `config.json` of a `WanDiT` of these settings.

    Raises:
        InputError: a model with a camera adapter, which diffusers does not know.
    """
    if settings["camera_stride"] is not None:
        raise InputError("a model with a camera adapter has no layout in diffusers: export the original one")
    image = settings["image_width"]
    video = settings["context_channels"] is not None
    second = {"vace_in_channels": settings["context_channels"], "vace_layers": settings["context_blocks"]}
    return {
        "_class_name": "WanVACETransformer3DModel" if video else "WanTransformer3DModel",
        "patch_size": settings["patch"],
        "num_attention_heads": settings["heads"],
        "attention_head_dim": settings["width"] // settings["heads"],
        "in_channels": settings["latent_channels"] + settings["extra_channels"],
        "out_channels": settings["latent_channels"],
        "text_dim": settings["text_width"],
        "freq_dim": settings["sigma_channels"],
        "ffn_dim": settings["hidden"],
        "num_layers": settings["depth"],
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "image_dim": image,
        "added_kv_proj_dim": None if image is None else settings["width"],
        "rope_max_seq_len": 1024,
        "pos_embed_seq_len": settings["image_places"],
        **(second if video else {}),
    }
