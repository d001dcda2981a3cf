"""The configuration of a Wan transformer as its authors write it (`WanModel`), VideoX-Fun's cameras included.

It leaves out much of what the weights show: the patch, the widths of text and image, whether there is an
image branch. Those are read off their shapes.
"""

from collections.abc import Mapping
from math import isqrt
from typing import Any

from vdit.models.camera import RAY
from vdit.weights.keymap import Shapes

__all__ = ["read_config", "write_config"]

RAY_CHANNELS = 4 * RAY
"""Of the four frames of a latent frame."""


def read_config(config: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
    """The arguments of `WanDiT` that a `config.json` and the shapes beside it stand for.

    Raises:
        KeyError: one of them lacks something.
    """
    image, places = shapes.get("img_emb.proj.0.weight"), shapes.get("img_emb.emb_pos")
    camera, video = shapes.get("control_adapter.conv.weight"), shapes.get("vace_patch_embedding.weight")
    hinted = config.get("vace_layers") or range(0, config["num_layers"], 2)
    return {
        "latent_channels": config["out_dim"],
        "extra_channels": shapes["patch_embedding.weight"][1] - config["out_dim"],
        "text_width": shapes["text_embedding.0.weight"][1],
        "text_length": config.get("text_len", 512),
        "width": config["dim"],
        "hidden": config["ffn_dim"],
        "heads": config["num_heads"],
        "depth": config["num_layers"],
        "sigma_channels": config["freq_dim"],
        "image_width": None if image is None else image[0],
        "image_places": None if places is None else places[1],
        "camera_stride": None if camera is None else isqrt(camera[1] // RAY_CHANNELS),
        "context_channels": None if video is None else video[1],
        "context_blocks": () if video is None else tuple(hinted),
        "patch": tuple(shapes["patch_embedding.weight"][2:]),
    }


def write_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the authors' `config.json` of a `WanDiT` of these settings."""
    if settings["context_channels"] is not None:
        kind, name = "vace", "VaceWanModel"
    elif settings["latent_channels"] == 48:
        kind, name = "ti2v", "WanModel"
    else:
        given = "flf2v" if settings["image_places"] is not None else "i2v"
        kind, name = given if settings["extra_channels"] else "t2v", "WanModel"
    written = {
        "_class_name": name,
        "model_type": kind,
        "text_len": settings["text_length"],
        "in_dim": settings["latent_channels"] + settings["extra_channels"],
        "dim": settings["width"],
        "ffn_dim": settings["hidden"],
        "freq_dim": settings["sigma_channels"],
        "out_dim": settings["latent_channels"],
        "num_heads": settings["heads"],
        "num_layers": settings["depth"],
        "eps": 1e-6,
    }
    if settings["context_channels"] is not None:
        written |= {"vace_in_dim": settings["context_channels"], "vace_layers": settings["context_blocks"]}
    if settings["camera_stride"] is not None:
        written |= {
            "add_control_adapter": True,
            "in_dim_control_adapter": RAY_CHANNELS,
            "downscale_factor_control_adapter": settings["camera_stride"],
        }
    return written
