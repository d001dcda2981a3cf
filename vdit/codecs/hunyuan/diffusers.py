"""The configuration of a HunyuanVideo autoencoder as diffusers and the official release write it."""

from collections.abc import Mapping
from typing import Any

from vdit.types import InputError

__all__ = ["read_config", "write_config"]


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `HunyuanCodec` that a `config.json` stands for. Raises KeyError where it lacks one."""
    widths = config["block_out_channels"]
    if not config.get("mid_block_add_attention", True):
        raise InputError("this HunyuanVideo VAE has no attention in its middle, which is not supported")
    in_time = config.get("temporal_compression_ratio", config.get("time_compression_ratio", 4))
    return {
        "latent_channels": config["latent_channels"],
        "widths": widths,
        "blocks": config["layers_per_block"],
        "groups": config["norm_num_groups"],
        "strides": _strides(len(widths) - 1, config.get("spatial_compression_ratio", 8), in_time),
        "scale": config["scaling_factor"],
    }


def _strides(steps: int, in_space: int, in_time: int) -> list[list[int]]:
    """Space shrinks at the first steps, time at the last."""
    space, time = in_space.bit_length() - 1, in_time.bit_length() - 1
    return [[2 if i >= steps - time else 1, 2 if i < space else 1] for i in range(steps)]


def write_config(settings: Mapping[str, Any], mean: list[float], std: list[float]) -> dict[str, Any]:
    """What stands in the `config.json` of a `HunyuanCodec` of these settings and statistics."""
    if any(mean) or len(set(std)) != 1:
        raise InputError("the HunyuanVideo layout knows one scale for all channels and no mean")
    stages = len(settings["widths"])
    in_time = in_space = 1
    for stride_t, stride_s in settings["strides"]:
        in_time, in_space = in_time * stride_t, in_space * stride_s
    return {
        "_class_name": "AutoencoderKLHunyuanVideo",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": settings["latent_channels"],
        "down_block_types": ["HunyuanVideoDownBlock3D"] * stages,
        "up_block_types": ["HunyuanVideoUpBlock3D"] * stages,
        "block_out_channels": settings["widths"],
        "layers_per_block": settings["blocks"],
        "act_fn": "silu",
        "norm_num_groups": settings["groups"],
        "scaling_factor": settings["scale"],
        "spatial_compression_ratio": in_space,
        "temporal_compression_ratio": in_time,
        "mid_block_add_attention": True,
    }
