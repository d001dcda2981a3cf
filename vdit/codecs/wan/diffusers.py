"""The configuration of a Wan autoencoder as diffusers writes it (`AutoencoderKLWan`)."""

from collections.abc import Mapping
from typing import Any

__all__ = ["read_config", "write_config"]


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `WanCodec` that a `config.json` stands for. Raises KeyError where it lacks one."""
    width = config["base_dim"]
    return {
        "latent_channels": config["z_dim"],
        "encoder_width": width,
        "decoder_width": config.get("decoder_base_dim") or width,
        "multipliers": config["dim_mult"],
        "blocks": config["num_res_blocks"],
        "strides_t": [2 if halved else 1 for halved in config["temperal_downsample"]],
        "patch": config.get("patch_size") or 1,
        "shortcuts": config.get("is_residual", False),
        "latent_mean": config["latents_mean"],
        "latent_std": config["latents_std"],
    }


def write_config(settings: Mapping[str, Any], mean: list[float], std: list[float]) -> dict[str, Any]:
    """What stands in the `config.json` of a `WanCodec` of these settings and statistics."""
    config = {
        "_class_name": "AutoencoderKLWan",
        "base_dim": settings["encoder_width"],
        "z_dim": settings["latent_channels"],
        "dim_mult": settings["multipliers"],
        "num_res_blocks": settings["blocks"],
        "attn_scales": [],
        "temperal_downsample": [stride == 2 for stride in settings["strides_t"]],
        "dropout": 0.0,
        "latents_mean": mean,
        "latents_std": std,
        "decoder_base_dim": settings["decoder_width"],
        "is_residual": settings["shortcuts"],
        "in_channels": 3 * settings["patch"] ** 2,
        "out_channels": 3 * settings["patch"] ** 2,
        "scale_factor_temporal": 2 ** sum(stride == 2 for stride in settings["strides_t"]),
        "scale_factor_spatial": settings["patch"] * 2 ** len(settings["strides_t"]),
    }
    return config | ({"patch_size": settings["patch"]} if settings["patch"] > 1 else {})
